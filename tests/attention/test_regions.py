"""Regions: positions see their own prompts, in one layer by hand and in whole pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.attention.maps import MapRecorder
from sfumato.attention.regions import Region, Regions
from sfumato.attention.structure import Structure
from sfumato.checkpoints.load import Parts
from sfumato.core.attention import AttentionCall
from sfumato.core.branch import Branch
from sfumato.core.condition import Condition
from sfumato.core.noise import Noise
from sfumato.encoders.text import EncodedText, TextEncoder
from tests.parts import Flatten, Sharpen, branch, made, scaled_linear, start, tiny_model

LEVEL = scaled_linear().at(torch.tensor(400.0))
PROMPTS = ["a red hat and a blue cat", "two dogs on a scarlet burgundy car", "apple"]
LEFT = (torch.arange(32) < 16).float().expand(1, 1, 32, 32)
ALL = torch.ones(1, 1, 32, 32)
HALVES = (Region("a red hat", LEFT), Region("the two scarlet burgundy birds", 1 - LEFT))


def estimate(text: EncodedText, *edits: Any, seed: int = 0) -> Tensor:
    """x0 of a random network, beside a longer branch that nothing is done to."""
    count = len(text.texts)
    words = Branch(text.condition.to(torch.float64), edits)
    return tiny_model()(start(count, seed), LEVEL, [words, branch(5, count, tokens=30)])[0]


def by_hand(layer: Any, hidden: Tensor, context: Condition, image: int = 0) -> Tensor:
    """Attention from each position to the valid tokens of one text, (Q, D)."""
    assert context.tokens is not None
    tokens = context.tokens[image].double()
    tokens = tokens if context.token_mask is None else tokens[context.token_mask[image]]
    q, k, v = (
        each.unflatten(-1, (layer.heads, -1)).transpose(0, 1)
        for each in (layer.to_q(hidden), layer.to_k(tokens), layer.to_v(tokens))
    )
    found = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
    return layer.to_out[0](found.transpose(0, 1).flatten(1))


def in_one_layer(encoder: TextEncoder, regions: Regions) -> tuple[Tensor, list[Tensor]]:
    """What a layer of 4 x 4 queries returns (16, D), and what it would for the prompt and each region alone."""
    layer = tiny_model().network.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    hidden, text = Noise([50])((1, 16, 32)).double(), encoder(PROMPTS[:1])
    call = AttentionCall(((0, 1, (regions(encoder, text),)),), (4, 4), torch.tensor(0.7))
    context = text.condition.to(torch.float64).tokens
    (found,) = layer(hidden, encoder_hidden_states=context, call=call)
    prompts = [PROMPTS[0], *(str(region.prompt) for region in regions.regions)]
    return found, [by_hand(layer, hidden[0], encoder([prompt]).condition) for prompt in prompts]


def test_one_region_everywhere_is_a_branch_with_its_prompt(encoder: TextEncoder) -> None:
    text, other = encoder(PROMPTS[:2]), encoder(["a scarlet bird", "a scarlet bird"])
    found = estimate(text, Regions((Region("a scarlet bird", ALL),), share=1.0)(encoder, text))
    torch.testing.assert_close(found, estimate(other), rtol=0, atol=1e-6)
    assert (found - estimate(text)).abs().max() > 1e-3


def test_no_share_is_plain_bit_for_bit_and_no_mask_to_rounding(encoder: TextEncoder) -> None:
    text = encoder(PROMPTS[:2])
    off = Regions(HALVES, share=0.0)(encoder, text)
    assert not off.active(LEVEL)
    assert torch.equal(estimate(text, off), estimate(text))
    empty = Regions((Region("a scarlet bird", 0 * ALL),), share=1.0)(encoder, text)
    torch.testing.assert_close(estimate(text, empty), estimate(text), rtol=0, atol=1e-6)


def test_positions_see_their_own_prompt_only(encoder: TextEncoder) -> None:
    found, (_, left, right) = in_one_layer(encoder, Regions(HALVES, share=1.0))
    on_left = torch.arange(16) % 4 < 2
    torch.testing.assert_close(found, torch.where(on_left[:, None], left, right), rtol=0, atol=1e-6)
    assert (left - right).abs().max() > 1e-3


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_shares_and_soft_masks(encoder: TextEncoder, share: float) -> None:
    """A mask of 3 / 4 of each cell, of 2 x 2 cells: the prompt keeps what is left."""
    soft = torch.zeros(1, 1, 16, 16)
    soft[..., :8, :8] = 0.75
    found, (prompt, region) = in_one_layer(encoder, Regions((Region("a red hat", soft),), share))
    inside = torch.zeros(4, 4, dtype=torch.float64)
    inside[:2, :2] = 0.75 * share
    wanted = torch.lerp(prompt, region, inside.flatten()[:, None])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_overlaps_are_divided_by_their_sum(encoder: TextEncoder) -> None:
    regions = Regions((Region("a red hat", ALL), Region("a blue cat", LEFT)), share=0.8)
    found, (prompt, red, blue) = in_one_layer(encoder, regions)
    on_left = (torch.arange(16) % 4 < 2)[:, None]
    wanted = 0.2 * prompt + 0.8 * torch.where(on_left, (red + blue) / 2, red)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_masks_keep_their_area_on_any_grid(encoder: TextEncoder) -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 5:18, 3:40] = 1
    text, area = encoder(PROMPTS[:1]), float(mask.mean())
    recorder = MapRecorder()
    estimate(text, Regions((Region("a red hat", mask),), share=1.0)(encoder, text), recorder)
    further = recorder.maps(8, 8)[:, max(30, len(text.spans[0])) :]
    assert float(further.sum(1).mean()) == pytest.approx(area, abs=1e-3)


@pytest.mark.parametrize("prompts", ["the dog", ("a red apple", "the dog", "two scarlet burgundy birds")])
def test_an_image_has_the_same_in_any_batch(encoder: TextEncoder, prompts: str | tuple[str, ...]) -> None:
    masks = torch.cat([LEFT, ALL, 1 - LEFT])
    text, one_prompt = encoder(PROMPTS), Region("a photo of a car", LEFT)
    three = estimate(text, Regions((Region(prompts, masks), one_prompt))(encoder, text))
    for index in range(3):
        alone = encoder(PROMPTS[index : index + 1])
        prompt = prompts if isinstance(prompts, str) else prompts[index]
        edit = Regions((Region(prompt, masks[index : index + 1]), one_prompt))(encoder, alone)
        torch.testing.assert_close(three[index : index + 1], estimate(alone, edit, seed=index), rtol=0, atol=1e-5)


def test_prompts_are_encoded_once_each_in_one_call(encoder: TextEncoder) -> None:
    text, calls = encoder(PROMPTS), list[int]()
    handle = encoder.encoders[0].module.register_forward_pre_hook(lambda m, args: calls.append(len(args[0])))
    Regions((*HALVES, Region(("a red hat", "a", "a"), ALL)))(encoder, text)
    handle.remove()
    assert calls == [3]


def test_other_branches_stay_as_they_are(encoder: TextEncoder) -> None:
    text, none = encoder(PROMPTS[:2]), branch(0)
    plain = Branch(text.condition.to(torch.float64))
    changed = Branch(plain.condition, (Regions(HALVES)(encoder, text),))
    before, after = (tiny_model()(start(), LEVEL, [none, each]) for each in (plain, changed))
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-10)
    assert (after[1] - before[1]).abs().max() > 1e-4


def test_with_other_edits_on_one_branch(encoder: TextEncoder) -> None:
    text, recorder = encoder(PROMPTS[:2]), MapRecorder()
    structure = Structure(lambda each: [(0, 5)])(encoder, text)
    found = estimate(text, Regions(HALVES)(encoder, text), structure, Sharpen(), Flatten(), recorder)
    assert found.isfinite().all()
    torch.testing.assert_close(recorder.maps(8, 8).sum(1), torch.ones(2, 8, 8, dtype=torch.float64))


def test_pictures(parts: Parts) -> None:
    settings: dict[str, Any] = {"steps": 2, "guidance": 4.0}
    plain = made(parts, PROMPTS, [1, 2, 3], **settings)
    found = made(parts, PROMPTS, [1, 2, 3], edits=(Regions(HALVES),), **settings)
    assert found.isfinite().all() and (found - plain).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    alone = made(parts, PROMPTS[1:2], [2], edits=(Regions(HALVES),), **settings)
    torch.testing.assert_close(found[1:2], alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(1, 32, 32), "must be floating numbers"),
        (torch.ones(1, 3, 32, 32), "must be floating numbers"),
        (torch.ones(1, 1, 32, 32, dtype=torch.bool), "must be floating numbers"),
        (2 * ALL, r"must lie in \[0, 1\]"),
        (torch.nan * ALL, r"must lie in \[0, 1\]"),
    ],
)
def test_wrong_masks_are_refused(mask: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Region("a red hat", mask)


def test_mistakes_are_refused(encoder: TextEncoder) -> None:
    with pytest.raises(ValueError, match="at least one region"):
        Regions(())
    for share in (-0.1, 1.1, torch.nan):
        with pytest.raises(ValueError, match="share of regions"):
            Regions(HALVES, share)
    with pytest.raises(ValueError, match="one resolution"):
        Regions((HALVES[0], Region("a", torch.ones(1, 1, 8, 8))))
    wrong: Sequence[Region] = (Region(("a", "the"), LEFT), Region("a", ALL.expand(2, 1, 32, 32)))
    for region in wrong:
        with pytest.raises(ValueError, match="for 3 pictures; give one, or one a picture"):
            Regions((region,))(encoder, encoder(PROMPTS))
