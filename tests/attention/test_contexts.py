"""Further contexts: each attended to by itself, mixed by shares, computed again by hand in one layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.attention.contexts import AddedStates, Contexts
from sfumato.attention.maps import MapRecorder
from sfumato.core.attention import AttentionCall, AttentionEdit
from sfumato.core.branch import Branch
from sfumato.core.noise import Noise
from tests.parts import TOKENS, Flatten, HalveValues, Sharpen, branch, scaled_linear, start, tiny_model
from tests.tiny import TEXT_WIDTH

LEVEL = scaled_linear().at(torch.tensor(400.0))
RATIO = torch.tensor(0.7)


def layer_of(model: Any) -> Any:
    """The cross-attention layer in the middle, of 4 x 4 queries."""
    return model.network.unet.mid_block.attentions[0].transformer_blocks[0].attn2


def states(seed: int, *shape: int) -> Tensor:
    return Noise([seed])((1, *shape))[0].double()


def edited(layer: Any, hidden: Tensor, context: Tensor, *edits: AttentionEdit) -> Tensor:
    """What a layer returns, with edits of all its rows."""
    call = AttentionCall(((0, len(hidden), edits),), (4, 4), RATIO)
    return layer(hidden, encoder_hidden_states=context, call=call)


def by_hand(layer: Any, hidden: Tensor, keys: Tensor, values: Tensor, factor: float = 1.0) -> Tensor:
    """softmax(factor Q K^T / sqrt(d)) V and the projection out."""
    q, k, v = (
        each.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        for each in (layer.to_q(hidden), layer.to_k(keys), layer.to_v(values))
    )
    found = (factor * q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
    return layer.to_out[0](found.transpose(1, 2).flatten(2))


def contexts(
    images: int, count: int, length: int, seed: int = 0, size: int = 1, dtype: torch.dtype = torch.float64
) -> Contexts:
    """Random contexts, all valid, with random shares."""
    keys, values = (states(seed + each, images, count, length, TEXT_WIDTH).to(dtype) for each in (1, 2))
    shares = states(seed + 3, images, count + 1, size, size).softmax(1).to(dtype)
    return Contexts(keys, values, torch.ones(images, count, length, dtype=torch.bool), shares)


def test_contexts_are_attended_to_each_by_itself() -> None:
    layer, hidden, own = layer_of(tiny_model()), states(7, 2, 16, 32), states(8, 2, 5, TEXT_WIDTH)
    edit = contexts(2, 3, 4)
    wanted = edit.shares[:, 0] * by_hand(layer, hidden, own, own)
    for each in range(3):
        wanted = wanted + edit.shares[:, each + 1] * by_hand(layer, hidden, edit.keys[:, each], edit.values[:, each])
    torch.testing.assert_close(edited(layer, hidden, own, edit), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("louder", [1.0, 1e3])
def test_scores_of_very_different_size_do_not_starve_a_context(louder: float) -> None:
    """In one softmax without care, exp(-1000) of a quiet context would be 0."""
    layer, hidden, own = layer_of(tiny_model(dtype=torch.float32)), states(7, 2, 16, 32).float(), states(8, 2, 5, 32)
    edit = contexts(2, 1, 4, dtype=torch.float32)
    edit = Contexts(edit.keys * louder, edit.values, edit.valid, edit.shares)
    wanted = edit.shares[:, 0] * by_hand(layer, hidden, own.float(), own.float())
    wanted = wanted + edit.shares[:, 1] * by_hand(layer, hidden, edit.keys[:, 0], edit.values[:, 0])
    torch.testing.assert_close(edited(layer, hidden, own.float(), edit), wanted, rtol=0, atol=1e-5)


def test_shares_by_position_are_averaged_to_the_grid() -> None:
    layer, hidden, own = layer_of(tiny_model()), states(7, 2, 16, 32), states(8, 2, 5, TEXT_WIDTH)
    edit = contexts(2, 1, 4, size=12)
    shares = edit.shares.unflatten(3, (4, 3)).unflatten(2, (4, 3)).mean(dim=(3, 5)).flatten(2)[..., None]
    wanted = shares[:, 0] * by_hand(layer, hidden, own, own)
    wanted = wanted + shares[:, 1] * by_hand(layer, hidden, edit.keys[:, 0], edit.values[:, 0])
    torch.testing.assert_close(edited(layer, hidden, own, edit), wanted, rtol=0, atol=1e-12)


def test_padding_and_absent_contexts_are_not_seen() -> None:
    layer, hidden, own = layer_of(tiny_model()), states(7, 2, 16, 32), states(8, 2, 5, TEXT_WIDTH)
    edit = contexts(2, 2, 4)
    edit.valid[0, 0, 2:] = False
    edit.valid[1, 1] = False
    edit.shares[1, :, 0, 0] = torch.tensor([0.25, 0.75, 0.0])
    found = edited(layer, hidden, own, edit)
    edit.keys[0, 0, 2:], edit.values[0, 0, 2:], edit.keys[1, 1], edit.values[1, 1] = 50.0, -70.0, 90.0, 30.0
    torch.testing.assert_close(edited(layer, hidden, own, edit), found, rtol=0, atol=1e-10)
    row = slice(1, 2)
    wanted = 0.25 * by_hand(layer, hidden[row], own[row], own[row])
    wanted = wanted + 0.75 * by_hand(layer, hidden[row], edit.keys[row, 0], edit.values[row, 0])
    torch.testing.assert_close(found[row], wanted, rtol=0, atol=1e-12)


def test_the_branch_may_be_padded_for_longer_ones() -> None:
    """K > L: the longest text of the pass sets K, and the further contexts come after those columns."""
    model, text, edit = tiny_model(), branch(1, tokens=4), contexts(2, 2, 5)
    long = branch(2, tokens=9)
    one = Branch(text.condition, (edit,))
    (alone,) = model(start(), LEVEL, [one])
    torch.testing.assert_close(model(start(), LEVEL, [one, long])[0], alone, rtol=0, atol=1e-10)
    assert (alone - model(start(), LEVEL, [text])[0]).abs().max() > 1e-4


def test_an_image_has_the_same_in_any_batch() -> None:
    model, condition, edit = tiny_model(), branch(1, 3).condition, contexts(3, 2, 5, size=8)
    edit.valid[2, 1] = False
    edit.shares[2, 0] += edit.shares[2, 2]
    edit.shares[2, 2] = 0
    (three,) = model(start(3), LEVEL, [Branch(condition, (edit,))])
    for index in range(3):
        row = slice(index, index + 1)
        one = Contexts(edit.keys[row], edit.values[row], edit.valid[row], edit.shares[row])
        (alone,) = model(start(3)[row], LEVEL, [Branch(condition.rows(row), (one,))])
        torch.testing.assert_close(three[row], alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("nothing", [contexts(2, 0, 3), AddedStates()], ids=["contexts", "added"])
def test_nothing_is_not_active(nothing: AttentionEdit) -> None:
    model, text, none = tiny_model(), branch(1), branch(0)
    assert not nothing.active(LEVEL)
    for plain, found in zip(
        model(start(), LEVEL, [none, text]),
        model(start(), LEVEL, [none, Branch(text.condition, (nothing,))]),
        strict=True,
    ):
        assert torch.equal(plain, found)


def test_maps_of_the_branch_stay_in_front() -> None:
    model, recorder, edit = tiny_model(), MapRecorder(), contexts(2, 2, 3)
    model(start(), LEVEL, [Branch(branch(1).condition, (edit, recorder))])
    maps = recorder.maps(8, 8)
    assert maps.shape == (2, TOKENS + 2 * 3, 8, 8)
    torch.testing.assert_close(maps.sum(1), torch.ones_like(maps[:, 0]))
    torch.testing.assert_close(maps[:, :TOKENS].sum(1), edit.shares[:, 0].expand(2, 8, 8))


def test_edits_of_scores_reach_every_context_before_or_after() -> None:
    layer, hidden, own = layer_of(tiny_model()), states(7, 2, 16, 32), states(8, 2, 5, TEXT_WIDTH)
    edit, factor = contexts(2, 1, 4), float(3 + torch.log1p(RATIO))
    wanted = edit.shares[:, 0] * by_hand(layer, hidden, own, own, factor)
    wanted = wanted + edit.shares[:, 1] * by_hand(layer, hidden, edit.keys[:, 0], edit.values[:, 0], factor)
    for edits in ((Sharpen(), edit), (edit, Sharpen())):
        torch.testing.assert_close(edited(layer, hidden, own, *edits), wanted, rtol=0, atol=1e-7)


def test_with_other_edits_on_one_branch() -> None:
    model, condition, edit = tiny_model(), branch(1).condition, contexts(2, 2, 5)
    recorder = MapRecorder()
    added = AddedStates(values=states(9, 2, TOKENS, TEXT_WIDTH))
    (found,) = model(start(), LEVEL, [Branch(condition, (edit, added, Sharpen(), Flatten(), HalveValues(), recorder))])
    assert found.isfinite().all()
    torch.testing.assert_close(recorder.maps(8, 8).sum(1), torch.ones(2, 8, 8, dtype=torch.float64))


def test_added_states_are_linear_in_values_and_stay_fused() -> None:
    layer, hidden, own = layer_of(tiny_model()), states(7, 2, 16, 32), states(8, 2, 5, TEXT_WIDTH)
    change = states(9, 2, 3, TEXT_WIDTH)
    longer = torch.nn.functional.pad(change, (0, 0, 0, 2))
    edit = AddedStates(values=change)
    assert edit.fused()
    torch.testing.assert_close(edited(layer, hidden, own, edit), by_hand(layer, hidden, own, own + longer))
    plain = by_hand(layer, hidden, own, own)
    once, twice = (edited(layer, hidden, own, AddedStates(values=times * change)) - plain for times in (1, 2))
    torch.testing.assert_close(twice, 2 * once, rtol=0, atol=1e-12)
    keys = edited(layer, hidden, own, AddedStates(keys=change))
    torch.testing.assert_close(keys, by_hand(layer, hidden, own + longer, own))


def test_a_network_in_half_precision() -> None:
    wide, half = tiny_model(dtype=torch.float32), tiny_model(dtype=torch.bfloat16)
    edit = contexts(2, 2, 5, dtype=torch.float32)
    text, x = Branch(branch(1).condition.to(torch.float32), (edit,)), start().float()
    (found,), (wanted,) = half(x, LEVEL, [text]), wide(x, LEVEL, [text])
    assert found.dtype == torch.float32 and (found - wanted).abs().max() < 0.1


def test_gradients_are_finite_where_a_context_is_absent() -> None:
    layer, own, edit = layer_of(tiny_model()), states(8, 2, 5, TEXT_WIDTH), contexts(2, 1, 4)
    edit.valid[0] = False
    edit.shares[0, :, 0, 0] = torch.tensor([1.0, 0.0])
    hidden = states(7, 2, 16, 32).requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(edited(layer, hidden, own, edit).square().sum(), hidden)
        plain = by_hand(layer, hidden, own, own).square().flatten(1).sum(1)
        (wanted,) = torch.autograd.grad(plain[0], hidden)
    torch.testing.assert_close(found[0], wanted[0])
    assert found.isfinite().all()


def test_mistakes_are_refused() -> None:
    good = contexts(2, 2, 3)
    for wrong in (
        (good.keys, good.values[:1], good.valid, good.shares),
        (good.keys, good.values, good.valid[..., 0], good.shares),
        (good.keys, good.values, good.valid, good.shares[:, 1:]),
        (good.keys, good.values, good.valid, good.shares[..., 0]),
    ):
        with pytest.raises(ValueError, match="needs keys and values"):
            Contexts(*wrong)
    for shares in (good.shares * 1.1, torch.tensor([1.5, -0.5, 0.0])[None, :, None, None].expand(2, 3, 1, 1)):
        with pytest.raises(ValueError, match="sum to 1"):
            Contexts(good.keys, good.values, good.valid, shares)
