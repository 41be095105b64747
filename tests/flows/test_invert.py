"""Inversion: sampling comes back to the picture, tuned nulls under guidance too, and diffusers' inverse scheduler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_ddim_inverse import DDIMInverseScheduler
from torch import Tensor

from sfumato.checkpoints.load import Parts, load
from sfumato.core.noise import Noise
from sfumato.core.sample import Record
from sfumato.flows.invert import Inverted, Inverting, invert
from sfumato.flows.walk import Like, Walk
from sfumato.samplers.schedule import schedule_of
from tests.parts import counted, made
from tests.tiny import write_sd1, write_sd2

PROMPTS = ["a red hat", "two blue cats, and a scarlet dog"]
IMAGES = Noise([7, 8]).uniform((2, 3, 32, 32)).float() * 2 - 1


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A network whose answer hardly depends on x, so that the fixed point attracts: a tenth of a random one."""
    loaded = load(write_sd2(tmp_path_factory.mktemp("sd2")))
    with torch.no_grad():
        for parameter in loaded.network.unet.conv_out.parameters():
            parameter.mul_(0.1)
    return loaded


def inverted(parts: Parts, steps: int, *how: Any, images: Tensor = IMAGES, **settings: Any) -> Inverted:
    return invert(parts, images, PROMPTS, walk=Walk(steps), how=Inverting(*how), **settings)


def back(parts: Parts, found: Inverted, steps: int, guidance: float = 1.0, **settings: Any) -> Tensor:
    given = {"steps": steps, "guidance": guidance, "start": found.start, **settings}
    return made(parts, PROMPTS, [0, 1], **given)


def distance(parts: Parts, pictures: Tensor) -> float:
    """Mean square to what the autoencoder makes of the images."""
    with torch.no_grad():
        return float((pictures - parts.codec.decode(parts.codec.encode(IMAGES))).square().mean())


@pytest.mark.parametrize("variant", ["plain", "target"])
def test_sampling_comes_back_nearer_with_more_steps_and_exactly_by_the_fixed_point(parts: Parts, variant: str) -> None:
    errors = [distance(parts, back(parts, inverted(parts, steps, variant), steps)) for steps in (5, 10, 20)]
    assert all(fine < 0.6 * coarse for coarse, fine in zip(errors, errors[1:], strict=False)), errors
    fixed = distance(parts, back(parts, inverted(parts, 5, "fixed_point"), 5))
    assert fixed < 1e-8 and fixed < 1e-3 * errors[-1], (fixed, errors)


def test_more_iterations_come_nearer_to_the_fixed_point(parts: Parts) -> None:
    few, many = (distance(parts, back(parts, inverted(parts, 6, "fixed_point", count), 6)) for count in (2, 16))
    assert many < 0.01 * few and many < 1e-9


@pytest.mark.parametrize("guidance", [5.0, 7.5])
def test_tuned_nulls_lead_guided_sampling_back(parts: Parts, guidance: float) -> None:
    found = inverted(parts, 5, "fixed_point", 5, guidance)
    assert found.nulls is not None and len(found.nulls) == 5
    without, tuned = back(parts, found, 5, guidance), back(parts, found, 5, guidance, nulls=found.nulls)
    assert distance(parts, tuned) < 0.4 * distance(parts, without)
    assert not tuned.requires_grad and all(each.grad is None for each in parts.network.unet.parameters())


def test_another_prompt_edits_the_picture_and_the_seed_says_nothing(parts: Parts) -> None:
    found = inverted(parts, 3, "plain", 1, 5.0)
    steer = {"steps": 3, "guidance": 5.0, "start": found.start, "nulls": found.nulls}
    same, edited = made(parts, PROMPTS, [0, 1], **steer), made(parts, ["apple", PROMPTS[1]], [8, 9], **steer)
    torch.testing.assert_close(edited[1], same[1], rtol=0, atol=1e-5)
    assert (edited[0] - same[0]).abs().max() > 0.01


@pytest.mark.parametrize("clean", [True, False], ids=["clean end", "as published"])
def test_target_equals_diffusers_from_noise_prediction(tmp_path: Path, clean: bool) -> None:
    equal_to_diffusers(tmp_path, write_sd1, set_alpha_to_one=clean)


def test_target_equals_diffusers_from_v_prediction(tmp_path: Path) -> None:
    equal_to_diffusers(tmp_path, write_sd2)


def equal_to_diffusers(folder: Path, write: Callable[[Path], Path], **change: Any) -> None:
    """Ten steps of the inverse scheduler, with the text as diffusers encodes it."""
    pipeline, loaded = StableDiffusionPipeline.from_pretrained(write(folder / "model")), load(folder / "model")
    settings = {**loaded.scheduler, **change}
    parts = replace(loaded, scheduler=settings, model=replace(loaded.model, schedule=schedule_of(settings)))
    scheduler = DDIMInverseScheduler.from_config(settings)
    scheduler.set_timesteps(10)
    with torch.no_grad():
        text, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)
        theirs = parts.codec.encode(IMAGES)
        for time in scheduler.timesteps:
            theirs = scheduler.step(pipeline.unet(theirs, time, text).sample, time, theirs).prev_sample
    ours = inverted(parts, 10, "target").start
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert ours.std() > 0.1, "an empty start proves nothing"


def test_a_picture_does_not_depend_on_its_neighbours(parts: Parts) -> None:
    together = inverted(parts, 5)
    alone = invert(parts, IMAGES[1:], PROMPTS[1:], walk=Walk(5))
    torch.testing.assert_close(together.start[1:], alone.start, rtol=0, atol=1e-4)
    served = inverted(parts, 5, images=IMAGES[:1]).start
    torch.testing.assert_close(served[:1], together.start[:1], rtol=0, atol=1e-4)
    assert (served[1] - served[0]).abs().max() > 1e-3, "the same picture by another prompt"


def test_nulls_do_not_depend_on_neighbours(parts: Parts) -> None:
    together = inverted(parts, 2, "plain", 1, 5.0).nulls or ()
    how = Inverting("plain", 1, 5.0)
    alone = invert(parts, IMAGES[1:], PROMPTS[1:], walk=Walk(2), how=how).nulls or ()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[1:], other, rtol=0, atol=1e-3)


def test_one_start_serves_several_prompts(parts: Parts) -> None:
    found = invert(parts, IMAGES[:1], PROMPTS[:1], walk=Walk(5))
    pictures = back(parts, found, 5)
    assert pictures.shape == IMAGES.shape and (pictures[0] - pictures[1]).abs().max() > 1e-3


@pytest.mark.parametrize(("how", "each"), [(("plain",), 1), (("target",), 1), (("fixed_point", 4), 5)])
def test_forwards_of_each_variant(parts: Parts, how: tuple[Any, ...], each: int) -> None:
    records: list[Record] = []
    with counted(parts.model) as rows:
        found = inverted(parts, 3, *how, watch=records.append)
    assert rows == [2] * 3 * each
    assert [(record.index, record.count) for record in records] == [(1, 3), (2, 3), (3, 3)]
    assert torch.equal(records[-1].x, found.start) and found.nulls is None
    assert found.start.shape == (2, 4, 16, 16) and found.start.dtype == torch.float32


def test_tuning_costs_at_most_thirteen_forwards_a_step_more(parts: Parts) -> None:
    with counted(parts.model) as rows:
        inverted(parts, 3, "plain", 1, 7.5)
    assert 3 < len(rows) - 3 <= 3 * (1 + 10 + 2)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"variant": "exact"}, "unknown variant 'exact'"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"null_text": 1.0}, "needs scale > 1"),
        ({"null_text": float("nan")}, "needs scale > 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Inverting(**settings)


@pytest.mark.parametrize(
    ("walk", "images", "prompts", "sentence"),
    [
        (Walk(4, "euler"), IMAGES, PROMPTS, "the deterministic 'ddim' sampler and nothing beside it"),
        (Walk(4, like=Like(IMAGES)), IMAGES, PROMPTS, "nothing beside it"),
        (Walk(4, langevin=1), IMAGES, PROMPTS, "nothing beside it"),
        (Walk(0), IMAGES, PROMPTS, "steps must lie in"),
        (Walk(4), IMAGES, [], "a list of prompts, one a picture"),
        (Walk(4), IMAGES, "a red hat", "a list of prompts, one a picture"),
        (Walk(4), IMAGES, PROMPTS[:1], "2 given pictures for 1 to be made"),
        (Walk(4), 3 * IMAGES, PROMPTS, r"images must lie in \[-1, 1\]"),
        (Walk(4), IMAGES[..., :31], PROMPTS, "multiples of 2"),
    ],
)
def test_mistakes_are_refused(parts: Parts, walk: Walk, images: Tensor, prompts: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        invert(parts, images, prompts, walk=walk)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"start": torch.zeros(2, 4, 8, 8)}, "the start has shape"),
        ({"start": torch.zeros(3, 4, 16, 16)}, "the start has shape"),
        ({"steps": 5}, "the path has 5 steps and there are nulls for 4"),
        ({"scheduler": "KDPM2DiscreteScheduler"}, "the path has 7 steps and there are nulls for 4"),
        ({"negative": "blurry"}, "leave negative and interval out"),
        ({"interval": (0.0, 0.5)}, "leave negative and interval out"),
    ],
)
def test_what_was_inverted_goes_with_its_own_path(parts: Parts, change: dict[str, Any], sentence: str) -> None:
    nulls = (parts.text.null(2).tokens,) * 4
    with pytest.raises(ValueError, match=sentence):
        back(parts, Inverted(torch.zeros(2, 4, 16, 16)), **{"steps": 4, "guidance": 5.0, "nulls": nulls, **change})


@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 32)])
def test_nulls_of_another_model_are_refused(parts: Parts, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"the nulls must have shape \(B, L, .*\) for this model, got"):
        back(parts, Inverted(torch.zeros(2, 4, 16, 16)), 4, 5.0, nulls=(torch.zeros(shape),) * 4)
