from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from sfumato.core.branch import Branch, Guided, Mix, as_mix, evaluate
from sfumato.core.condition import Condition
from sfumato.core.level import Level
from sfumato.core.schedules import FlowSchedule

NONE, TEXT, IMAGE = (Branch(Condition(), name=name) for name in ("none", "text", "image"))
LEVEL = FlowSchedule().at(torch.tensor(500.0))


@dataclass(frozen=True)
class Named:
    """A model that gives each branch's name a number, and notes what it was asked."""

    schedule: FlowSchedule = field(default_factory=FlowSchedule)
    asked: list[list[str]] = field(default_factory=list)

    def __call__(self, x: Tensor, level: Level, branches: Sequence[Branch]) -> tuple[Tensor, ...]:
        self.asked.append([branch.name for branch in branches])
        return tuple(x + len(branch.name) for branch in branches)


def test_a_mix_is_written_and_printed_as_the_equation() -> None:
    mix = NONE + 1.5 * (IMAGE - NONE) + 7.5 * (TEXT - IMAGE)
    assert repr(mix) == "none + 1.5*(image - none) + 7.5*(text - image)"
    assert mix.weights == {NONE: -0.5, IMAGE: -6.0, TEXT: 7.5}


@pytest.mark.parametrize(
    ("mix", "text"),
    [
        (NONE + 7 * (TEXT - NONE) - 3.0 * (IMAGE - NONE), "none + 7*(text - none) - 3*(image - none)"),
        (TEXT - (IMAGE - NONE), "text - (image - none)"),
        (2 * TEXT - IMAGE, "2*text - image"),
        ((TEXT - NONE) * 2 + NONE, "2*(text - none) + none"),
        (2 * (3 * TEXT), "2*3*text"),
        (torch.tensor([1.0, 2.5]) * TEXT, "[1, 2.5]*text"),
        (Mix({TEXT: 2.0, NONE: -1.0}), "2*text + -1*none"),
        (as_mix(TEXT), "text"),
        (as_mix(Branch(Condition())), "branch"),
    ],
)
def test_formulas(mix: Mix, text: str) -> None:
    assert repr(mix) == text


def test_of_combines_with_numbers_and_with_one_scale_an_image() -> None:
    estimates = {NONE: torch.ones(2, 3), TEXT: torch.full((2, 3), 3.0)}
    assert torch.equal((NONE + 2.0 * (TEXT - NONE)).of(estimates), torch.full((2, 3), 5.0))
    scales = torch.tensor([0.0, 2.0])
    for mix in (NONE + scales * (TEXT - NONE), NONE + (TEXT - NONE) * scales):
        assert torch.equal(mix.of(estimates), torch.tensor([[1.0] * 3, [5.0] * 3]))


def test_the_same_branch_is_evaluated_once_and_zero_weights_not_at_all() -> None:
    model, x = Named(), torch.zeros(1, 2)
    Guided(model, NONE + 7.5 * (TEXT - NONE) + 2.0 * (IMAGE - NONE))(x, LEVEL)
    Guided(model, NONE + 1.0 * (TEXT - NONE))(x, LEVEL)
    Guided(model, NONE + 0.0 * (TEXT - NONE))(x, LEVEL)
    Guided(model, TEXT)(x, LEVEL)
    assert model.asked == [["none", "text", "image"], ["text"], ["none"], ["text"]]
    assert list(evaluate(model, x, LEVEL, [TEXT, NONE, TEXT])) == [TEXT, NONE]


def test_scale_one_returns_the_branch_bit_for_bit() -> None:
    x = torch.randn(2, 3)
    assert torch.equal(Guided(Named(), NONE + 1.0 * (TEXT - NONE))(x, LEVEL), x + 4)


def test_identical_estimates_are_left_alone_by_any_scale() -> None:
    twin, x = Branch(Condition(), name="twin"), torch.randn(2, 3, dtype=torch.float64)
    torch.testing.assert_close(Guided(Named(), TEXT + 9.0 * (twin - TEXT))(x, LEVEL), x + 4)


def test_a_function_of_the_level_may_return_a_mix_or_a_branch() -> None:
    model, x = Named(), torch.zeros(1, 2)
    denoise = Guided(model, lambda level: TEXT if level.time < 400 else NONE + 2.0 * (TEXT - NONE))
    denoise(x, LEVEL)
    denoise(x, FlowSchedule().at(torch.tensor(100.0)))
    assert model.asked == [["none", "text"], ["text"]]


def test_weights_that_do_not_sum_to_one_are_refused_at_construction() -> None:
    for mix in (NONE + TEXT, 2.0 * TEXT, torch.tensor([1.0, 1.5]) * TEXT, TEXT * float("nan")):
        with pytest.raises(ValueError, match="must sum to 1"):
            Guided(Named(), mix)
    with pytest.raises(ValueError, match=r"those of 2\*text sum to 2"):
        Guided(Named(), lambda level: 2.0 * TEXT)(torch.zeros(1), LEVEL)


def test_a_mix_without_branches_is_refused() -> None:
    with pytest.raises(ValueError, match="no branch has a weight"):
        (TEXT - TEXT).of({})


def test_a_denoiser_prints_the_whole_stack() -> None:
    printed = repr(Guided(Named(), NONE + 7.5 * (TEXT - NONE)))
    assert printed.endswith("mix=none + 7.5*(text - none))")
