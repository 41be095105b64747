from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from sfumato.core.attention import AttentionEdit, Site, check_edits, keyword, merged
from sfumato.core.branch import Branch, Guided
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.sample import sample
from tests.parts import TOKENS, Flatten, HalveValues, Sharpen, branch, counted, scaled_linear, start, tiny_model

LEVEL = scaled_linear().at(torch.tensor(400.0))
EDITS = [(Sharpen(),), (Flatten(),), (HalveValues(),), (Sharpen(), Flatten(), HalveValues())]


@pytest.fixture(autouse=True)
def _no_grad() -> None:
    with torch.no_grad():
        yield


def _names(edits: tuple[AttentionEdit, ...]) -> str:
    return "+".join(type(edit).__name__ for edit in edits)


@dataclass(frozen=True)
class Layer:
    name: str = "mid.attn"


def _site(kind: str, side: int) -> Site:
    return Site(kind, (side, side), slice(None), slice(None), Layer())


class Nothing(AttentionEdit):
    """Goes through all three stages of cross- and self-attention and changes nothing."""

    def scores(self, scores: Tensor, site: Site, ratio: Tensor) -> Tensor:
        return scores

    def weights(self, weights: Tensor, site: Site) -> Tensor:
        return weights


class Broken(AttentionEdit):
    def scores(self, scores: Tensor, site: Site, ratio: Tensor) -> Tensor:
        raise RuntimeError("inside an edit")


class Elsewhere(AttentionEdit):
    def applies(self, site: Site) -> bool:
        return site.grid == (5, 5)


@dataclass
class Witness(AttentionEdit):
    """Notes the order of its stages, and what they were given."""

    name: str = "witness"
    notes: list[str] = field(default_factory=list)
    shapes: set[tuple] = field(default_factory=set)

    def context(self, keys: Tensor, values: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        self.notes.append(f"{self.name} context")
        self.shapes.add(("context", site.kind, site.grid, tuple(keys.shape[:2])))
        return keys, values

    def scores(self, scores: Tensor, site: Site, ratio: Tensor) -> Tensor:
        self.notes.append(f"{self.name} scores")
        self.shapes.add(("scores", site.kind, site.grid, tuple(scores.shape)))
        torch.testing.assert_close(ratio, LEVEL.ratio.float())
        return scores

    def weights(self, weights: Tensor, site: Site) -> Tensor:
        self.notes.append(f"{self.name} weights")
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1], dtype=weights.dtype))
        return weights


def test_an_edit_that_changes_nothing_changes_nothing() -> None:
    model, x, plain = tiny_model(), start(), branch(1, tokens=5)
    for tokens in (5, 7):
        other = branch(2, tokens=tokens)
        before = model(x, LEVEL, [plain, other])
        after = model(x, LEVEL, [Branch(plain.condition, (Nothing(),)), other])
        for old, new in zip(before, after, strict=True):
            torch.testing.assert_close(new, old, rtol=0, atol=1e-12)


@pytest.mark.parametrize("edits", EDITS, ids=_names)
def test_an_edit_changes_its_branch_and_no_other(edits: tuple[AttentionEdit, ...]) -> None:
    model, x, none, text = tiny_model(), start(), branch(0), branch(1)
    before = model(x, LEVEL, [none, text])
    edited = Branch(text.condition, edits)
    for order in ([none, edited], [edited, none]):
        after = dict(zip(order, model(x, LEVEL, order), strict=True))
        torch.testing.assert_close(after[none], before[0], rtol=0, atol=1e-10)
        assert (after[edited] - before[1]).abs().max() > 1e-4
    alone = model(x, LEVEL, [edited])[0]
    torch.testing.assert_close(after[edited], alone, rtol=0, atol=1e-10)


@pytest.mark.parametrize("edits", EDITS, ids=_names)
def test_an_edit_gives_an_image_the_same_in_any_batch(edits: tuple[AttentionEdit, ...]) -> None:
    model, x, condition = tiny_model(), start(3), branch(1, 3).condition
    (three,) = model(x, LEVEL, [Branch(condition, edits)])
    for index in range(3):
        row = slice(index, index + 1)
        (one,) = model(x[row], LEVEL, [Branch(condition.rows(row), edits)])
        torch.testing.assert_close(three[row], one, rtol=0, atol=1e-10)


def test_stages_run_in_order_and_see_their_own_rows() -> None:
    notes: list[str] = []
    first, second = Witness("a", notes), Witness("b", notes)
    tiny_model()(start(), LEVEL, [branch(0), branch(1, edits=(first, second)), branch(2)])
    layer = ["a context", "b context", "a scores", "b scores", "a weights", "b weights"]
    assert notes == layer * 8
    assert first.shapes == {
        ("context", "self", (8, 8), (2, 64)),
        ("context", "cross", (8, 8), (2, 6)),
        ("context", "self", (4, 4), (2, 16)),
        ("context", "cross", (4, 4), (2, 6)),
        ("scores", "self", (8, 8), (2, 2, 64, 64)),
        ("scores", "cross", (8, 8), (2, 2, 64, 6)),
        ("scores", "self", (4, 4), (2, 2, 16, 16)),
        ("scores", "cross", (4, 4), (2, 2, 16, 6)),
    }


def test_grids_follow_latents_that_are_not_square() -> None:
    witness = Witness()
    x = torch.randn(2, 4, 8, 12, dtype=torch.float64)
    tiny_model()(x, LEVEL, [branch(1, edits=(witness,))])
    assert {shape[2] for shape in witness.shapes} == {(8, 12), (4, 6)}


def test_padding_stays_masked_whatever_an_edit_does() -> None:
    model, x, short, long = tiny_model(), start(), branch(1, tokens=4), branch(2, tokens=9)
    edited = Branch(short.condition, (Sharpen(),))
    (alone,) = model(x, LEVEL, [edited])
    torch.testing.assert_close(model(x, LEVEL, [edited, long])[0], alone, rtol=0, atol=1e-10)


class Append(AttentionEdit):
    """Puts a second copy of the context after the first, so that each token is there twice, the copy unmasked."""

    grows = True

    def applies(self, site: Site) -> bool:
        return site.kind == "cross"

    def context(self, keys: Tensor, values: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        return torch.cat([keys, keys], 1), torch.cat([values, values], 1)


@pytest.mark.parametrize("others", [(), (Nothing(),)])
def test_a_context_may_grow_and_what_is_added_is_not_masked(others: tuple[AttentionEdit, ...]) -> None:
    """Twice the same keys and values is the same attention; the copy of a masked token counts, as if never masked."""
    model, text = tiny_model(), branch(1)
    grown = Branch(text.condition, (Append(), *others))
    torch.testing.assert_close(model(start(), LEVEL, [grown])[0], model(start(), LEVEL, [text])[0], rtol=0, atol=1e-10)
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[:, -1] = False
    masked = Branch(text.condition.replace(token_mask=mask), (Append(), *others))
    lacking = Branch(text.condition.replace(token_mask=mask))
    found, without = model(start(), LEVEL, [masked, lacking])
    assert (found - without).abs().max() > 1e-6
    with pytest.raises(ValueError, match=r"2 edits \(Append, Append\) put further contexts"):
        model(start(), LEVEL, [Branch(text.condition, (Append(), Append()))])


def test_windows_follow_the_progress_of_the_path() -> None:
    model, condition = tiny_model(), branch(1).condition
    path = trailing(scaled_linear(), 4)
    levels: dict[float, list[Tensor]] = {}
    for edits in ((), (Sharpen(until=0.5),)):
        for level in path[:-1]:
            levels.setdefault(level.progress, []).append(model(start(), level, [Branch(condition, edits)])[0])
    same = {progress: torch.equal(*pair) for progress, pair in levels.items()}
    assert same == {0.0: False, 0.25: False, 0.5: True, 0.75: True}


def test_an_exception_inside_an_edit_leaves_the_model_usable() -> None:
    model, x, text = tiny_model(), start(), branch(1)
    (before,) = model(x, LEVEL, [text])
    with pytest.raises(RuntimeError, match="inside an edit"):
        model(x, LEVEL, [Branch(text.condition, (Broken(),))])
    assert torch.equal(model(x, LEVEL, [text])[0], before)


def test_two_threads_share_one_model() -> None:
    from concurrent.futures import ThreadPoolExecutor

    model, path = tiny_model(), trailing(scaled_linear(), 2)

    def run(edits: tuple[AttentionEdit, ...]) -> Tensor:
        none, text = branch(0), branch(1, edits=edits)
        with torch.no_grad():
            return sample(Guided(model, none + 3.0 * (text - none)), start(), path, noise=Noise([0, 1]))

    with ThreadPoolExecutor(len(EDITS)) as threads:
        together = list(threads.map(run, EDITS * 2))
    for found, edits in zip(together, EDITS * 2, strict=True):
        assert torch.equal(found, run(edits))


def test_an_edit_that_would_do_nothing_is_refused() -> None:
    model, x = tiny_model(), start()
    for _ in range(2):
        with pytest.raises(ValueError, match="edit Elsewhere matches no layer .* attention at cross 4x4, cross 8x8"):
            model(x, LEVEL, [branch(1, edits=(Sharpen(), Elsewhere()))])


def test_a_network_whose_layers_hear_no_call_refuses_edits() -> None:
    @dataclass(frozen=True)
    class Deaf:
        prediction = "x0"
        dtype = torch.float64

        def __call__(self, x: Tensor, time: Tensor, condition: object, call: object) -> Tensor:
            return x

    model = tiny_model()
    deaf = type(model)(Deaf(), model.schedule)
    deaf(start(), LEVEL, [branch(1)])
    with pytest.raises(ValueError, match="no attention layer that edits can reach"):
        deaf(start(), LEVEL, [branch(1, edits=(Sharpen(),))])


def test_a_network_is_probed_once_a_size_with_one_row() -> None:
    model, edited = tiny_model(), branch(1, edits=(Sharpen(),))
    with counted(model) as rows:
        for size in (8, 4, 8):
            model(torch.zeros(2, 4, size, size, dtype=torch.float64), LEVEL, [edited])
    assert rows == [1, 2, 1, 2, 2]


def test_scores_of_large_self_attention_are_refused_and_cheap_edits_are_not() -> None:
    large = (_site("self", 128), _site("cross", 128))

    class Bypass(AttentionEdit):
        bypass = True

        def applies(self, site: Site) -> bool:
            return site.kind == "self"

    class Values(AttentionEdit):
        def context(self, keys: Tensor, values: Tensor, site: Site) -> tuple[Tensor, Tensor]:
            return keys, values

    with pytest.raises(ValueError, match="16384 x 16384 scores an image and head in mid.attn"):
        check_edits((Nothing(),), large)
    check_edits((Bypass(), Values(), Sharpen()), large)
    check_edits((Nothing(),), (_site("self", 64),))


def test_bypass_of_cross_attention_is_refused() -> None:
    class Bypass(AttentionEdit):
        bypass = True

    with pytest.raises(ValueError, match="only self-attention can be bypassed"):
        tiny_model()(start(), LEVEL, [branch(1, edits=(Bypass(),))])


def test_unedited_neighbours_are_merged() -> None:
    edit = (Sharpen(),)
    assert merged([(0, 2, ()), (2, 4, ()), (4, 6, edit), (6, 8, edit), (8, 9, ())]) == (
        (0, 4, ()),
        (4, 6, edit),
        (6, 8, edit),
        (8, 9, ()),
    )
    assert merged([]) == ()


def test_the_call_travels_under_one_keyword() -> None:
    assert keyword(None) is None
