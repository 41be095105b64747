"""Inpainting: diffusers' blending, what is known stays, resampling fits the new part to it, and outpainting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint import StableDiffusionInpaintPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from sfumato.checkpoints.load import Parts, load
from sfumato.core.branch import Branch
from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.path import bumps
from sfumato.core.predict import noised
from sfumato.core.sample import Record, sample
from sfumato.core.steps import goes_up
from sfumato.flows.inpaint import Inpaint, extended, inpaint
from sfumato.flows.prompts import prompted
from sfumato.flows.steering import Concept, Expert, Steering, steered
from sfumato.flows.text_to_image import text_to_image
from sfumato.flows.walk import Like, Walk, sampler_of
from sfumato.guidance.inpaint import KeepKnown, latent_mask
from sfumato.samplers.schedule import schedule_of
from tests.parts import Gaussian, counted, sorted_settings
from tests.tiny import write_sd1

PROMPTS = ["a red hat", "two blue cats, and a scarlet dog"]
IMAGES = Noise([7, 8]).uniform((2, 3, 32, 32)).float() * 2 - 1
LEFT = (torch.arange(32) < 16).float().expand(1, 1, 32, 32)
"""1 in the left half, which is made anew."""


def inpainted(parts: Parts, given: Inpaint, prompts: Sequence[str] = PROMPTS, **settings: Any) -> Tensor:
    defaults = {"steps": 4, "guidance": 3.0, "seeds": range(40, 40 + len(prompts))}
    return inpaint(parts, given, prompts, **sorted_settings({**defaults, **settings}))


class Same(Noise):
    """The first draw, again and again: diffusers puts the known part back with the noise that it began with."""

    def like(self, x: Tensor) -> Tensor:
        return Noise(self.seeds)(x.shape).to(x)


@pytest.mark.parametrize("clean", [True, False], ids=["clean end", "as published"])
def test_it_equals_the_blending_of_diffusers(tmp_path: Path, clean: bool) -> None:
    """Inpainting with a U-Net that was not trained for it, from pure noise; the mask is that of whole latents."""
    folder = write_sd1(tmp_path / "sd1")
    theirs, loaded = StableDiffusionInpaintPipeline.from_pretrained(folder, safety_checker=None), load(folder)
    settings = {**loaded.scheduler, "set_alpha_to_one": clean}
    parts = replace(loaded, scheduler=settings, model=replace(loaded.model, schedule=schedule_of(settings)))
    theirs.scheduler = DDIMScheduler.from_config(settings)
    theirs.set_progress_bar_config(disable=True)
    with torch.no_grad():
        known = parts.codec.encode(IMAGES)
        wanted = theirs(
            PROMPTS,
            known,
            LEFT,
            known,
            strength=1.0,
            num_inference_steps=8,
            guidance_scale=5.0,
            generator=[torch.Generator().manual_seed(seed) for seed in (40, 41)],
            output_type="pt",
        ).images
        sampler = sampler_of(parts, Walk(8))
        text = prompted(parts, PROMPTS, (32, 32))
        denoise = steered(parts, text.branch, (32, 32), Steering(5.0), sampler.path)
        keep = KeepKnown(known, latent_mask(LEFT, 16, 16), Same([40, 41]))
        start, noise = Noise([40, 41]).like(known), Noise([40, 41])
        ours = parts.codec.decode(sample(denoise, start, sampler.path, sampler.step, noise=noise, after=[keep]))
    assert (ours - (wanted * 2 - 1)).abs().max() < 1e-4
    assert ours.std() > 0.1, "a flat picture proves nothing"


@pytest.mark.parametrize("scheduler", ["ddim", "heun", "euler_a", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("repaint", [1, 2])
def test_known_pixels_are_exact(pixels: Parts, scheduler: str, repaint: int) -> None:
    found = inpainted(pixels, Inpaint(IMAGES, LEFT, repaint, 1), scheduler=scheduler)
    assert torch.equal(found[..., 16:], IMAGES[..., 16:])
    assert (found - IMAGES)[..., :16].abs().mean() > 0.1 and found.isfinite().all()


def test_known_latents_are_exact_and_pasted_pixels(parts: Parts) -> None:
    """A cell is known only if all its pixels are, so the edge of a mask may stand anywhere."""
    mask = (torch.arange(32) < 15).float().expand(1, 1, 32, 32)
    records: list[Record] = []
    plain = inpainted(parts, Inpaint(IMAGES, mask), watch=records.append)
    with torch.no_grad():
        known = parts.codec.encode(IMAGES)
    assert torch.equal(records[-1].x[..., 8:], known[..., 8:])
    assert (records[-1].x - known)[..., :8].abs().mean() > 0.1
    pasted = inpainted(parts, Inpaint(IMAGES, mask, paste=True))
    assert torch.equal(pasted[..., 15:], IMAGES[..., 15:])
    torch.testing.assert_close(pasted[..., :15], plain[..., :15], rtol=0, atol=1e-6)
    assert not torch.equal(plain[..., 15:], IMAGES[..., 15:])


def test_all_known_is_the_picture_and_nothing_known_is_text_to_image(pixels: Parts) -> None:
    assert torch.equal(inpainted(pixels, Inpaint(IMAGES, torch.zeros(1, 1, 32, 32))), IMAGES)
    found = inpainted(pixels, Inpaint(IMAGES, torch.ones(1, 1, 32, 32)))
    made = text_to_image(pixels, PROMPTS, **sorted_settings({"seeds": [40, 41], "steps": 4, "guidance": 3.0}))
    torch.testing.assert_close(found, made, rtol=0, atol=1e-5)


def test_what_is_known_is_at_the_level_that_was_reached(pixels: Parts) -> None:
    records: list[Record] = []
    inpainted(pixels, Inpaint(IMAGES, LEFT, repaint=2, stretch=1), watch=records.append)
    noise = Noise([40, 41]).fork("known")
    for record in records[:-1]:
        wanted = noised(IMAGES, noise.like(IMAGES), record.level) if record.level.sigma > 0 else IMAGES
        torch.testing.assert_close(record.x[..., 16:], wanted[..., 16:], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("repaint", "stretch"), [(1, 2), (2, 1), (3, 2), (10, 3), (2, 5)])
def test_forwards_are_the_steps_down_of_the_bumpy_path(pixels: Parts, repaint: int, stretch: int) -> None:
    given = Inpaint(IMAGES[..., :8, :8], LEFT[..., :8, :8], repaint, stretch)
    path = bumps(sampler_of(pixels, Walk(6)).path, stretch, repaint)
    records: list[Record] = []
    with counted(pixels.model) as rows:
        inpainted(pixels, given, steps=6, watch=records.append)
    assert len(records) == len(path) - 1
    assert len(rows) == sum(not goes_up(level, next_level) for level, next_level in pairwise(path))
    assert len(rows) <= repaint * 6


def answering(parts: Parts, denoise: Callable[[Tensor, Level], Tensor]) -> Expert:
    """A model that knows a denoiser, for the whole path and whatever the branch."""

    class Known:
        schedule = parts.model.schedule

        def __call__(self, x: Tensor, level: Level, branches: Sequence[Branch]) -> tuple[Tensor, ...]:
            return tuple(denoise(x, level) for _ in branches)

    return Expert(Known(), 0.0, 1.0)


def of_one_colour(x: Tensor, level: Level, spread: float = 0.4, grain: float = 0.05) -> Tensor:
    """The exact denoiser of pictures of one colour, each channel N(0, spread^2), with a grain of N(0, grain^2)."""
    colour, count = x.mean(dim=(-2, -1), keepdim=True), x.shape[-2] * x.shape[-1]
    each = level.alpha * grain**2 / (level.alpha**2 * grain**2 + level.sigma**2)
    variance = spread**2 + grain**2 / count
    return each * (x - colour) + level.alpha * variance / (level.alpha**2 * variance + level.sigma**2 / count) * colour


def test_resampling_fits_the_new_part_to_the_known_one(pixels: Parts) -> None:
    """The known half is of one colour, and so is the other by Bayes' rule; plain blending comes to it half way."""
    image = torch.tensor([0.5, -0.5, 0.3]).reshape(1, 3, 1, 1).expand(1, 3, 32, 32)
    settings = {"guidance": 1.0, "scheduler": "euler_a", "experts": (answering(pixels, of_one_colour),), "steps": 50}
    errors = []
    for repaint in (1, 3, 10):
        found = inpainted(pixels, Inpaint(image, LEFT, repaint, 5), PROMPTS[:1], **settings)
        errors.append(float((found - image)[..., :16].mean(dim=(-2, -1)).abs().max()))
    assert errors[0] > 2 * errors[1] and errors[2] < 0.03, errors


@pytest.mark.parametrize("repaint", [1, 3])
@pytest.mark.parametrize("scheduler", ["ddim", "heun", "euler_a", "dpmpp_2m", "unipc", "DDPMScheduler"])
def test_the_new_part_of_gaussian_data_is_of_the_data(pixels: Parts, scheduler: str, repaint: int) -> None:
    settings = {"guidance": 1.0, "experts": (answering(pixels, Gaussian(0.1, 0.15)),), "steps": 60}
    found = inpainted(pixels, Inpaint(IMAGES, LEFT, repaint, 5), scheduler=scheduler, **settings)[..., :16]
    assert found.mean().item() == pytest.approx(0.1, abs=0.02)
    assert found.std().item() == pytest.approx(0.15, abs=0.03)


@pytest.mark.parametrize("scheduler", ["KDPM2DiscreteScheduler", "PNDMScheduler"])
def test_a_scheduler_that_looks_twice_a_step_is_not_walked_up(pixels: Parts, scheduler: str) -> None:
    with pytest.raises(ValueError, match="looks twice a step, so it can be walked from its first level only"):
        inpainted(pixels, Inpaint(IMAGES, LEFT, 2, 1), scheduler=scheduler)


def test_a_picture_does_not_depend_on_its_neighbours(parts: Parts) -> None:
    masks = torch.cat([LEFT, 1 - LEFT])
    for scheduler in ("ddim", "euler_a", "dpmpp_2m"):
        together = inpainted(parts, Inpaint(IMAGES, masks, 2, 1, paste=True), scheduler=scheduler)
        alone = Inpaint(IMAGES[1:], masks[1:], 2, 1, paste=True)
        found = inpainted(parts, alone, PROMPTS[1:], scheduler=scheduler, seeds=[41])
        torch.testing.assert_close(together[1:], found, rtol=0, atol=1e-4)
    served = inpainted(parts, Inpaint(IMAGES[:1], LEFT, paste=True))
    torch.testing.assert_close(served[:1], inpainted(parts, Inpaint(IMAGES, LEFT, paste=True))[:1], rtol=0, atol=1e-4)
    assert served.shape == IMAGES.shape and (served[0] - served[1]).abs().max() > 0.05


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance": (1.0, 6.0)},
        {"negative": "blurry photo"},
        {"concepts": (Concept("apple"), Concept("blurry", -0.5))},
        {"interval": (0.2, 0.6)},
        {"perturb": 3.0},
        {"rescale": 0.7},
        {"project": 0.0},
        {"threshold": 0.9},
        {"like": Like(-IMAGES[:1], 8, 1.0)},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_steering_composes_with_it_at_one_forward_a_step(pixels: Parts, settings: dict[str, Any]) -> None:
    """What is known stays exact beside a picture that is followed, too, since it is put back last."""
    given = Inpaint(IMAGES, LEFT)
    inpainted(pixels, given, **settings)
    with counted(pixels.model) as rows:
        found = inpainted(pixels, given, **settings)
    assert len(rows) == 4 and torch.equal(found[..., 16:], IMAGES[..., 16:])
    assert (found - inpainted(pixels, given)).abs().max() > 1e-3


def test_outpainting_makes_a_border_and_keeps_the_picture(parts: Parts, pixels: Parts) -> None:
    images, mask = extended(IMAGES, left=8, right=0, top=4, bottom=12)
    assert images.shape == (2, 3, 48, 40) and mask.shape == (1, 1, 48, 40)
    assert torch.equal(images[..., 4:36, 8:], IMAGES) and mask.unique().tolist() == [0, 1]
    assert mask.sum() == 48 * 40 - 32 * 32 and not mask[..., 4:36, 8:].any()
    assert torch.equal(images[..., 4:36, 0], IMAGES[..., 0]) and torch.equal(images[..., 47, 8:], IMAGES[..., 31, :])
    found = inpainted(pixels, Inpaint(images, mask))
    assert torch.equal(found[..., 4:36, 8:], IMAGES)
    border = mask.bool().expand_as(found)
    assert (found - images)[border].abs().mean() > 0.1
    pasted = inpainted(parts, Inpaint(images, mask, paste=True))
    assert pasted.shape == images.shape and torch.equal(pasted[..., 4:36, 8:], IMAGES)


@pytest.mark.parametrize("border", [(0, 0, 0, 0), (8, -1, 0, 0)])
def test_no_border_or_a_negative_one_is_refused(border: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="a border of more than 0 pixels"):
        extended(IMAGES, *border)


@pytest.mark.parametrize(
    ("given", "change", "sentence"),
    [
        ({"mask": torch.zeros(1, 1, 16, 16)}, {}, "give a mask of the same size"),
        ({"mask": torch.zeros(3, 1, 32, 32)}, {}, "the mask must have shape"),
        ({"mask": -LEFT}, {}, r"the mask must lie in \[0, 1\]"),
        ({"repaint": 0}, {}, "needs repaint >= 1"),
        ({"stretch": 0}, {}, "stretch >= 1"),
        ({"repaint": 2, "stretch": 4}, {"steps": 4}, "a path of 4 steps is too short for stretches of 4 to be"),
        ({"images": IMAGES.repeat(2, 1, 1, 1)[:3]}, {}, "3 given pictures for 2 to be made"),
        ({"images": 2 * IMAGES}, {}, r"images must lie in \[-1, 1\]"),
        ({"images": IMAGES[..., :31], "mask": LEFT[..., :31]}, {}, "multiples of 2"),
        ({}, {"start": torch.zeros(2, 4, 16, 16)}, "a start from an inversion is for text_to_image"),
        ({}, {"seeds": [1]}, "one seed for each"),
        ({}, {"steps": 0}, "steps must lie in"),
        ({}, {"threshold": "static"}, "this is a model of latents"),
    ],
)
def test_mistakes_are_refused(parts: Parts, given: dict[str, Any], change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        inpainted(parts, Inpaint(**{"images": IMAGES, "mask": LEFT, **given}), **change)
