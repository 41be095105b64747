"""Identities of the formula, Gaussians and mixtures, whose product is known, and a plain loop of diffusers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from sfumato.checkpoints.load import load
from sfumato.core.branch import Branch, Guided, Mix, as_mix
from sfumato.core.condition import Condition
from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.predict import Prediction, from_x0, score
from sfumato.core.sample import Record, sample
from sfumato.core.steps import Ddim
from sfumato.flows.steering import Concept
from sfumato.guidance.classifier_free import classifier_free
from sfumato.guidance.composable import composed
from sfumato.guidance.langevin import Langevin
from tests.guidance.test_classifier import LEFT as HILL_LEFT
from tests.guidance.test_classifier import RIGHT as HILL_RIGHT
from tests.guidance.test_classifier import log_density, of_mixture
from tests.parts import Gaussian, Gaussians, branch, counted, made, scaled_linear, start, tiny_model
from tests.tiny import write_sd1

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


BOTH, TILT = (Branch(Condition(), name=name) for name in ("both", "tilt"))
WIDTHS = {WIDE: Gaussian(0.0, 1.5), TILT: Gaussian(0.3, 0.6)}
HILLS = Gaussians({**WIDTHS, BOTH: of_mixture})
"""Two narrow hills at -1 and 1, and a wide one that favours the right; all within a wider one."""
GRID = torch.linspace(-4, 4, 8001, dtype=torch.float64)


def product() -> Tensor:
    """The density that both concepts ask for, both * tilt / wide, on the grid; sums to 1."""
    clean = scaled_linear().end
    both = torch.logaddexp(log_density(HILL_LEFT, GRID, clean), log_density(HILL_RIGHT, GRID, clean))
    tilt, wide = (log_density(WIDTHS[each], GRID, clean) for each in (TILT, WIDE))
    return (both + tilt - wide).softmax(0)


def noised_product(x: Tensor, level: Level) -> Tensor:
    """The exact estimate of data that has this density: its mean over the grid, given x (N,)."""
    given = product().log() - (x[:, None] - level.alpha * GRID) ** 2 / (2 * level.sigma**2)
    return (given.softmax(1) * GRID).sum(1)


def test_the_composed_score_is_the_product_s_at_the_clean_end_only() -> None:
    """Of mixtures, whose product is no Gaussian, too: the bias is large between, and vanishes as sigma^2."""
    denoise = Guided(HILLS, composed(WIDE, (BOTH, 1.0), (TILT, 1.0)))

    def bias(sigma: float) -> float:
        level = Level(*torch.tensor([0.0, (1 - sigma**2) ** 0.5, sigma], dtype=torch.float64))
        x = level.alpha * torch.linspace(-1.5, 1.5, 31, dtype=torch.float64)
        found, wanted = denoise(x[:, None], level)[:, 0], noised_product(x, level)
        return float((score(x, found, level) - score(x, wanted, level)).square().mean().sqrt())

    assert bias(0.01) < 0.01
    assert bias(0.02) == pytest.approx(4 * bias(0.01), rel=0.05)
    assert bias(0.3) > 0.5 and bias(0.6) > 0.3


def off_by(x: Tensor, density: Tensor) -> float:
    """How far the quantiles of x are from those of a density on the grid, on average."""
    shares = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    return float((x.quantile(shares) - GRID[torch.searchsorted(density.cumsum(0), shares)]).abs().mean())


def test_langevin_steps_lower_the_bias_of_composed_mixtures() -> None:
    """The more of them the more; the walk itself is not to blame, since one concept alone is reached."""
    path, composition = trailing(scaled_linear(), 60), composed(WIDE, (BOTH, 1.0), (TILT, 1.0))

    def reached(mix: Mix, step: Ddim | Langevin) -> Tensor:
        noise = Noise(range(8))
        return sample(Guided(HILLS, mix), noise((8, 1500)).double(), path, step, noise=noise).flatten()

    hills = torch.logaddexp(*(log_density(hill, GRID, path[-1]) for hill in (HILL_LEFT, HILL_RIGHT))).softmax(0)
    assert off_by(reached(composed(WIDE, (BOTH, 1.0)), Ddim()), hills) < 0.05
    plain, few, many = (
        off_by(reached(composition, step), product())
        for step in (Ddim(), Langevin(Ddim(), 2, 0.3), Langevin(Ddim(), 8, 0.3))
    )
    assert plain > 0.2
    assert few < 0.8 * plain and many < 0.8 * few


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


@pytest.mark.parametrize("weights", [(7.5, -3.0), (2.0, 3.0, -1.0)])
def test_pictures_are_those_of_a_plain_loop_of_diffusers(tmp_path: Path, weights: tuple[float, ...]) -> None:
    """As in its community pipeline: each prompt alone through the network, noises summed, DDIM; equal latents."""
    folder = write_sd1(tmp_path)
    theirs = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    scheduler.set_timesteps(4)

    def states(prompt: str) -> Tensor:
        ids = theirs.tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        return theirs.text_encoder(ids.input_ids)[0]

    def loop(seed: int, prompts: tuple[str, ...]) -> Tensor:
        x, contexts = Noise([seed])((1, 4, 16, 16)), [states(prompt) for prompt in ("", *prompts)]
        for time in scheduler.timesteps:
            none, *asked = (theirs.unet(x, time, context).sample for context in contexts)
            noise = none + sum(weight * (each - none) for weight, each in zip(weights, asked, strict=True))
            x = scheduler.step(noise, time, x).prev_sample
        return x

    asked = (("a red hat", "a blue cat"), ("two dogs", "a bird"), ("scarlet", "blurry"))[: len(weights)]
    concepts = tuple(Concept(texts, weight / weights[0]) for texts, weight in zip(asked[1:], weights[1:], strict=True))
    parts, records = load(folder), list[Record]()
    settings = {"guidance": weights[0], "steps": 4, "scheduler": "ddim"}
    made(parts, asked[0], [40, 41], concepts=concepts, watch=records.append, **settings)
    wanted = torch.cat([loop(seed, prompts) for seed, prompts in zip((40, 41), zip(*asked, strict=True), strict=True)])
    torch.testing.assert_close(records[-1].x, wanted, rtol=0, atol=1e-4)
    made(parts, asked[0], [40, 41], watch=records.append, **settings)
    assert (records[-1].x - wanted).abs().max() > 0.1, "the other concepts count"
