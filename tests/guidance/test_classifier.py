"""Classifiers whose gradient is known: linear, Gaussian, and of a mixture."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.predict import noised, to_noise
from sfumato.core.sample import sample
from sfumato.core.schedules import CosineSchedule
from sfumato.core.steps import Ddim
from sfumato.guidance.classifier import ClassifierGuided, gradient
from tests.parts import Gaussian, scaled_linear

LEVEL = scaled_linear().at(torch.tensor(500.0))
TOWARDS = torch.tensor([0.3, -1.2, 0.7, 0.1], dtype=torch.float64)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    """As in a flow: guidance must switch gradients on for itself."""
    with torch.no_grad():
        yield


def linear(x: Tensor, level: Level) -> Tensor:
    return x @ TOWARDS


def points(count: int = 3) -> Tensor:
    return Noise(range(count))((count, 4)).double()


def test_without_a_scale_or_an_opinion_nothing_changes() -> None:
    data, x = Gaussian(), points()
    assert torch.equal(ClassifierGuided(data, linear, 0.0)(x, LEVEL), data(x, LEVEL))
    for constant in (lambda x, level: torch.ones(len(x)), lambda x, level: (0 * x).sum(1)):
        assert torch.equal(ClassifierGuided(data, constant, 5.0)(x, LEVEL), data(x, LEVEL))


def test_the_noise_changes_by_sigma_times_the_gradient() -> None:
    """Algorithm 2 of the paper, ``condition_score`` of its code: noise - sigma * scale * gradient."""
    data, x = Gaussian(), points()
    plain, guided = (to_noise(x, denoise(x, LEVEL), LEVEL) for denoise in (data, ClassifierGuided(data, linear, 2.5)))
    torch.testing.assert_close(guided, plain - LEVEL.sigma * 2.5 * TOWARDS, rtol=0, atol=1e-12)


def test_stochastic_steps_agree_with_the_shifted_mean_of_the_paper_when_short() -> None:
    """Algorithm 1: the mean of x' moves by the posterior's variance times the gradient."""
    errors = []
    for gap in (20.0, 10.0, 5.0):
        low = scaled_linear().at(torch.tensor(500.0 - gap))
        x, data = points(), Gaussian()
        ends = [
            Ddim(1.0)(denoise, x, LEVEL, low, None, Noise(range(3)))[0]
            for denoise in (data, ClassifierGuided(data, linear, 2.0))
        ]
        variance = low.sigma**2 * (1 - (low.sigma * LEVEL.alpha / (LEVEL.sigma * low.alpha)) ** 2)
        shift = variance * 2.0 * TOWARDS
        errors.append(float(((ends[1] - ends[0] - shift).abs() / shift.abs()).max()))
    assert errors[2] < 0.6 * errors[1] < 0.4 * errors[0]


def test_the_exact_posterior_is_reached() -> None:
    """x0 ~ N(0, 1), y = x0 + 0.5 z: then x ~ N(0, 1) at every level, and p(y | x) is a Gaussian around alpha x."""
    y, spread = 1.3, 0.5

    def log_probability(x: Tensor, level: Level) -> Tensor:
        variance = spread**2 + level.sigma**2
        return (-((y - level.alpha * x) ** 2) / (2 * variance)).sum(-1)

    noise, path = Noise(range(8)), trailing(scaled_linear(), 400)
    mean, variance = y / (1 + spread**2), spread**2 / (1 + spread**2)
    posterior = mean + variance**0.5 * noise((8, 2000)).double()
    start = noised(posterior, noise((8, 2000)).double(), path[0])  # the first level still holds 7 % of the image
    denoise = ClassifierGuided(Gaussian(0.0, 1.0), log_probability, 1.0)
    for eta in (0.0, 1.0):
        found = sample(denoise, start, path, Ddim(eta), noise=noise)
        assert found.mean().item() == pytest.approx(mean, abs=0.02)
        assert found.var().item() == pytest.approx(variance, abs=0.02)


LEFT, RIGHT = Gaussian(-1.0, 0.3), Gaussian(1.0, 0.3)


def log_density(data: Gaussian, x: Tensor, level: Level) -> Tensor:
    variance = (level.alpha * data.std) ** 2 + level.sigma**2
    return -((x - level.alpha * data.mean) ** 2) / (2 * variance) - variance.log() / 2


def of_mixture(x: Tensor, level: Level) -> Tensor:
    """The exact denoiser of an even mixture: both estimates, weighted by their probability."""
    share = torch.sigmoid(log_density(RIGHT, x, level) - log_density(LEFT, x, level))
    return share * RIGHT(x, level) + (1 - share) * LEFT(x, level)


def log_right(x: Tensor, level: Level) -> Tensor:
    """The exact classifier of the mixture, log p(right | x)."""
    odds = log_density(RIGHT, x, level) - log_density(LEFT, x, level)
    return torch.nn.functional.logsigmoid(odds).sum(-1)


def test_guided_samples_of_a_mixture_are_those_of_the_class() -> None:
    """At scale 1 the guided distribution is the class itself; a larger scale draws it away from the other class."""
    noise, path = Noise(range(8)), trailing(scaled_linear(), 400)
    start = noise((8, 1000)).double()
    ends = {
        scale: sample(ClassifierGuided(of_mixture, log_right, scale), start, path, Ddim(), noise=noise)
        for scale in (0.0, 1.0, 10.0)
    }
    assert (ends[0.0] > 0).double().mean().item() == pytest.approx(0.5, abs=0.03)
    wanted = sample(RIGHT, start, path, Ddim(), noise=noise)
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert ends[1.0].quantile(quantile).item() == pytest.approx(wanted.quantile(quantile).item(), abs=0.02)
    assert ends[10.0].mean() > ends[1.0].mean() + 0.05
    assert ends[10.0].std() < ends[1.0].std()


def test_the_guided_estimate_of_the_mixture_is_the_class_s_own_at_every_level() -> None:
    x = torch.linspace(-2, 2, 7, dtype=torch.float64)[:, None]
    for time in (50.0, 400.0, 900.0):
        level = scaled_linear().at(torch.tensor(time))
        found = ClassifierGuided(of_mixture, log_right, 1.0)(x, level)
        torch.testing.assert_close(found, RIGHT(x, level), rtol=0, atol=1e-9)


def test_gradients_are_those_of_finite_differences_and_stay_in_their_image() -> None:
    def score(x: Tensor) -> Tensor:
        return (x.sin() * TOWARDS).sum(-1) ** 2

    x, step = points(), 1e-6
    found = gradient(score, x)
    for index in range(4):
        ahead = x.clone()
        ahead[:, index] += step
        torch.testing.assert_close(found[:, index], (score(ahead) - score(x)) / step, rtol=0, atol=1e-4)
    other = x.clone()
    other[0] += 1
    assert torch.equal(gradient(score, other)[1:], found[1:])
    assert not found.requires_grad


def test_one_scale_an_image_equals_one_run_each() -> None:
    x, scales = points(3), (0.0, 1.5, 4.0)
    found = ClassifierGuided(Gaussian(), linear, torch.tensor(scales, dtype=torch.float64))(x, LEVEL)
    for index, scale in enumerate(scales):
        one = ClassifierGuided(Gaussian(), linear, scale)(x[index : index + 1], LEVEL)
        torch.testing.assert_close(found[index : index + 1], one, rtol=0, atol=1e-12)


def test_levels_without_signal_are_left_alone() -> None:
    schedule = CosineSchedule()
    noisy, clean = schedule.at(torch.tensor(999.0)), schedule.at(torch.tensor(900.0))
    data, x = Gaussian(), points()
    guided = ClassifierGuided(data, linear, 2.0)
    assert torch.equal(guided(x, noisy), data(x, noisy))
    assert not torch.equal(guided(x, clean), data(x, clean))


def test_a_score_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="one number an image"):
        ClassifierGuided(Gaussian(), lambda x, level: x.sum(), 1.0)(points(), LEVEL)
