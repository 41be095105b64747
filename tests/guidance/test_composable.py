"""Identities of the formula, and Gaussians, whose product is known."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sfumato.core.branch import Branch, Guided, as_mix
from sfumato.core.condition import Condition
from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.predict import Prediction, from_x0, score
from sfumato.core.sample import sample
from sfumato.core.steps import Ddim
from sfumato.guidance.classifier_free import classifier_free
from sfumato.guidance.composable import composed
from sfumato.guidance.langevin import Langevin
from tests.parts import Gaussian, Gaussians, branch, counted, scaled_linear, start, tiny_model

NONE, RED, ROUND = branch(0), branch(1), branch(2)
LEVEL = scaled_linear().at(torch.tensor(500.0))


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


def test_special_cases() -> None:
    model, x = tiny_model(), start()

    def estimate(*concepts: tuple[Branch, float]) -> Tensor:
        return Guided(model, composed(NONE, *concepts))(x, LEVEL)

    close(estimate((RED, 7.5)), Guided(model, classifier_free(RED, NONE, 7.5))(x, LEVEL))
    close(estimate((RED, 0.0), (ROUND, 0.0)), Guided(model, NONE)(x, LEVEL))
    close(estimate((RED, 1.0)), Guided(model, RED)(x, LEVEL))
    close(estimate((RED, 2.0), (Branch(RED.condition), 3.0)), estimate((RED, 5.0)))
    close(estimate((RED, 2.0), (RED, -2.0)), estimate())
    close(estimate((RED, 2.0), (ROUND, -3.0)), estimate((ROUND, -3.0), (RED, 2.0)))
    close(estimate((RED, 2.0), (NONE, 9.0)), estimate((RED, 2.0)))
    negative_prompt = Guided(model, classifier_free(RED, ROUND, 7.5))(x, LEVEL)
    close(estimate((RED, 7.5), (ROUND, -6.5)), negative_prompt)


def test_it_prints_as_the_formula() -> None:
    assert repr(composed(NONE, (RED, 7.5), (ROUND, -2.0))) == "b0 + 7.5*(b1 - b0) + -2*(b2 - b0)"
    assert composed(NONE).weights == as_mix(NONE).weights


@pytest.mark.parametrize("kind", ["noise", "v", "x0"])
def test_the_formula_is_the_same_in_all_parametrisations(kind: Prediction) -> None:
    model, x, weights = tiny_model(kind), start(), (4.0, -2.5)
    found = Guided(model, composed(NONE, (RED, weights[0]), (ROUND, weights[1])))(x, LEVEL)
    none, *concepts = (model.raw(x, LEVEL, part.condition) for part in (NONE, RED, ROUND))
    output = none + sum(weight * (part - none) for weight, part in zip(weights, concepts, strict=True))
    close(from_x0(kind, found, x, LEVEL), output)


def test_all_concepts_share_one_forward_and_pictures_do_not_mix() -> None:
    model, x = tiny_model(), start()
    weight = torch.tensor([2.0, 5.0], dtype=torch.float64)
    with counted(model) as rows:
        together = Guided(model, composed(NONE, (RED, weight), (ROUND, -1.0)))(x, LEVEL)
    assert rows == [6]
    for index in range(2):
        none, red, round_ = (Branch(each.condition.rows([index])) for each in (NONE, RED, ROUND))
        mix = composed(none, (red, float(weight[index])), (round_, -1.0))
        close(Guided(model, mix)(x[index : index + 1], LEVEL), together[index : index + 1])


WIDE, LEFT, RIGHT = (Branch(Condition(), name=name) for name in ("wide", "left", "right"))
CONCEPTS = ((LEFT, 1.0), (RIGHT, 1.0))
WORLD = Gaussians({WIDE: Gaussian(0.0, 2.0), LEFT: Gaussian(-0.5, 1.0), RIGHT: Gaussian(1.5, 0.7)})
PRECISION = 1 / 4 + (1 / 1.0 - 1 / 4) + (1 / 0.49 - 1 / 4)
MEAN = (-0.5 / 1.0 + 1.5 / 0.49) / PRECISION


def test_the_score_of_gaussians_is_that_of_their_product_at_the_clean_end() -> None:
    level = Level(*torch.tensor([0.0, 1.0, 1e-4], dtype=torch.float64))
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    found = score(x, Guided(WORLD, composed(WIDE, *CONCEPTS))(x, level), level)
    torch.testing.assert_close(found, PRECISION * (MEAN - x), rtol=1e-3, atol=1e-3)


def test_langevin_steps_correct_the_composed_distribution() -> None:
    """Walking down alone ends beside the product, since sums of noised scores are not the noised product's."""
    denoise, path = Guided(WORLD, composed(WIDE, *CONCEPTS)), trailing(scaled_linear(), 60)

    def spread(step: Ddim | Langevin) -> tuple[float, float]:
        noise = Noise(range(8))
        x = sample(denoise, noise((8, 3000)).double(), path, step, noise=noise)
        return float(x.mean()), float(x.std())

    plain, corrected = spread(Ddim()), spread(Langevin(Ddim(), count=8, size=0.1))
    wanted = (MEAN, PRECISION**-0.5)
    for before, after, right in zip(plain, corrected, wanted, strict=True):
        assert abs(before - right) > 0.03
        assert abs(after - right) < 0.4 * abs(before - right)


def test_langevin_keeps_a_distribution_that_is_right_already() -> None:
    noise, data = Noise(range(8)), Gaussian()
    level = scaled_linear().at(torch.tensor(300.0))
    x = level.alpha * (0.7 + 0.3 * noise((8, 4000)).double()) + level.sigma * noise((8, 4000)).double()
    moved, _ = Langevin(lambda *given: (given[1], None), 20, 0.05)(data, x, level, level, None, noise)
    assert (moved - x).abs().mean() > 0.1
    assert moved.mean().item() == pytest.approx(x.mean().item(), abs=0.01)
    assert moved.std().item() == pytest.approx(x.std().item(), abs=0.02)


def test_langevin_counts_and_settings() -> None:
    model, path = tiny_model(), trailing(scaled_linear(), 3)
    with counted(model) as rows:
        sample(Guided(model, RED), start(), path, Langevin(Ddim(), 2), noise=Noise([0, 1]))
    assert len(rows) == 3 + 2 * 2, "none at the clean end"
    plain = sample(Guided(model, RED), start(), path, Ddim(), noise=Noise([0, 1]))
    assert torch.equal(sample(Guided(model, RED), start(), path, Langevin(Ddim(), 0), noise=Noise([0, 1])), plain)
    for count, size in ((-1, 0.1), (1, 0.0), (1, 1.5)):
        with pytest.raises(ValueError, match="count"):
            Langevin(Ddim(), count, size)
