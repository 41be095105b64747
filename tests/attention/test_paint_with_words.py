import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sfumato.attention.maps import MapRecorder
from sfumato.attention.paint_with_words import Painted, Painting, PaintWithWords
from sfumato.core.attention import Site
from sfumato.core.branch import Branch
from sfumato.core.level import Level
from sfumato.encoders.text import EncodedText, TextEncoder
from tests.parts import branch, made, scaled_linear, start, tiny_model
from tests.tiny import write_emoji

LEVEL = scaled_linear().at(torch.tensor(600.0))
PROMPTS = ["a red hat on a dog", "the blue hat, and a scarlet car"]
ONE = torch.tensor(math.e - 1)
"""The ratio at which log(1 + ratio) = 1."""


def left(side: int = 16) -> Tensor:
    mask = torch.zeros(1, 1, side, side)
    mask[..., : side // 2] = 1
    return mask


def everywhere() -> Tensor:
    return torch.ones(1, 1, 16, 16)


def site(height: int, width: int, kind: str = "cross") -> Site:
    class Layer:
        name = "mid.attn2"

    return Site(kind, (height, width), slice(None), slice(None), Layer())


def scores(images: int = 2, queries: int = 64, keys: int = 6) -> Tensor:
    return torch.randn(images, 2, queries, keys, generator=torch.Generator().manual_seed(0))


def columns(of: Painting, image: int, phrase: int = 0) -> list[int]:
    return of.weights_of_tokens[image, phrase].nonzero().flatten().tolist()


def painted(text: EncodedText, encoder: TextEncoder, *what: Painted, strength: float = 0.5) -> Branch:
    return Branch(text.condition, (PaintWithWords(what, strength)(encoder, text),))


def test_no_strength_and_no_paint_are_plain_attention(encoder: TextEncoder) -> None:
    model, text = tiny_model(), encoder(PROMPTS)
    (plain,) = model(start(), LEVEL, [Branch(text.condition)])
    for mask, strength, weight in ((left(), 0.0, 1.0), (left(), 0.5, 0.0), (torch.zeros(1, 1, 16, 16), 0.5, 1.0)):
        (found,) = model(start(), LEVEL, [painted(text, encoder, Painted("hat", mask, weight), strength=strength)])
        torch.testing.assert_close(found, plain, rtol=0, atol=1e-10)
    (found,) = model(start(), LEVEL, [painted(text, encoder, Painted("hat", left()))])
    assert (found - plain).abs().max() > 1e-3


def test_it_is_the_formula_of_the_paper() -> None:
    """S + w' log(1 + sigma) max(S) A, with the largest score of each image."""
    plain, masks, weights = scores(), torch.rand(2, 1, 8, 8), torch.zeros(2, 1, 6)
    weights[0, 0, 2], weights[1, 0, 3] = 1.0, 0.7
    found = Painting(masks, weights, strength=0.3).scores(plain, site(8, 8), torch.tensor(5.0))
    for image in range(2):
        area = masks[image, 0].flatten()[:, None] * weights[image, 0]
        wanted = plain[image] + 0.3 * math.log(6.0) * plain[image].max() * area
        torch.testing.assert_close(found[image], wanted)


def test_over_the_batch_it_is_the_formula_of_the_public_port() -> None:
    """That adds 0.1 w log(1 + sigma) max(Q K^T) over the whole tensor, before the division by sqrt(d)."""
    products, masks, weights = 3 * scores(), torch.rand(2, 1, 8, 8), torch.rand(2, 1, 6)
    area = torch.einsum("bpq,bpl->bql", masks.flatten(2), weights)[:, None]
    wanted = (products + 0.1 * area * math.log(8.0) * products.max()) * 16**-0.5
    edit = Painting(masks, weights, strength=0.1, over="batch")
    torch.testing.assert_close(edit.scores(products * 16**-0.5, site(8, 8), torch.tensor(7.0)), wanted)


def test_paint_on_all_tokens_of_a_position_does_nothing() -> None:
    """A constant added to a row of scores is lost in softmax; padding of a longer text in the pass stays masked."""
    model, text = tiny_model(), branch(1)
    edit = Painting(torch.rand(2, 1, 16, 16), torch.ones(2, 1, 6), strength=2.0)
    plain, _ = model(start(), LEVEL, [text, branch(2, tokens=9)])
    found, _ = model(start(), LEVEL, [Branch(text.condition, (edit,)), branch(2, tokens=9)])
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-6)


def test_paint_everywhere_raises_a_token_everywhere_and_more_with_strength() -> None:
    weights = torch.zeros(2, 1, 6)
    weights[..., 4] = 1
    shares = [
        Painting(torch.ones(2, 1, 8, 8), weights, strength=strength)
        .scores(scores(), site(8, 8), torch.tensor(3.0))
        .softmax(-1)[..., 4]
        for strength in (0.0, 0.1, 0.5, 1.0, 2.0)
    ]
    torch.testing.assert_close(shares[0], scores().softmax(-1)[..., 4])
    assert all(bool((more > less).all()) for less, more in zip(shares, shares[1:], strict=False))


def test_paint_repels_where_all_scores_are_negative() -> None:
    """As the formula has it; trained layers have positive largest scores."""
    low, weights = scores() - 10, torch.zeros(2, 1, 6)
    weights[..., 4] = 1
    found = Painting(torch.ones(2, 1, 8, 8), weights, strength=1.0).scores(low, site(8, 8), ONE)
    assert (found.softmax(-1)[..., 4] < low.softmax(-1)[..., 4]).all()


def test_in_a_network_the_painted_half_attends_more(encoder: TextEncoder) -> None:
    text = encoder(PROMPTS)
    shares = []
    for strength in (0.0, 1.0):
        recorder = MapRecorder()
        edit = PaintWithWords((Painted("hat", left()),), strength)(encoder, text)
        tiny_model()(start(), LEVEL, [Branch(text.condition, (edit, recorder))])
        maps = recorder.maps(16, 16)
        shares.append(torch.stack([maps[image, columns(edit, image)].sum(0) for image in range(2)]))
    plain, raised = shares
    assert (raised[..., :7] > plain[..., :7]).all()
    assert (raised - plain)[..., :7].mean() > 5 * (raised - plain)[..., 9:].mean().abs()


def test_the_effect_vanishes_with_the_noise() -> None:
    edit = Painting(left().expand(2, -1, -1, -1), torch.ones(2, 1, 6).tril(), strength=1.0)
    changes = [
        (edit.scores(scores(), site(8, 8), torch.tensor(ratio)) - scores()).abs().max().item()
        for ratio in (14.6, 1.0, 0.1, 0.01, 0.0)
    ]
    assert changes == sorted(changes, reverse=True) and changes[-1] == 0
    assert changes[-2] < 0.05


def test_at_pure_noise_it_is_finite_and_as_at_the_largest_sigma() -> None:
    edit = Painting(torch.rand(2, 1, 16, 16), torch.rand(2, 1, 6), strength=0.5)
    pure, large = (edit.scores(scores(), site(8, 8), torch.tensor(ratio)) for ratio in (math.inf, 80.0))
    assert torch.equal(pure, large) and bool(pure.isfinite().all())
    noise = Level(torch.tensor(999.0), torch.tensor(0.0, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64))
    (x0,) = tiny_model("v")(start(), noise, [Branch(branch(1).condition, (edit,))])
    assert x0.isfinite().all()


def test_other_branches_are_not_painted(encoder: TextEncoder) -> None:
    model, text, none = tiny_model(), encoder(PROMPTS), Branch(encoder.null(2))
    (before,) = model(start(), LEVEL, [none])
    edited = painted(text, encoder, Painted("hat", left()), strength=2.0)
    after = dict(zip([none, edited], model(start(), LEVEL, [none, edited]), strict=True))
    torch.testing.assert_close(after[none], before, rtol=0, atol=1e-10)
    torch.testing.assert_close(after[edited], model(start(), LEVEL, [edited])[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 4), (12, 9), (96, 80)])
def test_the_painted_area_is_kept_on_every_grid(height: int, width: int) -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 5:40, 11:33] = 1
    plain = torch.zeros(1, 1, height * width, 2)
    plain[..., 0, 0] = 1  # the largest score
    weights = torch.tensor([[[0.0, 1.0]]])
    area = Painting(mask, weights, strength=1.0).scores(plain, site(height, width), ONE)[..., 1]
    torch.testing.assert_close(area.mean(), mask.mean())
    assert area.min() >= 0 and area.max() <= 1 + 1e-5


def test_all_tokens_of_a_phrase_at_all_its_places_are_painted(encoder: TextEncoder) -> None:
    text = encoder(["a scarlet hat and a red hat", "the hat on a scarlet hat"])
    edit = PaintWithWords((Painted("hat", left()), Painted("scarlet", left(), 2.0)), 1.0)(encoder, text)
    for image in range(2):
        assert columns(edit, image) == text.find("hat", image) + text.find("hat", image, 1)
        assert columns(edit, image, 1) == text.find("scarlet", image) and len(columns(edit, image, 1)) > 1
        assert edit.weights_of_tokens[image, 1].max() == 2


def test_several_phrases_add_up_where_they_overlap() -> None:
    masks, weights = torch.rand(1, 2, 8, 8), torch.zeros(1, 2, 6)
    weights[0, 0, 1:3], weights[0, 1, 2:4] = 1.0, 0.5
    plain = scores(1)
    both = Painting(masks, weights, strength=0.4).scores(plain, site(8, 8), ONE) - plain
    parts = [
        Painting(masks[:, one : one + 1], weights[:, one : one + 1], strength=0.4).scores(plain, site(8, 8), ONE)
        for one in range(2)
    ]
    torch.testing.assert_close(both, sum(part - plain for part in parts))


def test_an_image_is_painted_the_same_in_any_batch(encoder: TextEncoder) -> None:
    prompts = ["a red hat", *PROMPTS]
    masks = torch.rand(3, 1, 16, 16)
    together = encoder(prompts)
    (three,) = tiny_model()(start(3), LEVEL, [painted(together, encoder, Painted("hat", masks))])
    for index, prompt in enumerate(prompts):
        row, alone = slice(index, index + 1), encoder([prompt])
        mine = painted(alone, encoder, Painted("hat", masks[row]))
        (one,) = tiny_model()(start(1, index), LEVEL, [mine])
        torch.testing.assert_close(three[row], one, rtol=0, atol=1e-5)


def test_padding_and_further_keys_have_no_part_in_the_largest_score() -> None:
    plain, weights = scores(1), torch.zeros(1, 1, 6)
    weights[..., 1] = 1
    masks, valid = torch.ones(1, 1, 8, 8), torch.tensor([[True] * 5 + [False]])
    wanted = Painting(masks, weights[..., :5], strength=1.0).scores(plain[..., :5], site(8, 8), ONE)
    loud = torch.cat([plain[..., :5], plain.new_full((1, 2, 64, 3), 99.0)], dim=-1)
    found = Painting(masks, weights, valid, strength=1.0).scores(loud, site(8, 8), ONE)
    assert torch.equal(found[..., :5], wanted) and torch.equal(found[..., 5:], loud[..., 5:])


def test_it_concerns_cross_attention_alone() -> None:
    edit = Painting(left(), torch.ones(1, 1, 6))
    assert edit.applies(site(8, 8)) and not edit.applies(site(8, 8, "self")) and not edit.fused()


def test_pictures_on_a_half_precision_network(encoder: TextEncoder) -> None:
    text = encoder(PROMPTS)
    model = tiny_model(dtype=torch.bfloat16)
    (x0,) = model(start().float(), LEVEL, [painted(text, encoder, Painted("hat", left()))])
    assert x0.dtype == torch.float32 and x0.isfinite().all()


def test_a_flow_paints(tmp_path: Path) -> None:
    from sfumato.checkpoints.load import load

    parts = load(write_emoji(tmp_path))
    settings = {"prompts": PROMPTS, "seeds": [1, 2], "steps": 2}
    paint = PaintWithWords((Painted("hat", left(32)),), 2.0)
    plain, found = made(parts, **settings), made(parts, **settings, edits=(paint,))
    assert found.shape == plain.shape and found.isfinite().all()
    assert ((found - plain).abs().amax((1, 2, 3)) > 1e-3).all()
    (alone,) = made(parts, PROMPTS[1:], [2], steps=2, edits=(paint,))
    torch.testing.assert_close(found[1], alone, rtol=0, atol=1e-4)


def test_wrong_paint_is_refused(encoder: TextEncoder) -> None:
    text = encoder(PROMPTS)
    with pytest.raises(ValueError, match="'dog' is not in the text 'the blue hat, and a scarlet car'"):
        PaintWithWords((Painted("dog", left()),))(encoder, text)
    with pytest.raises(ValueError, match="'hat' has 3 masks for 2 prompts"):
        PaintWithWords((Painted("hat", left().expand(3, -1, -1, -1)),))(encoder, text)
    with pytest.raises(ValueError, match="masks of one size"):
        PaintWithWords((Painted("hat", left()), Painted("red", left(8))))
    with pytest.raises(ValueError, match="one or more"):
        PaintWithWords(())
    with pytest.raises(ValueError, match="strength"):
        PaintWithWords((Painted("hat", left()),), -1.0)
    with pytest.raises(ValueError, match=r"'hat' must be floating numbers \(1 or B, 1, H, W\)"):
        Painted("hat", torch.zeros(8, 8))
    with pytest.raises(ValueError, match=r"'hat' must lie in \[0, 1\]"):
        Painted("hat", 2 * left())
    with pytest.raises(ValueError, match="weight of 'hat'"):
        Painted("hat", left(), math.inf)
