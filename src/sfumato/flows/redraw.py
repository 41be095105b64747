"""SDEdit: noise a picture to a level in the middle of the path, and walk from there.

    x = alpha * x0(picture) + sigma * noise      at the level where ``strength`` of the path is left
    walk the rest of the path; and, for more than one repeat, again from there, by other noise

Noise hides what is fine and keeps what is coarse, so a low strength keeps the picture and a high one its layout only:
strokes become a drawing, a drawing another one. With a mask, only the masked part is redrawn, and the rest is put back
after each step.

Paper: SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations (Meng et al., 2021),
    arXiv:2108.01073, algorithms 1 and 3.
Differs from the paper: any sampler, not only the stochastic one; the known part is put back at the level reached, where
    the authors' code is one level too noisy; a strength of 0, which is the picture itself, is refused.
Forwards per step: 1 (2 with ``heun``); K repeats walk the part K times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.checkpoints.parts import Parts
from sfumato.core.noise import Noise
from sfumato.core.path import Path, suffix
from sfumato.core.predict import noised
from sfumato.core.sample import Record, sample
from sfumato.flows.prompts import prompted
from sfumato.flows.steering import Steering, model_of, steered
from sfumato.flows.text_to_image import check_prompts
from sfumato.flows.walk import Walk, after_steps, encoded, sampler_of, step_of
from sfumato.guidance.inpaint import KeepKnown, check_mask, latent_mask, pasted

__all__ = ["Redraw", "redraw"]


@dataclass(frozen=True, eq=False)
class Redraw:
    """What is redrawn, and how far.

    Args:
        images: (B or 1, 3, H, W) in [-1, 1]; sides are multiples of the codec's factor.
        strength: share of the path that is walked, in (0, 1]; of S steps int(S * strength), at least one.
        mask: (B or 1, 1, H, W), 1 where the picture is redrawn and 0 where it is kept; None: all of it.
        paste: whether the kept pixels are put back after decoding, so that they are exact for models of latents, too.
        repeats: K, how often that part is walked, >= 1, each time from where it ended; 3 in the authors' demonstration.

    Raises:
        ValueError: strength or repeats out of range, a mask of another size, or nothing to put back.
    """

    images: Tensor
    strength: float = 0.6
    mask: Tensor | None = None
    paste: bool = False
    repeats: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength must lie in (0, 1], got {self.strength}")
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {self.repeats}")
        if self.mask is not None:
            check_mask(self.mask, self.images)
        elif self.paste:
            raise ValueError("paste puts back what a mask keeps, and there is no mask: all of the picture is redrawn")


def redraw(
    parts: Parts,
    given: Redraw,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    steer: Steering = Steering(),  # noqa: B008 (frozen)
    walk: Walk = Walk(),  # noqa: B008 (frozen)
    watch: Callable[[Record], None] | None = None,
) -> Tensor:
    """Redraw pictures after prompts.

    Args:
        parts: a loaded checkpoint.
        given: the pictures.
        prompts: B prompts.
        seeds: B seeds, one a picture.
        steer: guidance and all else that is asked of the denoiser.
        walk: steps of the whole path, and scheduler.
        watch: called with a record after each step.

    Returns:
        pictures (B, 3, H, W), float32, in [-1, 1].

    Raises:
        ValueError: no prompts, other numbers of seeds or pictures, a setting out of range, or one that would do nothing
            at this strength.
    """
    check_prompts(prompts, seeds)
    if walk.start is not None:
        raise ValueError("redrawing begins from the given picture; a start from an inversion is for text_to_image")
    size = (given.images.shape[-2], given.images.shape[-1])
    sampler, noise = sampler_of(parts, walk), Noise(seeds)
    path = suffix(sampler.path, given.strength)
    _check_reached(walk, steer, path)
    with torch.no_grad():
        text = prompted(parts, prompts, size, steer.edits, steer.neighbours)
        denoise = steered(parts, text.branch, size, steer, sampler.path)
        step = step_of(model_of(parts, steer), walk, sampler, text)
        known = x0 = encoded(parts, given.images, len(seeds))
        mask = None if given.mask is None else latent_mask(given.mask.to(known), *known.shape[-2:])
        for repeat in range(given.repeats):
            own = noise.fork(f"repeat {repeat}") if repeat else noise
            after = after_steps(parts, walk, own, size)
            if mask is not None:
                after = (*after, KeepKnown(known, mask, own.fork("known")))
            x = noised(x0, own.like(known), path[0])
            x0 = sample(denoise, x, path, step, noise=own, after=after, watch=watch)
        images = parts.codec.decode(x0)
    return pasted(given.images, given.mask, images) if given.paste and given.mask is not None else images


def _check_reached(walk: Walk, steer: Steering, path: Path) -> None:
    """See that what acts up to a share of the whole path acts on the part of it that is walked, too."""
    begin, first = (level.progress or 0.0 for level in path[:2])
    idle: dict[str, float] = {}
    if walk.like is not None and 0 < walk.like.until < first:
        idle["the picture to follow"] = walk.like.until
    if walk.excite is not None and walk.excite.scale and walk.excite.until <= begin:
        idle["the words to excite"] = walk.excite.until
    if steer.interval is not None and steer.interval[1] <= begin:
        idle["guidance in its interval"] = steer.interval[1]
    for expert in steer.experts:
        if expert.stop <= begin:
            idle["an expert"] = expert.stop
    if idle:
        what, until = next(iter(idle.items()))
        raise ValueError(
            f"of the whole path only the part from {begin:g} on is walked, and {what} would act up to {until:g}, so "
            "not at all; choose a higher strength"
        )
