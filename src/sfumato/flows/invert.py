"""Inversion: the noise from which the sampler makes a given picture, so that the picture can be edited by its prompt.

    x0 = encode(picture);  walk the path in reverse without guidance  ->  x at the noisy end, by ``Inversion``
    with null-text: tune the null of each step so that guided sampling comes back along the same way

Papers: Denoising Diffusion Implicit Models (Song et al., 2021), arXiv:2010.02502; Null-text Inversion for Editing Real
    Images using Guided Diffusion Models (Mokady et al., 2022), arXiv:2211.09794, algorithm 1.
Differs from the papers: null-text begins from pivots of the variant that is asked for, the paper's from "plain".
Forwards per step: 1, "fixed_point" 11; null-text up to 13 more, and 10 backward.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.checkpoints.parts import Parts
from sfumato.core.branch import Branch, Guided
from sfumato.core.noise import Noise
from sfumato.core.sample import Record, sample
from sfumato.flows.prompts import condition_of, null_of
from sfumato.flows.walk import Walk, encoded, sampler_of
from sfumato.guidance.inversion import Inversion, Variant
from sfumato.guidance.null_text import NullText

__all__ = ["Inverted", "Inverting", "invert"]


@dataclass(frozen=True)
class Inverting:
    """How pictures are inverted.

    Args:
        variant: of the inversion; see ``sfumato.guidance.inversion``.
        iterations: of "fixed_point", >= 1.
        null_text: guidance scale, > 1, for which the nulls are tuned; None: no tuning, sample without guidance.

    Raises:
        ValueError: a setting out of range.
    """

    variant: Variant = "fixed_point"
    iterations: int = 10
    null_text: float | None = None

    def __post_init__(self) -> None:
        Inversion(self.variant, self.iterations)
        if self.null_text is not None:
            NullText(self.null_text)


@dataclass(frozen=True, eq=False)
class Inverted:
    """Where sampling comes back to a given picture.

    Args:
        start: x (B, C, h, w) at the first level of the path, float32.
        nulls: tokens (B, L, D) of the null for each step; None if they were not tuned.
        steps: of the path, up and down; None if unknown.
    """

    start: Tensor
    nulls: tuple[Tensor, ...] | None = None
    steps: int | None = None


def invert(
    parts: Parts,
    images: Tensor,
    prompts: Sequence[str],
    *,
    walk: Walk = Walk(),  # noqa: B008 (frozen)
    how: Inverting = Inverting(),  # noqa: B008 (frozen)
    watch: Callable[[Record], None] | None = None,
) -> Inverted:
    """Find the noise that leads to pictures.

    Args:
        parts: a loaded checkpoint.
        images: (B or 1, 3, H, W) in [-1, 1]; sides are multiples of the codec's factor.
        prompts: B prompts that describe the pictures.
        walk: the steps of the path that will be sampled along; its scheduler must be ``ddim``.
        how: the variant, and whether nulls are tuned.
        watch: called with a record after each step up; and, if nulls are tuned, after each step down.

    Raises:
        ValueError: no prompts, another number of pictures, or another scheduler.
    """
    if isinstance(prompts, str) or len(prompts) == 0:
        raise ValueError("needs a list of prompts, one a picture")
    beside = (walk.like, walk.langevin or None, walk.excite, walk.start)
    if walk.scheduler != "ddim" or any(each is not None for each in beside):
        raise ValueError("inversion follows the deterministic 'ddim' sampler and nothing beside it")
    count, size = len(prompts), (images.shape[-2], images.shape[-1])
    path = sampler_of(parts, walk).path
    with torch.no_grad():
        text = Branch(condition_of(parts, prompts, size), name="text")
        x0 = encoded(parts, images, count).float()
        pivots = [x0]

        def keep(record: Record) -> None:
            pivots.append(record.x)
            if watch is not None:
                watch(record)

        step, unused = Inversion(how.variant, how.iterations), Noise(range(count))
        start = sample(Guided(parts.model, text), x0, path[::-1], step, noise=unused, watch=keep)
    if how.null_text is None:
        return Inverted(start, steps=walk.steps)
    none, tune = null_of(parts, count, size), NullText(how.null_text)
    return Inverted(start, tuple(tune(parts.model, text, none, pivots[::-1], path, watch)), walk.steps)
