"""Prompt-to-prompt's edits: whose maps are seen, at which steps, for which tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from sfumato.attention.alignment import Alignment, Pair
from sfumato.attention.prompt_to_prompt import CrossInjection, Reweighting, SelfInjection, cross_edits
from sfumato.core.attention import AttentionCall, AttentionEdit, Site
from sfumato.core.branch import Branch, Guided
from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.sample import sample
from tests.parts import TOKENS, Flatten, HalveValues, Sharpen, branch, scaled_linear, start, tiny_model

LEVEL = scaled_linear().at(torch.tensor(400.0))
PAIR: tuple[Pair, ...] = ((0, 1),)


def shuffled(pairs: tuple[Pair, ...] = PAIR, length: int = TOKENS) -> Alignment:
    """Token j is given the map of token j + 1, the first one that of the last too; the last two share the first's."""
    matrix = torch.eye(length).roll(1, 0)
    matrix[0, -2:] = 0.5
    matrix[-1] = torch.eye(length)[0]
    return Alignment(pairs, matrix.expand(len(pairs), -1, -1), torch.ones(len(pairs), length, dtype=torch.bool))


def same(pairs: tuple[Pair, ...] = PAIR, length: int = TOKENS) -> Alignment:
    shape = (len(pairs), length)
    return Alignment(pairs, torch.eye(length).expand(*shape, -1), torch.ones(shape, dtype=torch.bool))


@dataclass
class Witness(AttentionEdit):
    """Keeps the maps that it is shown, by layer."""

    seen: dict[str, list[Tensor]] = field(default_factory=dict)

    def weights(self, weights: Tensor, site: Site) -> Tensor:
        self.seen.setdefault(site.name, []).append(weights)
        return weights


def level_at(progress: float | None) -> Level:
    return Level(LEVEL.time, LEVEL.alpha, LEVEL.sigma, progress)


def test_in_every_layer_and_step_the_maps_are_those_of_the_source() -> None:
    model, witness, alignment = tiny_model(), Witness(), shuffled()
    text = branch(1, edits=(CrossInjection(alignment, 1), SelfInjection(PAIR, 1), witness))
    x = start(1).repeat(2, 1, 1, 1)
    sample(Guided(model, branch(0) + 3.0 * (text - branch(0))), x, trailing(scaled_linear(), 3), noise=Noise([0, 0]))
    assert len(witness.seen) == 8 and all(len(maps) == 3 for maps in witness.seen.values())
    for name, maps in witness.seen.items():
        for each in maps:
            wanted = each[0] @ alignment.matrix[0].double() if name.endswith("attn2") else each[0]
            torch.testing.assert_close(each[1], wanted, rtol=0, atol=1e-12)
            torch.testing.assert_close(each.sum(-1), torch.ones_like(each.sum(-1)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "edit", [CrossInjection(shuffled()), SelfInjection(PAIR), Reweighting(torch.full((2, 6), 0.5))]
)
def test_the_rewrite_changes_and_the_source_and_other_branches_do_not(edit: AttentionEdit) -> None:
    model, x, none, text = tiny_model(), start(), branch(0), branch(1)
    if isinstance(edit, Reweighting):
        edit.factors[0] = 1
    before = model(x, LEVEL, [none, text])
    after = model(x, LEVEL, [none, Branch(text.condition, (edit,))])
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(after[1][0], before[1][0], rtol=0, atol=1e-12)
    assert (after[1][1] - before[1][1]).abs().max() > 1e-6


@pytest.mark.parametrize(
    "edits", [(CrossInjection(same()),), (SelfInjection(PAIR),), (CrossInjection(same()), SelfInjection(PAIR))]
)
def test_a_prompt_rewritten_to_itself_is_the_same_picture(edits: tuple[AttentionEdit, ...]) -> None:
    x, condition = start(1).repeat(2, 1, 1, 1), branch(1, 1).condition.rows([0, 0])
    found, plain = (tiny_model()(x, LEVEL, [Branch(condition, each)])[0] for each in (edits, ()))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-12)


def test_unknown_tokens_keep_their_own_map() -> None:
    maps, known = torch.rand(2, 3, 5, TOKENS), torch.tensor([[True, False] * 3])
    found = CrossInjection(shuffled().only(known)).weights(maps, None)
    assert torch.equal(found[0], maps[0]) and torch.equal(found[1, ..., 1::2], maps[1, ..., 1::2])
    assert torch.equal(found[1, ..., ::2], (maps[0] @ shuffled().matrix[0])[..., ::2])


def test_columns_after_the_tokens_are_left_alone_and_the_given_maps_too() -> None:
    maps, factors = torch.rand(2, 3, 5, TOKENS + 4), torch.rand(2, TOKENS)
    before = maps.clone()
    for edit in (CrossInjection(shuffled()), Reweighting(factors)):
        found = edit.weights(maps, None)
        assert torch.equal(found[..., TOKENS:], maps[..., TOKENS:])
        assert torch.equal(found[..., :TOKENS], edit.weights(maps[..., :TOKENS].clone(), None))
    assert torch.equal(maps, before)


def test_a_longer_text_in_the_pass_changes_nothing() -> None:
    model, x, edits = tiny_model(), start(), (CrossInjection(shuffled()), Reweighting(torch.full((2, TOKENS), 1.5)))
    edited, long = branch(1, edits=edits), branch(2, tokens=TOKENS + 3)
    torch.testing.assert_close(model(x, LEVEL, [edited, long])[0], model(x, LEVEL, [edited])[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [5, 10, 50])
@pytest.mark.parametrize("until", [0, 0.2, 0.4, 0.8, 1, 1.0])
def test_windows_are_shares_of_the_steps(steps: int, until: float) -> None:
    levels = trailing(scaled_linear(), steps)[:-1]
    for edit in (CrossInjection(same(), until), SelfInjection(PAIR, until), Reweighting(torch.ones(2, 6), until)):
        assert [edit.active(level) for level in levels] == [step < round(until * steps) for step in range(steps)]
        assert edit.active(level_at(None)), "outside a path every window is open"


def test_a_share_of_a_step_is_a_step() -> None:
    levels = trailing(scaled_linear(), 7)[:-1]
    assert sum(CrossInjection(same(), 0.8).active(level) for level in levels) == 6


def test_windows_and_factors_of_words_are_the_formula_with_a_window_a_token() -> None:
    """alpha_t c (known M A + (1 - known) M*) + (1 - alpha_t) M*, for two pairs and one image of neither."""
    pairs = ((0, 2), (4, 1))
    until = torch.tensor([0.0, 0.3, 0.8, 1.0, 0.3, 0.8], dtype=torch.float64).repeat(5, 1)
    until[1] = until[1].flip(0)
    factors, known = torch.randn(5, TOKENS), torch.rand(2, TOKENS) > 0.4
    factors[2, :3] = 1
    alignment = shuffled(pairs).only(known)
    edits, maps = cross_edits(alignment, until, factors), torch.rand(5, 2, 7, TOKENS)
    for progress in (0.0, 0.2, 0.3, 0.5, 0.8, 0.9, None):
        found = maps
        for edit in edits:
            found = edit.weights(found, None) if edit.active(level_at(progress)) else found
        wanted = maps.clone()
        for number, (source, rewrite) in enumerate(pairs):
            moved = torch.where(known[number], maps[source] @ alignment.matrix[number], maps[rewrite])
            inside = until[rewrite] > (-1 if progress is None else progress)
            inside &= until[rewrite] > 0
            wanted[rewrite] = torch.where(inside, moved * factors[rewrite], maps[rewrite])
        assert torch.equal(found, wanted), progress


def test_words_without_factors_and_windows_need_one_edit_or_none() -> None:
    until, ones = torch.full((2, TOKENS), 0.8, dtype=torch.float64), torch.ones(2, TOKENS)
    (edit,) = cross_edits(shuffled(), until, ones)
    assert isinstance(edit, CrossInjection) and edit.until == 0.8
    assert cross_edits(shuffled(), 0 * until, 2 * ones) == ()


def test_pairs_of_one_batch_know_nothing_of_each_other() -> None:
    pairs = ((0, 2), (4, 1))
    x, condition = start(5), branch(1, 5).condition
    edits = (CrossInjection(shuffled(pairs)), SelfInjection(pairs))
    (together,) = tiny_model()(x, LEVEL, [Branch(condition, edits)])
    for pair in pairs:
        edits = (CrossInjection(shuffled()), SelfInjection(PAIR))
        (alone,) = tiny_model()(x[list(pair)], LEVEL, [Branch(condition.rows(list(pair)), edits)])
        torch.testing.assert_close(together[list(pair)], alone, rtol=0, atol=1e-10)
    (plain,) = tiny_model()(x[3:4], LEVEL, [Branch(condition.rows([3]))])
    torch.testing.assert_close(together[3:4], plain, rtol=0, atol=1e-10)


def attended(factors: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """One layer's output before its last projection, with a factor a token; and its maps and values."""
    layer, context, x = _layer(), branch(1).condition.tokens, torch.randn(2, 16, 32, dtype=torch.float64)
    witness = Witness()
    edits = (witness,) if factors is None else (witness, Reweighting(factors))
    call = AttentionCall(((0, 2, edits),), (4, 4), torch.tensor(1.0))
    values = layer.to_v(context).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
    (maps,) = (layer(x, encoder_hidden_states=context, call=call), *witness.seen.values())[1]
    return layer(x, encoder_hidden_states=context, call=call), maps, values


def _layer() -> torch.nn.Module:
    return tiny_model().network.unet.mid_block.attentions[0].transformer_blocks[0].attn2


def with_factor(factor: float, token: int = 2) -> Tensor:
    torch.manual_seed(7)
    factors = torch.ones(2, TOKENS)
    factors[1, token] = factor
    return attended(factors)[0]


def test_a_factor_of_one_changes_nothing_and_nought_removes_the_token_alone() -> None:
    torch.manual_seed(7)
    plain, maps, values = attended(None)
    assert torch.equal(with_factor(1), plain)
    share = (maps[1, :, :, 2:3] @ values[1, :, 2:3]).transpose(0, 1).flatten(1)
    removed = plain[1] - with_factor(0)[1]
    torch.testing.assert_close(removed, share @ _layer().to_out[0].weight.T, rtol=0, atol=1e-12)
    assert torch.equal(with_factor(0)[0], plain[0]) and removed.abs().max() > 1e-4


def test_the_output_is_linear_in_the_factor() -> None:
    none, one = with_factor(0), with_factor(1)
    for factor in (-2.0, 0.5, 2.0):
        torch.testing.assert_close(with_factor(factor), none + factor * (one - none), rtol=0, atol=1e-10)


def test_grids_are_chosen_by_their_longer_side() -> None:
    witness, x = Witness(), torch.randn(2, 4, 8, 4, dtype=torch.float64)
    tiny_model()(x, LEVEL, [branch(1, edits=(SelfInjection(PAIR, largest=4), witness))])
    same_maps = {name: torch.equal(maps[0][0], maps[0][1]) for name, maps in witness.seen.items()}
    small = {name for name, maps in witness.seen.items() if maps[0].shape[-1] == 8}
    assert {name for name, equal in same_maps.items() if equal} == small and len(small) == 1
    with pytest.raises(ValueError, match="edit SelfInjection matches no layer"):
        tiny_model()(start(), LEVEL, [branch(1, edits=(SelfInjection(PAIR, largest=3),))])


def test_edits_before_and_after_are_seen_and_see() -> None:
    """Scores and values of both images go their own ways; maps are the source's as far as they are edited before."""
    model, x, condition = tiny_model(), start(), branch(1).condition
    edit, outputs = CrossInjection(shuffled()), []
    for edits in ((edit,), (Sharpen(), edit), (Flatten(), edit), (edit, Flatten()), (HalveValues(), edit)):
        witness = Witness()
        outputs.append(model(x, LEVEL, [Branch(condition, (*edits, witness))])[0])
        if edits[-1] is edit:
            for name, (maps,) in witness.seen.items():
                if name.endswith("attn2"):
                    wanted = maps[0] @ shuffled().matrix[0].double()
                    torch.testing.assert_close(maps[1], wanted, rtol=0, atol=1e-12)
    assert all((a - b).abs().max() > 1e-6 for i, a in enumerate(outputs) for b in outputs[:i])


def test_a_network_in_half_precision_is_edited_in_single() -> None:
    model, witness = tiny_model(dtype=torch.bfloat16), Witness()
    text = branch(1, edits=(CrossInjection(shuffled()), Reweighting(torch.full((2, TOKENS), 0.5)), witness))
    (x0,) = model(start().float(), LEVEL, [text])
    assert x0.isfinite().all() and {maps[0].dtype for maps in witness.seen.values()} == {torch.float32}


@pytest.mark.parametrize("until", [-0.1, 1.1, float("nan")])
def test_windows_out_of_range_are_refused(until: float) -> None:
    for make in (lambda: CrossInjection(same(), until), lambda: Reweighting(torch.ones(1, 2), until)):
        with pytest.raises(ValueError, match="a window must end at a share of the path"):
            make()
    with pytest.raises(ValueError, match="a window must end at a share of the path"):
        SelfInjection(PAIR, until)


def test_other_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="largest must be at least 1"):
        SelfInjection(PAIR, largest=0)
    with pytest.raises(ValueError, match="a source is not rewritten"):
        SelfInjection(((0, 1), (1, 2)))
    for factors in (torch.ones(3), torch.tensor([[1.0, float("inf")]])):
        with pytest.raises(ValueError, match=r"finite numbers \(B, L\)"):
            Reweighting(factors)
