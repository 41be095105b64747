"""The sampling loop: walk a path with a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.path import Path
from sfumato.core.steps import Ddim, Denoiser, State, Step

__all__ = ["AfterStep", "Record", "sample"]

AfterStep = Callable[[Tensor, Level], Tensor]
"""x (B, ...) and the level it has reached to x (B, ...) at that level."""


@dataclass(frozen=True, eq=False)
class Record:
    """What a watcher is told after a step.

    Args:
        index: steps taken, 1..count.
        count: steps in the path.
        level: the level that was reached.
        x: a copy of x there, (B, ...).
    """

    index: int
    count: int
    level: Level
    x: Tensor


def sample(
    denoise: Denoiser,
    x: Tensor,
    path: Path,
    step: Step | None = None,
    *,
    noise: Noise,
    after: Sequence[AfterStep] = (),
    watch: Callable[[Record], None] | None = None,
) -> Tensor:
    """Walk x along a path.

    Nothing is kept between two calls: the same arguments, with noise from the same seeds, give the same result.
    Gradients are recorded unless the caller has switched them off.

    Args:
        denoise: clean estimate x0 (B, ...) of x at a level.
        x: (B, ...) at the first level of the path, float32.
        path: two levels or more; may go up as well as down.
        step: how to go from a level to the next; None: ``Ddim()``.
        noise: one seed an image, for steps that add noise.
        after: run on x after each step, in this order, with the level that was reached.
        watch: called with a record after each step; cannot change x.

    Returns:
        x (B, ...) at the last level.

    Raises:
        ValueError: fewer than two levels, or noise for another number of images.
    """
    if len(path) < 2:
        raise ValueError(f"a path needs at least two levels, got {len(path)}")
    if len(noise.seeds) != len(x):
        raise ValueError(f"x has {len(x)} images and noise has {len(noise.seeds)} seeds; give one seed an image")
    step = step or Ddim()
    state: State = None
    for index, (level, next_level) in enumerate(pairwise(path), start=1):
        x, state = step(denoise, x, level, next_level, state, noise)
        for edit in after:
            x = edit(x, next_level)
        if watch is not None:
            watch(Record(index, len(path) - 1, next_level, x.detach().clone()))
    return x
