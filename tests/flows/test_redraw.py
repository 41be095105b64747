"""Redrawing: diffusers' image-to-image, the share of the path, what a mask keeps, and Gaussian data in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import StableDiffusionImg2ImgPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor

from sfumato.checkpoints.load import Parts, load
from sfumato.core.branch import Branch
from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.path import suffix
from sfumato.core.predict import noised
from sfumato.core.sample import Record
from sfumato.flows.redraw import Redraw, redraw
from sfumato.flows.steering import Concept, Expert
from sfumato.flows.text_to_image import text_to_image
from sfumato.flows.walk import Like, Walk, sampler_of
from sfumato.guidance.attend_and_excite import Excite
from tests.parts import Gaussian, counted, sorted_settings
from tests.tiny import ZERO_SNR, write_sd1, write_sd2

PROMPTS = ["a red hat", "two blue cats, and a scarlet dog"]
SCHEDULERS = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}
IMAGES = Noise([7, 8]).uniform((2, 3, 32, 32)).float() * 2 - 1
LEFT = (torch.arange(32) < 16).float().expand(1, 1, 32, 32)
"""1 in the left half, which is redrawn."""


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sd1(tmp_path_factory.mktemp("sd1"))


@pytest.fixture(scope="module")
def theirs(sd1: Path) -> Any:
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(sd1, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def redrawn(parts: Parts, given: Redraw, prompts: Sequence[str] = PROMPTS, **settings: Any) -> Tensor:
    defaults = {"steps": 5, "guidance": 3.0, "seeds": range(40, 40 + len(prompts))}
    return redraw(parts, given, prompts, **sorted_settings({**defaults, **settings}))


@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_it_equals_image_to_image_of_diffusers(sd1: Path, theirs: Any, scheduler: str, strength: float) -> None:
    """Both are given the mean of the autoencoder's posterior, so that the first draw of a seed is the noise."""
    parts = load(sd1)
    theirs.scheduler = SCHEDULERS[scheduler].from_config({**parts.scheduler})
    with torch.no_grad():
        latents = parts.codec.encode(IMAGES)
    wanted = theirs(
        PROMPTS,
        latents,
        strength,
        num_inference_steps=10,
        guidance_scale=5.0,
        generator=[torch.Generator().manual_seed(seed) for seed in (40, 41)],
        output_type="pt",
    ).images
    ours = redrawn(parts, Redraw(IMAGES, strength), guidance=5.0, steps=10, scheduler=scheduler)
    assert (ours - (wanted * 2 - 1)).abs().max() < 1e-4
    assert ours.std() > 0.1, "a flat picture proves nothing"


def test_a_share_of_the_steps_is_walked_at_least_one_and_as_many_as_in_diffusers(theirs: Any, pixels: Parts) -> None:
    theirs.scheduler, given = DDIMScheduler(), IMAGES[:1, :, :8, :8]
    for steps in (1, 3, 7, 10):
        theirs.scheduler.set_timesteps(steps)
        for strength in (0.01, 0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 0.99, 1.0):
            with counted(pixels.model) as rows:
                redrawn(pixels, Redraw(given, strength), PROMPTS[:1], steps=steps, guidance=1.0)
            _, walked = theirs.get_timesteps(steps, strength, "cpu")
            assert len(rows) == max(1, int(steps * strength)) == max(1, walked), (steps, strength)


def test_rounding_costs_no_step(pixels: Parts) -> None:
    """0.29 * 100 is 28.999999999999996, of which diffusers walks 28."""
    with counted(pixels.model) as rows:
        redrawn(pixels, Redraw(IMAGES[:1, :, :8, :8], 0.29), PROMPTS[:1], steps=100, guidance=1.0)
    assert len(rows) == 29


@pytest.mark.parametrize("scheduler", ["ddim", "euler_a", "dpmpp_2m", "unipc"])
def test_what_is_kept_is_at_the_level_that_was_reached(pixels: Parts, scheduler: str) -> None:
    records: list[Record] = []
    given = Redraw(IMAGES, 0.6, torch.zeros(1, 1, 32, 32))
    assert torch.equal(redrawn(pixels, given, scheduler=scheduler, watch=records.append), IMAGES)
    noise = Noise([40, 41]).fork("known")
    for record in records[:-1]:
        wanted = noised(IMAGES, noise.like(IMAGES), record.level)
        torch.testing.assert_close(record.x, wanted, rtol=0, atol=1e-6)
    levels = [record.level for record in records]
    assert len(levels) == 3 and all(float(a.ratio) > float(b.ratio) for a, b in zip(levels, levels[1:], strict=False))


def test_the_start_is_the_picture_noised_to_the_first_level_walked(parts: Parts) -> None:
    """A strength of one step, by an expert that answers with x itself, shows what x was."""
    seen: list[tuple[Tensor, Level]] = []

    class Asked:
        schedule = parts.model.schedule

        def __call__(self, x: Tensor, level: Level, branches: Sequence[Branch]) -> tuple[Tensor, ...]:
            seen.append((x, level))
            return (x,) * len(branches)

    redrawn(parts, Redraw(IMAGES, 0.6), experts=(Expert(Asked(), 0.0, 1.0),))
    with torch.no_grad():
        known = parts.codec.encode(IMAGES)
    x, level = seen[0]
    first = suffix(sampler_of(parts, Walk(5)).path, 0.6)[0]
    assert float(level.time) == float(first.time) and level.progress == pytest.approx(0.4)
    assert torch.equal(x, noised(known, Noise([40, 41]).like(known), first))


def test_the_part_outside_the_mask_is_kept_and_the_other_is_redrawn(parts: Parts, pixels: Parts) -> None:
    found = redrawn(pixels, Redraw(IMAGES, 0.8, LEFT))
    assert torch.equal(found[..., 16:], IMAGES[..., 16:])
    assert (found - IMAGES)[..., :16].abs().mean() > 0.1
    records: list[Record] = []
    redrawn(parts, Redraw(IMAGES, 0.8, LEFT), watch=records.append)
    with torch.no_grad():
        known = parts.codec.encode(IMAGES)
    assert torch.equal(records[-1].x[..., 8:], known[..., 8:])
    assert (records[-1].x - known)[..., :8].abs().mean() > 0.1


def test_pasting_keeps_the_part_outside_the_mask_to_the_pixel(parts: Parts) -> None:
    plain, pasted = (redrawn(parts, Redraw(IMAGES, 0.8, LEFT, paste)) for paste in (False, True))
    assert torch.equal(pasted[..., 16:], IMAGES[..., 16:]) and not torch.equal(plain[..., 16:], IMAGES[..., 16:])
    torch.testing.assert_close(pasted[..., :16], plain[..., :16], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="there is no mask: all of the picture is redrawn"):
        Redraw(IMAGES, paste=True)


def test_all_redrawn_is_no_mask(pixels: Parts) -> None:
    everywhere = redrawn(pixels, Redraw(IMAGES, 0.6, torch.ones(2, 1, 32, 32)))
    torch.testing.assert_close(everywhere, redrawn(pixels, Redraw(IMAGES, 0.6)), rtol=0, atol=1e-5)


def test_the_whole_path_from_pure_noise_knows_nothing_of_the_picture(tmp_path: Path) -> None:
    parts = load(write_sd2(tmp_path / "sd2", **ZERO_SNR))
    made = text_to_image(parts, PROMPTS, **sorted_settings({"seeds": [40, 41], "steps": 4, "guidance": 3.0}))
    one, other = (redrawn(parts, Redraw(images, 1.0), steps=4) for images in (IMAGES, -IMAGES))
    assert torch.equal(one, other)
    torch.testing.assert_close(one, made, rtol=0, atol=1e-5)


MEAN, STD, GUIDES = 0.1, 0.15, (-0.2, 0.4)


def exact(pixels: Parts) -> Expert:
    """The denoiser of Gaussian data, whose pictures stay in range, for the whole path."""
    gaussian = Gaussian(MEAN, STD)

    class Known:
        schedule = pixels.model.schedule

        def __call__(self, x: Tensor, level: Level, branches: Sequence[Branch]) -> tuple[Tensor, ...]:
            return tuple(gaussian(x, level) for _ in branches)

    return Expert(Known(), 0.0, 1.0)


def ends(pixels: Parts, strength: float, scheduler: str, count: int = 8) -> tuple[Tensor, Tensor]:
    """Each of two flat guides redrawn ``count`` times by the exact denoiser of Gaussian data, with the same seeds."""
    settings = {"steps": 100, "scheduler": scheduler, "guidance": 1.0, "experts": (exact(pixels),)}
    guides = (torch.full((1, 3, 64, 64), value) for value in GUIDES)
    return tuple(redrawn(pixels, Redraw(guide, strength), ["apple"] * count, **settings) for guide in guides)


@pytest.mark.parametrize("mask", [None, LEFT], ids=["all", "left"])
def test_repeats_are_as_many_redrawings_each_of_what_the_last_left(pixels: Parts, mask: Tensor | None) -> None:
    images, seeds, records = IMAGES / 2, [40, 41], list[Record]()
    settings = {"steps": 5, "guidance": 1.0, "experts": (exact(pixels),)}
    thrice = redrawn(pixels, Redraw(images, 0.6, mask, repeats=3), seeds=seeds, watch=records.append, **settings)
    made = [images]
    for repeat in range(3):
        own = Noise(seeds).fork(f"repeat {repeat}").seeds if repeat else seeds
        made.append(redrawn(pixels, Redraw(made[-1], 0.6, mask), seeds=own, **settings))
    torch.testing.assert_close(thrice, made[-1], rtol=0, atol=1e-5)
    assert len(records) == 3 * 3 and all((one - other).abs().max() > 0.01 for one, other in pairwise(made))
    if mask is not None:
        torch.testing.assert_close(thrice[..., 16:], images[..., 16:], rtol=0, atol=1e-6)


def gain_of(pixels: Parts, strength: float) -> float:
    """The share of a guide's difference from the mean that the ODE keeps."""
    level = suffix(sampler_of(pixels, Walk(100)).path, strength)[0]
    alpha, sigma = float(level.alpha), float(level.sigma)
    return alpha * STD / (alpha**2 * STD**2 + sigma**2) ** 0.5


@pytest.mark.parametrize("strength", [0.2, 0.4])
@pytest.mark.parametrize(
    ("scheduler", "power"),
    [*((name, 1) for name in ("ddim", "heun", "dpmpp_2m", "unipc")), ("euler_a", 2), ("DDPMScheduler", 2)],
)
def test_of_gaussian_data_a_known_share_of_the_guide_is_kept(
    pixels: Parts, scheduler: str, power: int, strength: float
) -> None:
    """The share is the gain of the ODE, and its square with fresh noise, which so forgets more of the guide."""
    wanted = gain_of(pixels, strength) ** power
    low, high = ends(pixels, strength, scheduler)
    kept = (high - low) / (GUIDES[1] - GUIDES[0])
    assert kept.std() < 1e-3, "the same seeds add the same noise"
    assert kept.mean().item() == pytest.approx(wanted, rel=0.06)
    for found, guide in zip((low, high), GUIDES, strict=True):
        assert (found.mean() - MEAN).item() == pytest.approx(wanted * (guide - MEAN), rel=0.15)
        assert found.std().item() == pytest.approx(STD * (1 - wanted**2) ** 0.5, rel=0.15), "the rest is of the data"


@pytest.mark.parametrize(("scheduler", "power"), [("ddim", 1), ("dpmpp_2m", 1), ("euler_a", 2), ("DDPMScheduler", 2)])
def test_with_the_strength_the_distance_to_the_guide_rises_and_that_to_the_data_falls(
    pixels: Parts, scheduler: str, power: int
) -> None:
    """By the kept share g: (1 - g)^2 (guide - mean)^2 + (1 - g^2) std^2 a pixel, and |g| |guide - mean|."""
    strengths = (0.1, 0.2, 0.4, 0.8)
    found = [ends(pixels, strength, scheduler) for strength in strengths]
    for index, guide in enumerate(GUIDES):
        distances = [(pictures[index] - guide).square().mean().item() for pictures in found]
        gaps = [abs(pictures[index].mean().item() - MEAN) for pictures in found]
        assert all(less < 0.95 * more for less, more in pairwise(distances)), distances
        assert all(more > 1.5 * less for more, less in pairwise(gaps)), gaps
        for strength, distance in zip(strengths, distances, strict=True):
            kept = gain_of(pixels, strength) ** power
            wanted = (1 - kept) ** 2 * (guide - MEAN) ** 2 + (1 - kept**2) * STD**2
            assert distance == pytest.approx(wanted, rel=0.1), strength


@pytest.mark.parametrize("scheduler", ["KDPM2DiscreteScheduler", "PNDMScheduler"])
def test_a_scheduler_that_looks_twice_a_step_walks_the_whole_path_or_is_refused(pixels: Parts, scheduler: str) -> None:
    """Begun in the middle it would be elsewhere than x is, and end in noise."""
    low, _ = ends(pixels, 1.0, scheduler, count=1)
    assert low.mean().item() == pytest.approx(MEAN, abs=0.02) and low.std().item() == pytest.approx(STD, abs=0.02)
    with pytest.raises(ValueError, match="looks twice a step, so it can be walked from its first level only"):
        ends(pixels, 0.5, scheduler)


def test_a_picture_does_not_depend_on_its_neighbours(parts: Parts) -> None:
    masks = torch.cat([LEFT, 1 - LEFT])
    for scheduler in ("ddim", "euler_a", "dpmpp_2m"):
        together = redrawn(parts, Redraw(IMAGES, 0.6, masks), scheduler=scheduler)
        alone = redrawn(parts, Redraw(IMAGES[1:], 0.6, masks[1:]), PROMPTS[1:], scheduler=scheduler, seeds=[41])
        torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-4)
        assert (together[0] - together[1]).abs().max() > 0.05
    served = redrawn(parts, Redraw(IMAGES[:1], 0.6))
    torch.testing.assert_close(served[:1], redrawn(parts, Redraw(IMAGES, 0.6))[:1], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance": 6.0},
        {"guidance": (1.0, 6.0)},
        {"negative": "blurry photo"},
        {"concepts": (Concept("apple"), Concept("blurry", -0.5))},
        {"interval": (0.5, 0.9)},
        {"perturb": 3.0},
        {"rescale": 0.7},
        {"project": 0.0},
        {"like": Like(-IMAGES[:1], 8, 1.0)},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_steering_composes_with_it_at_one_forward_a_step(parts: Parts, settings: dict[str, Any]) -> None:
    given = Redraw(IMAGES, 0.6, LEFT)
    redrawn(parts, given, **settings)
    with counted(parts.model) as rows:
        found = redrawn(parts, given, **settings)
    assert len(rows) == 3 and found.isfinite().all()
    assert (found - redrawn(parts, given)).abs().max() > 1e-3


@pytest.mark.parametrize("strength", [0.0, -0.5, 1.01, float("nan")])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match=r"strength must lie in \(0, 1\]"):
        Redraw(IMAGES, strength)


@pytest.mark.parametrize(
    ("given", "change", "sentence"),
    [
        ({"mask": torch.zeros(3, 1, 32, 32)}, {}, "the mask must have shape"),
        ({"mask": torch.full((1, 1, 32, 32), 2.0)}, {}, r"the mask must lie in \[0, 1\]"),
        ({"images": IMAGES.repeat(2, 1, 1, 1)[:3]}, {}, "3 given pictures for 2 to be made"),
        ({"images": 2 * IMAGES}, {}, r"images must lie in \[-1, 1\]"),
        ({"images": IMAGES[..., :31]}, {}, "multiples of 2"),
        ({}, {"start": torch.zeros(2, 4, 16, 16)}, "a start from an inversion is for text_to_image"),
        ({}, {"seeds": [1]}, "one seed for each"),
        ({}, {"steps": 0}, "steps must lie in"),
        ({}, {"langevin": -1}, "langevin must be at least 0"),
        ({}, {"like": Like(IMAGES, 3)}, "a multiple of 2 pixels"),
        ({"strength": 0.2}, {"like": Like(IMAGES, 8, 0.8)}, "from 0.8 on is walked, and the picture to follow would"),
        ({"strength": 0.4}, {"excite": Excite(("hat",))}, "from 0.6 on is walked, and the words to excite would act"),
        ({"strength": 0.4}, {"interval": (0.1, 0.6)}, "from 0.6 on is walked, and guidance in its interval would act"),
        ({}, {"like": Like(IMAGES[..., :16], 8)}, "the picture to follow is 16x32 and those to be made 32x32; resize"),
        ({"strength": 1.0}, {"like": Like(IMAGES, 8), "scheduler": "PNDMScheduler"}, "a picture to follow would not"),
    ],
)
def test_mistakes_are_refused(parts: Parts, given: dict[str, Any], change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        redrawn(parts, Redraw(**{"images": IMAGES, **given}), **change)


def test_an_expert_of_what_is_not_walked_is_refused(parts: Parts) -> None:
    with pytest.raises(ValueError, match=r"from 0.6 on is walked, and an expert would act up to 0.6, so not at all"):
        redrawn(parts, Redraw(IMAGES, 0.4), experts=(Expert(parts.model, 0.0, 0.6),))
    reached = redrawn(parts, Redraw(IMAGES, 0.4), experts=(Expert(parts.model, 0.0, 0.7),), interval=(0.0, 0.7))
    assert reached.isfinite().all()


def test_no_repeats_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        Redraw(IMAGES, repeats=0)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="give a mask of the same size"):
        Redraw(IMAGES, 0.5, torch.zeros(1, 1, 16, 16))
