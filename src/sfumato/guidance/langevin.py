"""Langevin correction: after each step, some steps of Markov chain Monte Carlo at the level that was reached.

The sum of the scores of noised densities is not the score of the noised product (see ``composable``), so a sampler that
only walks down ends beside the product. At one level, however, the sum is a score like any other, and Langevin steps
bring x nearer to its density:

    x <- x + size * sigma^2 * score(x) + sqrt(2 * size) * sigma * z,      score = (alpha * x0 - x) / sigma^2

Unadjusted, so its own error is of the order of ``size``. It needs no gradient, only more forwards.
Combines with: any denoiser and any step; of use where the denoiser is a sum of scores.
Forwards per step: those of the inner step, and ``count`` more; none more at the clean end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from sfumato.core.level import Level, along
from sfumato.core.noise import Noise
from sfumato.core.predict import score
from sfumato.core.steps import Denoiser, State, Step

__all__ = ["Langevin"]


@dataclass(frozen=True)
class Langevin:
    """A step, and then Langevin steps at the level that it has reached.

    Forwards per step: those of the inner step, and ``count`` more; none more at the end of the path.

    Args:
        step: goes from level to level.
        count: Langevin steps after it, >= 0; 0 leaves the step as it is.
        size: of one, in units of sigma^2, in (0, 1]. With score = -x / sigma^2, 1 forgets x in one step.

    Raises:
        ValueError: count or size out of range.

    Paper: Reduce, Reuse, Recycle: Compositional Generation with Energy-Based Diffusion Models and MCMC (Du et al.,
        2023), arXiv:2302.11552, section 4 and algorithm 1 (ULA).
    Differs from the paper: the size is given in units of sigma^2, one for all levels.
    """

    step: Step
    count: int = 2
    size: float = 0.1

    def __post_init__(self) -> None:
        if self.count < 0 or not 0 < self.size <= 1:
            raise ValueError(f"needs count >= 0 and 0 < size <= 1, got {self.count} and {self.size}")

    def __call__(
        self, denoise: Denoiser, x: Tensor, level: Level, next_level: Level, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """x (B, ...) at ``level`` to x at ``next_level``, corrected there."""
        x, state = self.step(denoise, x, level, next_level, state, noise)
        if next_level.is_last:
            return x, state
        for _ in range(self.count):
            drift = self.size * next_level.sigma**2
            spread = math.sqrt(2 * self.size) * next_level.sigma
            towards = score(x, denoise(x, next_level), next_level)
            x = x + along(drift, x) * towards + along(spread, x) * noise.like(x)
        return x, state
