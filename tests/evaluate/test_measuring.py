"""What the benchmarks of speed and of steering write into their tables."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import torch

from sfumato.evaluate.intervals import Interval


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")


def test_a_ratio_of_times_is_between_two_of_the_ratios() -> None:
    from measure import compared

    theirs = torch.full((9,), 2.0)
    ours = 2 * torch.tensor([1.5, 1.25, 1.0, 0.75, 0.5, 2.0, 1.75, 0.25, 3.0])
    assert compared(ours, theirs) == [2.5, 2.0, Interval(1.25, 0.5, 2.0, 9)]
    assert compared(ours[:5], theirs[:5]) == [2.0, 2.0, 1.0]


@pytest.mark.parametrize(("model", "words"), [("emoji", ""), ("models/my k4", " --model 'models/my k4'")])
def test_a_table_of_steering_names_the_model_that_it_was_made_with(model: str, words: str) -> None:
    from steering import command_of

    found = command_of("clip", Namespace(model=model, count=40, steps=20))
    assert found == f"python benchmarks/steering.py --only clip --count 40 --steps 20{words}"
