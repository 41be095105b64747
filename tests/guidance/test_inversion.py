"""Three ways up: where they agree, where diffusers stands, and that the fixed point is the exact inverse."""

from collections.abc import Iterator
from typing import cast

import pytest
import torch
from diffusers.schedulers.scheduling_ddim_inverse import DDIMInverseScheduler
from torch import Tensor

from sfumato.core.branch import Guided
from sfumato.core.noise import Noise
from sfumato.core.path import Path, trailing, uniform_log_snr
from sfumato.core.predict import Prediction
from sfumato.core.sample import sample
from sfumato.core.schedules import CosineSchedule, DiscreteSchedule
from sfumato.core.steps import Ddim
from sfumato.guidance.inversion import Inversion, Variant
from tests.parts import Gaussian, branch, counted, scaled_linear, start, tiny_model

NOISE = Noise([0, 1])
VARIANTS: tuple[Variant, ...] = ("plain", "target", "fixed_point")


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def round_trip(denoise: Guided | Gaussian, x0: Tensor, path: Path, step: Inversion) -> Tensor:
    inverted = sample(denoise, x0, path[::-1], step, noise=Noise(range(len(x0))))
    return sample(denoise, inverted, path, Ddim(), noise=Noise(range(len(x0))))


def test_the_fixed_point_comes_back_to_the_image_and_the_others_do_not() -> None:
    """A network whose answer hardly depends on x, so that the iteration contracts: a tenth of a random one."""
    model, x0 = tiny_model(), start(first_seed=30)
    for parameter in model.network.unet.conv_out.parameters():
        parameter.mul_(0.1)
    denoise, path = Guided(model, branch(1)), trailing(scaled_linear(), 10)
    errors = [float((round_trip(denoise, x0, path, Inversion(v, 30)) - x0).abs().max()) for v in VARIANTS]
    assert errors[2] < 1e-4
    assert min(errors[:2]) > 20 * errors[2]


@pytest.mark.parametrize("variant", ["plain", "target"])
def test_the_error_of_the_others_falls_with_the_length_of_the_steps(variant: str) -> None:
    data, noise = Gaussian(), Noise(range(4))
    x0 = 0.7 + 0.3 * noise((4, 500)).double()
    errors = []
    for steps in (50, 100, 200, 400):
        path = uniform_log_snr(scaled_linear(), steps)[:-1]
        found = round_trip(data, x0, path, Inversion(cast(Variant, variant)))
        errors.append(float((found - x0).abs().max()))
    assert all(fine < 0.7 * coarse for coarse, fine in zip(errors, errors[1:], strict=False)), errors


def test_gaussian_data_become_standard_noise() -> None:
    noise = Noise(range(8))
    x0 = 0.7 + 0.3 * noise((8, 1000)).double()
    path = trailing(scaled_linear(), 100)
    for variant in VARIANTS:
        found = sample(Gaussian(), x0, path[::-1], Inversion(variant), noise=noise)
        assert found.std().item() == pytest.approx(1, abs=0.1), variant
        assert (round_trip(Gaussian(), x0, path, Inversion(variant)) - x0).abs().max() < 0.15, variant


@pytest.mark.parametrize("kind", ["noise", "v", "x0"])
def test_target_equals_diffusers(kind: Prediction) -> None:
    """Their first step starts at the trained level below the first, so the comparison starts there, too."""
    names = {"noise": "epsilon", "v": "v_prediction", "x0": "sample"}
    steps, model, text = 10, tiny_model(kind), branch(1)
    schedule = cast(DiscreteSchedule, model.schedule)
    betas = 1 - schedule.alphas_cumprod / torch.cat([torch.ones(1), schedule.alphas_cumprod[:-1]])
    scheduler = DDIMInverseScheduler(
        trained_betas=betas.numpy(), prediction_type=names[kind], clip_sample=False, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(steps)
    theirs = start(first_seed=30)
    times = scheduler.timesteps.tolist()
    for time in times[1:]:
        output = model.raw(theirs, schedule.at(torch.tensor(float(time))), text.condition)
        theirs = scheduler.step(output, time, theirs).prev_sample
    path = [schedule.at(torch.tensor(float(time))) for time in times]
    ours = sample(Guided(model, text), start(first_seed=30), path, Inversion("target"), noise=NOISE)
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-5, atol=1e-5)


def test_plain_is_ddim_walked_backwards() -> None:
    model, path = tiny_model(), trailing(scaled_linear(), 6)[:-1]
    denoise = Guided(model, branch(1))
    ours = sample(denoise, start(), path[::-1], Inversion(), noise=NOISE)
    ddim = sample(denoise, start(), path[::-1], Ddim(), noise=NOISE)
    torch.testing.assert_close(ours, ddim, rtol=0, atol=1e-9)


def test_forwards() -> None:
    path = trailing(scaled_linear(), 3)[::-1]
    for step, each in ((Inversion(), 1), (Inversion("target"), 1), (Inversion("fixed_point", 4), 5)):
        model = tiny_model()
        with counted(model) as rows:
            sample(Guided(model, branch(1)), start(), path, step, noise=NOISE)
        assert len(rows) == 3 * each


def test_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown variant"):
        Inversion(cast(Variant, "exact"))
    with pytest.raises(ValueError, match="iterations"):
        Inversion("fixed_point", 0)
    with pytest.raises(ValueError, match="in reverse"):
        sample(Gaussian(), start(), trailing(scaled_linear(), 3), Inversion(), noise=NOISE)


def test_the_fixed_point_is_exact_from_pure_noise_too() -> None:
    """At the last step up x is all noise; an iteration on the noise in it would stand still there."""
    path = trailing(CosineSchedule(), 10)
    assert float(path[0].alpha) < 0.01
    exact, noise = Gaussian(0.7, 0.5), Noise([3])
    x0 = noise((1, 3, 8, 8)).double()
    start = sample(exact, x0, path[::-1], Inversion("fixed_point", 30), noise=noise)
    back = sample(exact, start, path, Ddim(), noise=noise)
    torch.testing.assert_close(back, x0, rtol=0, atol=1e-6)
