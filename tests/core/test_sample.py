import pytest
import torch
from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.sample import Record, sample
from sfumato.core.steps import Ddim, Dpmpp2M, EulerAncestral, Heun, Step
from tests.parts import Gaussian, scaled_linear

PATH = trailing(scaled_linear(), 4)


def _start(count: int = 2) -> Tensor:
    return Noise(range(count))((count, 5))


@pytest.mark.parametrize("step", [Ddim(0.5), Heun(), Dpmpp2M(), EulerAncestral()], ids=repr)
def test_a_second_run_is_the_same_bit_for_bit(step: Step) -> None:
    runs = [sample(Gaussian(), _start(), PATH, step, noise=Noise([5, 6])) for _ in range(2)]
    assert torch.equal(*runs)
    assert runs[0].dtype == torch.float32


def test_ddim_is_the_step_when_none_is_named() -> None:
    noise = Noise([5, 6])
    assert torch.equal(*(sample(Gaussian(), _start(), PATH, step, noise=noise) for step in (None, Ddim())))


def test_after_edits_run_in_order_at_the_level_that_was_reached() -> None:
    seen: list[tuple[str, Level]] = []

    def first(x: Tensor, level: Level) -> Tensor:
        seen.append(("first", level))
        return x + 1

    def second(x: Tensor, level: Level) -> Tensor:
        seen.append(("second", level))
        return torch.zeros_like(x)

    found = sample(Gaussian(), _start(), PATH, noise=Noise([0, 1]), after=(first, second))
    assert seen == [(name, level) for level in PATH[1:] for name in ("first", "second")]
    assert found.abs().sum() == 0


def test_a_watcher_is_told_each_step_and_cannot_change_x() -> None:
    records: list[Record] = []

    def watch(record: Record) -> None:
        records.append(record)
        record.x.zero_()

    found = sample(Gaussian(), _start(), PATH, noise=Noise([0, 1]), watch=watch)
    assert torch.equal(found, sample(Gaussian(), _start(), PATH, noise=Noise([0, 1])))
    assert [(record.index, record.count) for record in records] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [record.level for record in records] == PATH[1:]


def test_gradients_pass_through_when_the_caller_wants_them() -> None:
    x = _start().requires_grad_()
    (gradient,) = torch.autograd.grad(sample(Gaussian(), x, PATH, noise=Noise([0, 1])).sum(), x)
    assert (gradient > 0).all()


def test_short_paths_and_other_numbers_of_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="two levels"):
        sample(Gaussian(), _start(), PATH[:1], noise=Noise([0, 1]))
    with pytest.raises(ValueError, match="one seed an image"):
        sample(Gaussian(), _start(), PATH, noise=Noise([0]))
