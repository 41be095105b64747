import pytest
import torch
from torch import Tensor

from sfumato.attention.maps import MapRecorder, attention_to, coarse_side, maps_of_words
from sfumato.core.attention import AttentionEdit, Site
from sfumato.core.branch import Branch, Guided
from sfumato.core.level import Level
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.sample import sample
from sfumato.encoders.text import EncodedText, TextEncoder
from sfumato.networks.unet import UNetNetwork
from tests.parts import TOKENS, Flatten, Sharpen, branch, counted, scaled_linear, start, tiny_model
from tests.tiny import tiny_unet

LEVEL = scaled_linear().at(torch.tensor(400.0))
PROMPTS = ["a red hat, and a cat", "the cat on a scarlet hat: a hat!"]


class Append(AttentionEdit):
    """Puts two more keys after those of the text, early on the path."""

    def active(self, level: Level) -> bool:
        return level.progress is None or level.progress < 0.5

    def applies(self, site: Site) -> bool:
        return site.kind == "cross"

    def context(self, keys: Tensor, values: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        return torch.cat([keys, keys[:, :2]], 1), torch.cat([values, values[:, :2]], 1)


def test_recording_changes_nothing() -> None:
    model, x, text = tiny_model(), start(), branch(1)
    recorded = Branch(text.condition, (MapRecorder(),))
    assert torch.equal(model(x, LEVEL, [recorded])[0], model(x, LEVEL, [text])[0])


def test_maps_are_a_distribution_over_tokens_at_each_pixel() -> None:
    recorder, model = MapRecorder(), tiny_model()
    text, none = branch(1, edits=(recorder,)), branch(0)
    path = trailing(scaled_linear(), 3)
    sample(Guided(model, none + 3.0 * (text - none)), start(), path, noise=Noise([0, 1]))
    maps = recorder.maps(16, 16)
    assert maps.shape == (2, TOKENS, 16, 16)
    assert maps.min() >= 0
    torch.testing.assert_close(maps.sum(dim=1), torch.ones(2, 16, 16, dtype=maps.dtype))
    assert maps.std() > 1e-4


def test_maps_equal_attention_computed_by_hand() -> None:
    """One layer, one pass: softmax(q k / sqrt(d)), with q taken from the layer's own input."""
    recorder, model = MapRecorder(largest=4), tiny_model()
    layer = model.network.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    text = branch(1, edits=(recorder,))
    model(start(), LEVEL, [text])
    handle.remove()
    q = layer.to_q(seen[-1]).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
    k = layer.to_k(text.condition.tokens).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).mean(dim=1)
    wanted = weights.transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(recorder.maps(4, 4), wanted, rtol=0, atol=1e-10)


def test_an_image_has_the_same_maps_in_any_batch() -> None:
    condition = branch(1, 3).condition
    batch, alone = MapRecorder(), MapRecorder()
    tiny_model()(start(3), LEVEL, [Branch(condition, (batch,))])
    tiny_model()(start(1, first_seed=1), LEVEL, [Branch(condition.rows([1]), (alone,))])
    torch.testing.assert_close(batch.maps(8, 8)[1:2], alone.maps(8, 8), rtol=0, atol=1e-10)


def test_it_sees_what_the_edits_before_it_have_made() -> None:
    spread = []
    for edits in ((), (Sharpen(),), (Flatten(),)):
        recorder = MapRecorder()
        tiny_model()(start(), LEVEL, [Branch(branch(1).condition, (*edits, recorder))])
        spread.append(recorder.maps(8, 8).std(dim=1).mean())
    plain, sharp, flat = spread
    assert flat < plain < sharp


def test_clear_forgets() -> None:
    recorder = MapRecorder()
    tiny_model()(start(), LEVEL, [branch(1, edits=(recorder,))])
    recorder.clear()
    with pytest.raises(ValueError, match="no attention map"):
        recorder.maps(8, 8)
    with pytest.raises(ValueError, match="largest"):
        MapRecorder(largest=0)


def test_the_finest_grid_is_that_of_the_largest_layers_alone() -> None:
    every, small, large = MapRecorder(), MapRecorder(largest=4), MapRecorder()
    tiny_model()(start(), LEVEL, [branch(1, edits=(every, small))])
    tiny_model()(start(), LEVEL, [branch(1, edits=(large,))])
    assert every.finest().shape == (2, TOKENS, 8, 8) and small.finest().shape == (2, TOKENS, 4, 4)
    torch.testing.assert_close(small.finest(), small.maps(4, 4))
    wide = torch.nn.functional.interpolate(small.finest(), (8, 8), mode="bilinear")
    torch.testing.assert_close(every.maps(8, 8), (3 * every.finest() + wide) / 4)
    assert torch.equal(every.finest(), large.finest())
    with pytest.raises(ValueError, match="no attention map"):
        MapRecorder().finest()


def test_maps_that_keep_their_graph_can_be_differentiated() -> None:
    x = start().requires_grad_()
    for keep in (True, False):
        recorder = MapRecorder(keep_graph=keep)
        with torch.enable_grad():
            tiny_model()(x, LEVEL, [branch(1, edits=(recorder,))])
            total = recorder.maps(8, 8)[:, 2].square().sum()
        assert total.requires_grad == keep
        if keep:
            (found,) = torch.autograd.grad(total, x)
            assert (found.flatten(1).norm(dim=1) > 0).all()


def test_passes_with_different_numbers_of_keys_are_averaged() -> None:
    """A longer negative prompt in some passes, or keys that an edit puts after the text's in some."""
    recorder, model, path = MapRecorder(), tiny_model(), trailing(scaled_linear(), 4)
    text = branch(1, edits=(Append(), recorder))
    for level in (path[0], path[3]):
        model(start(), level, [text, branch(2, tokens=7)] if level is path[0] else [text])
    maps = recorder.maps(8, 8)
    assert maps.shape == (2, 9, 8, 8)
    torch.testing.assert_close(maps.sum(1), torch.ones(2, 8, 8, dtype=maps.dtype))
    alone = MapRecorder()
    model(start(), path[3], [branch(1, edits=(alone,))])
    assert (maps[:, :TOKENS] > alone.maps(8, 8) / 2 - 1e-12).all()


def test_all_places_of_a_phrase(encoder: TextEncoder) -> None:
    text = encoder(PROMPTS)
    assert text.find_all("hat") == text.find("hat")
    assert text.find_all("hat", 1) == text.find("hat", 1) + text.find("hat", 1, 1)
    with pytest.raises(ValueError, match="'dog' is not in the text 'a red hat, and a cat'"):
        text.find_all("dog")


def test_words_have_the_sum_of_their_tokens(encoder: TextEncoder) -> None:
    text, recorder = encoder(PROMPTS), MapRecorder()
    tiny_model()(start(), LEVEL, [Branch(text.condition, (recorder,))])
    maps = recorder.maps(16, 16)
    for image, prompt in enumerate(PROMPTS):
        words = maps_of_words(maps, text, image)
        assert [word for word, _ in words] == prompt.replace(",", "").replace(":", "").replace("!", "").split()
        found = dict(reversed(words))
        assert found["cat"].shape == (16, 16)
        torch.testing.assert_close(found["cat"], maps[image, text.find("cat", image)].sum(0))
    assert len(text.find("scarlet", 1)) > 1
    torch.testing.assert_close(found["scarlet"], maps[1, text.find("scarlet", 1)].sum(0))
    rest = [index for index, span in enumerate(text.spans[1]) if PROMPTS[1][slice(*span)] in ("", ":", "!")]
    every = sum(found for _, found in words) + maps[1, rest].sum(0)
    torch.testing.assert_close(every, torch.ones(16, 16, dtype=maps.dtype))


def test_words_that_were_cut_have_no_map(bert: TextEncoder) -> None:
    with pytest.warns(UserWarning, match="cut"):
        text = bert(["a cat " * 15])
    words = maps_of_words(torch.rand(1, len(text.spans[0]), 4, 4), text)
    assert [word for word, _ in words] == ["a", "cat"] * 11


def own(text: EncodedText, image: int) -> list[int]:
    return [index for index, span in enumerate(text.spans[image]) if span != (0, 0)]


def test_attention_to_phrases_is_that_of_the_recorded_maps(encoder: TextEncoder) -> None:
    """A sharpened softmax over the text's own tokens, and the sum over a phrase's."""
    text, recorder, model = encoder(PROMPTS), MapRecorder(), tiny_model()
    found = attention_to(model, Branch(text.condition), text, ("cat", "hat"))(start(), LEVEL)
    model(start(), LEVEL, [Branch(text.condition, (recorder,))])
    assert found.shape == (2, 2, 8, 8)
    for image in range(2):
        among = own(text, image)
        shares = (100 * recorder.finest()[image, among]).softmax(0)
        for subject, phrase in enumerate(("cat", "hat")):
            chosen = [among.index(token) for token in text.find_all(phrase, image)]
            torch.testing.assert_close(found[image, subject], shares[chosen].sum(0))


def test_attention_to_phrases_is_differentiable_where_gradients_are_off(encoder: TextEncoder) -> None:
    text, model = encoder(PROMPTS), tiny_model()
    attend = attention_to(model, Branch(text.condition), text, ("cat", "hat"))
    x = start().requires_grad_()
    attend(x, LEVEL)
    with counted(model) as rows:
        found = attend(x, LEVEL)
    with torch.enable_grad():
        (towards,) = torch.autograd.grad(found.square().sum(), x)
    assert rows == [2] and (towards.flatten(1).norm(dim=1) > 0).all()
    assert all(weight.grad is None for weight in model.network.unet.parameters())


def test_attention_to_phrases_in_any_batch_and_through_edits(encoder: TextEncoder) -> None:
    text, model = encoder(PROMPTS), tiny_model()
    for edits in ((), (Sharpen(),), (Append(),)):
        together = attention_to(model, Branch(text.condition, edits), text, ("cat",))(start(), LEVEL)
        for image, prompt in enumerate(PROMPTS):
            alone = encoder([prompt])
            one = attention_to(model, Branch(alone.condition, edits), alone, ("cat",))(start(1, image), LEVEL)
            torch.testing.assert_close(together[image : image + 1], one, rtol=0, atol=1e-5)
    plain = attention_to(model, Branch(text.condition), text, ("cat",))(start(), LEVEL)
    sharp = attention_to(model, Branch(text.condition, (Sharpen(),)), text, ("cat",))(start(), LEVEL)
    assert (plain - sharp).abs().max() > 1e-3


def test_those_that_only_look_do_not_see_the_passes_of_attention_to_phrases(encoder: TextEncoder) -> None:
    text, model, recorder = encoder(PROMPTS), tiny_model(), MapRecorder()
    watched = attention_to(model, Branch(text.condition, (Sharpen(), recorder)), text, ("cat",))(start(), LEVEL)
    torch.testing.assert_close(
        watched, attention_to(model, Branch(text.condition, (Sharpen(),)), text, ("cat",))(start(), LEVEL)
    )
    with pytest.raises(ValueError, match="no attention map has been recorded"):
        recorder.finest()


def test_attention_to_nothing_is_refused(encoder: TextEncoder) -> None:
    text, model = encoder(PROMPTS), tiny_model()
    with pytest.raises(ValueError, match="at least one phrase"):
        attention_to(model, Branch(text.condition), text, ())
    with pytest.raises(ValueError, match="'red hat' is not in the text 'the cat"):
        attention_to(model, Branch(text.condition), text, ("cat", "red hat"))
    with pytest.raises(ValueError, match="MapRecorder matches no layer"):
        attention_to(model, Branch(text.condition), text, ("cat",), largest=2)(start(), LEVEL)
    with pytest.raises(ValueError, match="largest must be at least 1, got 0"):
        attention_to(model, Branch(text.condition), text, ("cat",), largest=0)


@pytest.mark.parametrize(
    ("size", "side"), [((16, 16), 16), ((64, 64), 16), ((64, 96), 24), ((65, 64), 17), ((128, 128), 32), ((8, 4), 16)]
)
def test_the_coarse_side_is_a_quarter_and_at_least_16(size: tuple[int, int], side: int) -> None:
    assert coarse_side(*size) == side


def test_attention_to_phrases_takes_the_coarse_grid_of_a_large_x(clip: TextEncoder) -> None:
    """Attention at a half and a quarter of 104 x 104 alone: 26 x 26 is looked at, and 52 x 52 is not."""
    unet = tiny_unet(
        block_out_channels=(8, 8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )
    text, model = clip(PROMPTS[:1]), DenoisingModel(UNetNetwork(unet), scaled_linear())
    found = attention_to(model, Branch(text.condition), text, ("cat",))(Noise([0])((1, 4, 104, 104)), LEVEL)
    assert found.shape == (1, 1, 26, 26)
