"""Both forms of CLIP guidance, with encoders and data whose answer is known."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.core.branch import Guided
from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.predict import add_score
from sfumato.core.sample import sample
from sfumato.core.schedules import CosineSchedule
from sfumato.core.steps import Ddim
from sfumato.guidance.classifier import ClassifierGuided
from sfumato.guidance.clip import CleanSimilarity, EstimateGuided, NoisySimilarity
from tests.parts import Gaussian, branch, counted, scaled_linear, start, tiny_model

LEVEL = scaled_linear().at(torch.tensor(500.0))
TARGET = F.normalize(torch.tensor([[1.0, 2.0, 0.0], [0.0, -1.0, 1.0]], dtype=torch.float64), dim=-1)
MATRIX = Noise([9])((1, 256, 3))[0].double()


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def encode(x: Tensor, level: Level | None = None) -> Tensor:
    shift = 0.0 if level is None else float(level.time) / 1000
    return F.normalize(x.flatten(1) @ MATRIX + shift, dim=-1)


def test_the_scores_are_a_hundred_cosines() -> None:
    x = start()
    noisy = NoisySimilarity(encode, TARGET)(x, LEVEL)
    torch.testing.assert_close(noisy, 100 * F.cosine_similarity(encode(x, LEVEL), TARGET))
    clean = CleanSimilarity(lambda x0: x0 / 2, encode, TARGET, 10.0)(x)
    torch.testing.assert_close(clean, 10 * F.cosine_similarity(encode(x / 2), TARGET))


def test_scale_zero_changes_nothing_and_levels_without_signal_are_left_alone() -> None:
    model, x = tiny_model(), start()
    plain = Guided(model, branch(1))
    score = CleanSimilarity(lambda x0: x0, encode, TARGET)
    assert torch.equal(EstimateGuided(plain, score, 0.0)(x, LEVEL), plain(x, LEVEL))
    noisy, data = CosineSchedule().at(torch.tensor(999.0)), Gaussian()
    assert torch.equal(EstimateGuided(data, score, 2.0)(x, noisy), data(x, noisy))


@pytest.mark.parametrize("scale", [0.02, torch.tensor([0.01, 0.05], dtype=torch.float64)], ids=["one", "per image"])
def test_the_gradient_goes_through_the_network(scale: float | Tensor) -> None:
    """Against finite differences of the whole way from x to the score, in a random direction."""
    model, x, step = tiny_model(), start(), 1e-5
    plain = Guided(model, branch(1))
    score = CleanSimilarity(lambda x0: x0, encode, TARGET)
    found = EstimateGuided(plain, score, scale)(x, LEVEL)
    shift = (found - plain(x, LEVEL)) * LEVEL.alpha / LEVEL.sigma**2
    along = start(first_seed=50)
    slope = (score(plain(x + step * along, LEVEL)) - score(plain(x - step * along, LEVEL))) / (2 * step)
    torch.testing.assert_close((shift * along).sum((1, 2, 3)), scale * slope, rtol=1e-4, atol=1e-6)


def test_scores_of_the_estimate_go_together_as_their_sum_and_not_one_in_the_other() -> None:
    plain = Guided(tiny_model(), branch(1))
    score = CleanSimilarity(lambda x0: x0, encode, TARGET, 1.0)
    with pytest.raises(ValueError, match="give one EstimateGuided the sum"):
        EstimateGuided(EstimateGuided(plain, score), score)(start(), LEVEL)


def test_it_costs_one_forward() -> None:
    model = tiny_model()
    with counted(model) as rows:
        EstimateGuided(Guided(model, branch(1)), CleanSimilarity(lambda x0: x0, encode, TARGET), 1.0)(start(), LEVEL)
    assert rows == [2]


def test_a_quadratic_score_of_the_estimate_moves_a_gaussian_as_it_should() -> None:
    """score = -k/2 (x0 - c)^2, x0 = m + g (x - alpha m): the gradient is -k g (x0 - c)."""
    data, strength, wanted = Gaussian(), 3.0, 0.2
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    found = EstimateGuided(data, lambda x0: -strength / 2 * ((x0 - wanted) ** 2).sum(-1))(x, LEVEL)
    gain = LEVEL.alpha * data.std**2 / (LEVEL.alpha**2 * data.std**2 + LEVEL.sigma**2)
    x0 = data(x, LEVEL)
    torch.testing.assert_close(found, add_score(x0, -strength * gain * (x0 - wanted), LEVEL), rtol=0, atol=1e-12)


def test_guidance_draws_samples_to_the_target_in_both_forms() -> None:
    noise, path = Noise(range(2)), trailing(scaled_linear(), 50)
    x = noise((2, 4, 8, 8)).double()
    data = Gaussian(0.0, 1.0)
    ends = [
        sample(denoise, x, path, Ddim(), noise=noise)
        for denoise in (
            data,
            ClassifierGuided(data, NoisySimilarity(lambda x, level: encode(x), TARGET), 0.3),
            EstimateGuided(data, CleanSimilarity(lambda x0: x0, encode, TARGET), 0.3),
        )
    ]
    plain, *guided = ((encode(end) * TARGET).sum(-1) for end in ends)
    for each in guided:
        assert (each > plain + 0.3).all()
