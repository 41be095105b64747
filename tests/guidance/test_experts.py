"""Who owns a level, that one network answers, and that equal experts are one model."""

from dataclasses import replace

import pytest
import torch

from sfumato.core.branch import Guided
from sfumato.core.level import Level, Schedule
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.sample import sample
from sfumato.core.schedules import CosineSchedule, DiscreteSchedule, FlowSchedule, zero_terminal_snr
from sfumato.core.steps import Ddim, Heun
from sfumato.guidance.classifier_free import classifier_free
from sfumato.guidance.experts import Experts, by_progress, by_ratio
from sfumato.networks.unet import UNetNetwork
from tests.parts import Gaussian, Gaussians, branch, counted, scaled_linear, start, tiny_model
from tests.tiny import tiny_unet

TEXT, NONE = branch(1), branch(0)
PATH = trailing(scaled_linear(), 10)
LINEAR = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)


def other_model() -> DenoisingModel:
    return DenoisingModel(UNetNetwork(tiny_unet(seed=7).double()), scaled_linear())


def run(model: Experts | DenoisingModel, step: Ddim | Heun = Ddim()) -> torch.Tensor:  # noqa: B008
    with torch.no_grad():
        return sample(Guided(model, classifier_free(TEXT, NONE, 3.0)), start(), PATH, step, noise=Noise([0, 1]))


@pytest.mark.parametrize("step", [Ddim(), Heun()], ids=repr)
def test_equal_experts_are_the_single_model_bit_for_bit(step: Ddim | Heun) -> None:
    one = tiny_model()
    assert torch.equal(run(Experts((one, one, one), by_ratio(0.3, 9.61)), step), run(one, step))


@pytest.mark.parametrize(("step", "calls"), [(Ddim(), 10), (Heun(), 19)], ids=["ddim", "heun"])
def test_the_number_of_calls_is_that_of_one_model(step: Ddim | Heun, calls: int) -> None:
    first, second = tiny_model(), other_model()
    with counted(first) as one, counted(second) as two:
        run(Experts((first, second), by_progress((0.0, 0.3))), step)
    assert len(one) + len(two) == calls and one and two
    assert len(two) == 3 if calls == 10 else len(two) >= 5, "Heun looks ahead with the owner of the level ahead"


def test_every_level_has_exactly_one_owner() -> None:
    choose = by_ratio(0.0757, 0.301, 9.61)
    ratios = torch.logspace(-3, 3, 400, dtype=torch.float64)
    found = [choose(_of_ratio(ratio)) for ratio in ratios]
    wanted = torch.bucketize(ratios, torch.tensor([0.0757, 0.301, 9.61], dtype=torch.float64), right=True).tolist()
    assert found == wanted == sorted(found) and set(found) == {0, 1, 2, 3}
    assert choose(_of_ratio(torch.tensor(torch.inf))) == 3


def _of_ratio(ratio: torch.Tensor) -> Level:
    """A level whose ratio is exactly that one, and infinite at alpha = 0."""
    if ratio.isinf():
        return Level(torch.tensor(0.0), torch.tensor(0.0).double(), torch.tensor(1.0).double())
    return Level(torch.tensor(0.0), torch.tensor(1.0).double(), ratio.double())


def test_spans_of_the_path() -> None:
    choose = by_progress((0.5, 1.0), (0.0, 0.2))
    found = [choose(replace(PATH[0], progress=share)) for share in (0.0, 0.1, 0.2, 0.4, 0.5, 0.9, 1.0)]
    assert found == [2, 2, 0, 0, 1, 1, 1]


def test_the_owner_answers() -> None:
    first, second = tiny_model(), other_model()
    model = Experts((first, second), by_progress((0.0, 0.3)))
    for level in PATH[:-1]:
        owner = second if level.progress < 0.3 else first
        with torch.no_grad():
            assert torch.equal(model(start(), level, [TEXT])[0], owner(start(), level, [TEXT])[0])


def test_a_model_of_another_schedule_is_asked_at_its_own_level_of_the_same_ratio() -> None:
    asked: list[tuple[Level, torch.Tensor]] = []
    cosine = Gaussians({TEXT: lambda x, level: (asked.append((level, x)), Gaussian()(x, level))[1]})
    cosine.schedule = CosineSchedule()
    here = Gaussians({TEXT: Gaussian()})
    level, x = PATH[4], start()
    (found,) = Experts((here, cosine), lambda level: 1)(x, level, [TEXT])
    ((own, seen),) = asked
    torch.testing.assert_close(own.ratio, level.ratio, rtol=1e-6, atol=0)
    torch.testing.assert_close(seen / own.alpha, x / level.alpha, rtol=1e-6, atol=0)
    torch.testing.assert_close(found, Gaussian()(x, level), rtol=1e-6, atol=1e-8)
    assert own.progress == level.progress


@pytest.mark.parametrize("other", [CosineSchedule(), DiscreteSchedule(zero_terminal_snr(LINEAR))])
def test_at_pure_noise_a_model_is_asked_at_its_own_pure_noise(other: Schedule) -> None:
    here, there = Gaussians({TEXT: Gaussian()}), Gaussians({TEXT: Gaussian()})
    here.schedule, there.schedule = FlowSchedule(), other
    level, x = here.schedule.at(torch.tensor(1000.0)), start()
    assert level.alpha == 0
    (found,) = Experts((here, there), lambda level: 1)(x, level, [TEXT])
    torch.testing.assert_close(found, Gaussian()(x, level), rtol=1e-6, atol=1e-8)


def test_a_level_that_a_model_has_not_seen_is_refused_for_it() -> None:
    here, there = Gaussians({TEXT: Gaussian()}), Gaussians({TEXT: Gaussian()})
    here.schedule = FlowSchedule()
    model = Experts((here, there), lambda level: 1)
    for time in (1000.0, 990.0):
        with pytest.raises(ValueError, match="expert 1 was not trained at .*; give it a part with less noise"):
            model(start(), here.schedule.at(torch.tensor(time)), [TEXT])


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Experts((), by_ratio())
    for edges in ((0.0,), (2.0, 1.0), (1.0, 1.0)):
        with pytest.raises(ValueError, match="rise"):
            by_ratio(*edges)
    with pytest.raises(ValueError, match="overlap"):
        by_progress((0.0, 0.5), (0.4, 1.0))
    with pytest.raises(ValueError, match="shares"):
        by_progress((0.5, 0.5))
    with pytest.raises(ValueError, match="progress"):
        by_progress((0.0, 0.5))(replace(PATH[0], progress=None))
    model = Experts((tiny_model(),), by_ratio(1.0))
    with pytest.raises(ValueError, match="expert 1"):
        model(start(), PATH[0], [TEXT])
    with pytest.raises(ValueError, match="one level"):
        model(start(), scaled_linear().at(torch.tensor([1.0, 2.0])), [TEXT])
