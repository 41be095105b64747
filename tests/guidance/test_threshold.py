"""What the sheet asks of thresholding, and diffusers' form of it."""

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.predict import noised, to_noise
from sfumato.core.sample import sample
from sfumato.core.steps import Ddim
from sfumato.guidance.threshold import Thresholded
from tests.parts import scaled_linear

LEVEL = scaled_linear().at(torch.tensor(500.0))


def images(scale: float) -> Tensor:
    return scale * Noise([0, 1, 2])((3, 3, 8, 8)).double()


def thresholded(x0: Tensor, quantile: float | None) -> Tensor:
    return Thresholded(lambda x, level: x0, quantile)(torch.zeros_like(x0), LEVEL)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.995, 1.0, None])
@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_estimates_lie_in_range_and_are_not_changed_twice(scale: float, quantile: float | None) -> None:
    once = thresholded(images(scale), quantile)
    assert once.abs().max() <= 1
    assert torch.equal(thresholded(once, quantile), once)


@pytest.mark.parametrize("quantile", [0.9, 1.0, None])
def test_what_is_in_range_stays(quantile: float | None) -> None:
    x0 = images(1.0).clamp(-1, 1)
    assert torch.equal(thresholded(x0, quantile), x0)


def test_quantile_one_divides_by_the_largest() -> None:
    x0 = images(3.0)
    torch.testing.assert_close(thresholded(x0, 1.0), x0 / x0.abs().amax((1, 2, 3), keepdim=True))


def test_a_larger_estimate_makes_no_difference() -> None:
    torch.testing.assert_close(thresholded(images(4.0), 0.9), thresholded(images(11.0), 0.9))


def test_images_do_not_mix() -> None:
    x0 = images(3.0)
    x0[1] *= 10
    together = thresholded(x0, 0.9)
    for index in range(3):
        assert torch.equal(thresholded(x0[index : index + 1], 0.9), together[index : index + 1])


@pytest.mark.parametrize("quantile", [0.5, 0.995])
def test_it_equals_diffusers(quantile: float) -> None:
    scheduler = DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=quantile, sample_max_value=1e9)
    torch.testing.assert_close(thresholded(images(3.0), quantile), scheduler._threshold_sample(images(3.0)))


def test_the_step_takes_its_noise_from_the_thresholded_estimate() -> None:
    x0, path = images(5.0), trailing(scaled_linear(), 4)
    denoise = Thresholded(lambda x, level: x0, 0.9)
    x = images(1.0)
    small = denoise(x, path[0])
    wanted = noised(small, to_noise(x, small, path[0]), path[1])
    torch.testing.assert_close(Ddim()(denoise, x, path[0], path[1], None, Noise([0, 1, 2]))[0], wanted)
    assert sample(denoise, x, path, noise=Noise([0, 1, 2])).abs().max() <= 1


def test_settings_out_of_range_are_refused() -> None:
    def estimate(x: Tensor, level: Level) -> Tensor:
        return x

    for quantile in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="quantile"):
            Thresholded(estimate, quantile)
