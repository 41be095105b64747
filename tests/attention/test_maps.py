import pytest
import torch

from sfumato.attention.maps import MapRecorder
from sfumato.core.branch import Branch, Guided
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.sample import sample
from tests.parts import TOKENS, Flatten, Sharpen, branch, scaled_linear, start, tiny_model

LEVEL = scaled_linear().at(torch.tensor(400.0))


@pytest.fixture(autouse=True)
def _no_grad() -> None:
    with torch.no_grad():
        yield


def test_recording_changes_nothing() -> None:
    model, x, text = tiny_model(), start(), branch(1)
    recorded = Branch(text.condition, (MapRecorder(),))
    torch.testing.assert_close(model(x, LEVEL, [recorded])[0], model(x, LEVEL, [text])[0], rtol=0, atol=1e-12)


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
