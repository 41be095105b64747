"""Keeping what is known: exactly, at the right level, with any mask; and diffusers' RePaint with the same draws."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_repaint import RePaintScheduler
from torch import Tensor

from sfumato.core.branch import Guided
from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.path import bumps, suffix, trailing
from sfumato.core.predict import noised
from sfumato.core.sample import sample
from sfumato.core.schedules import DiscreteSchedule
from sfumato.core.steps import Ddim, Dpmpp2M, Heun, Renoising, Step
from sfumato.guidance.inpaint import KeepKnown, latent_mask
from tests.parts import branch, scaled_linear, start, tiny_model

KNOWN = start(first_seed=70)
LEFT = (torch.arange(8) < 4).double().expand(1, 1, 8, 8)
"""1 in the left half, which is made anew."""
PATH = trailing(scaled_linear(), 5)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def run(mask: Tensor, step: Step, path: list[Level] = PATH) -> Tensor:
    keep = KeepKnown(KNOWN, mask, Noise([80, 81]))
    return sample(Guided(tiny_model(), branch(1)), start(), path, step, noise=Noise([0, 1]), after=[keep])


@pytest.mark.parametrize("step", [Ddim(), Ddim(1.0), Heun(), Dpmpp2M()], ids=repr)
def test_the_known_part_is_kept_exactly_and_the_other_is_not(step: Step) -> None:
    found = run(LEFT, step)
    assert torch.equal(found[..., 4:], KNOWN[..., 4:])
    assert (found - KNOWN)[..., :4].abs().mean() > 0.1


def test_all_known_is_the_picture_and_nothing_known_is_the_plain_sampler() -> None:
    assert torch.equal(run(torch.zeros(1, 1, 8, 8).double(), Ddim()), KNOWN)
    plain = sample(Guided(tiny_model(), branch(1)), start(), PATH, Ddim(), noise=Noise([0, 1]))
    torch.testing.assert_close(run(torch.ones(1, 1, 8, 8).double(), Ddim()), plain, rtol=0, atol=1e-12)


def test_the_known_part_is_at_the_level_that_was_reached() -> None:
    level, x = PATH[2], start()
    found = KeepKnown(KNOWN, LEFT, Noise([80, 81]))(x, level)
    wanted = noised(KNOWN, Noise([80, 81]).like(x), level)
    assert torch.equal(found[..., 4:], wanted[..., 4:])
    torch.testing.assert_close(found[..., :4], x[..., :4], rtol=0, atol=1e-12)


def test_a_soft_mask_blends_and_masks_may_differ_by_picture() -> None:
    level, x = PATH[-1], start()
    soft = KeepKnown(KNOWN, torch.full((1, 1, 8, 8), 0.25).double(), Noise([1, 2]))(x, level)
    torch.testing.assert_close(soft, 0.25 * x + 0.75 * KNOWN)
    each = torch.cat([LEFT, 1 - LEFT])
    found = KeepKnown(KNOWN, each, Noise([1, 2]))(x, level)
    assert torch.equal(found[0, :, :, 4:], KNOWN[0, :, :, 4:]) and torch.equal(found[1, :, :, :4], KNOWN[1, :, :, :4])


def test_resampling_keeps_the_known_part_and_changes_the_new_one() -> None:
    plain = run(LEFT, Renoising(Ddim()))
    again = run(LEFT, Renoising(Ddim()), bumps(PATH, 1, 3))
    assert torch.equal(again[..., 4:], KNOWN[..., 4:])
    assert (again - plain)[..., :4].abs().mean() > 0.01


def test_from_a_noised_picture_it_is_sdedit_with_a_mask() -> None:
    path = suffix(PATH, 0.6)
    begun = noised(KNOWN, start(), path[0])
    keep = KeepKnown(KNOWN, LEFT, Noise([80, 81]))
    found = sample(Guided(tiny_model(), branch(1)), begun, path, noise=Noise([0, 1]), after=[keep])
    assert torch.equal(found[..., 4:], KNOWN[..., 4:])
    assert (found - run(LEFT, Ddim()))[..., :4].abs().mean() > 0.01


@dataclass
class Scripted:
    """Draws that were made before: the same for us and for diffusers."""

    draws: list[Tensor]

    def like(self, x: Tensor) -> Tensor:
        return self.draws.pop(0)


@pytest.mark.parametrize("repeats", [1, 3])
def test_it_equals_repaint_of_diffusers(repeats: int) -> None:
    """Jumps of one level, deterministic steps: there, too, the known part gets fresh noise in each step down."""
    steps = 8
    betas = torch.linspace(0.05, 0.4, steps)
    scheduler = RePaintScheduler(num_train_timesteps=steps, trained_betas=betas.numpy(), eta=0.0, clip_sample=False)
    scheduler.set_timesteps(steps, jump_length=1, jump_n_sample=repeats)
    schedule = DiscreteSchedule((1 - betas.double()).cumprod(0))
    model = tiny_model()
    model = type(model)(model.network, schedule)
    text, x = branch(1), start()

    theirs, last, draws = x.float(), steps, {"down": list[Tensor](), "up": list[Tensor]()}
    for index, time in enumerate(scheduler.timesteps.tolist()):
        if time > 0:  # at the clean end their draw is multiplied by 0, and we make none
            draws["down" if time < last else "up"].append(torch.randn(x.shape, generator=_seeded(index)))
        if time < last:
            output = model.raw(theirs, schedule.at(torch.tensor(float(time))), text.condition).float()
            known = (1 - LEFT).float()
            theirs = scheduler.step(output, time, theirs, KNOWN.float(), known, _seeded(index)).prev_sample
        else:
            theirs = scheduler.undo_step(theirs, last, _seeded(index))
        last = time

    keep = KeepKnown(KNOWN, LEFT, Scripted(draws["down"]))  # pyright: ignore

    def only_after_steps_down(x: Tensor, level: Level, reached: list[Any] = [None]) -> Tensor:  # noqa: B006
        went_up = reached[0] is not None and level.sigma > reached[0].sigma
        reached[0] = level
        return x if went_up else keep(x, level)

    path = bumps(trailing(schedule, steps), 1, repeats)
    scripted: Any = Scripted(draws["up"])
    scripted.seeds = (0, 1)
    ours = sample(Guided(model, text), x, path, Renoising(Ddim()), noise=scripted, after=[only_after_steps_down])
    assert not draws["down"] and not draws["up"]
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-5, atol=1e-5)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_latent_is_known_only_if_all_its_pixels_are() -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 5, 9] = 1
    cells = latent_mask(mask, 4, 4)
    assert cells.sum() == 1 and cells[..., 1, 2] == 1
    assert torch.equal(latent_mask(mask, 16, 16), mask)
    with pytest.raises(ValueError, match="cannot be reduced"):
        latent_mask(mask, 5, 4)


def test_mistakes_are_refused() -> None:
    for shape in ((1, 1, 8, 4), (3, 1, 8, 8), (1, 4, 8, 8), (8, 8)):
        with pytest.raises(ValueError, match="shape"):
            KeepKnown(KNOWN, torch.zeros(shape), Noise([0, 1]))
    for value in (-0.5, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            KeepKnown(KNOWN, torch.full((1, 1, 8, 8), value), Noise([0, 1]))
