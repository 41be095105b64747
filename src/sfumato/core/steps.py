"""Steps: how x goes from one level to the next.

A step is a pure function. It is given the denoiser, so that it may evaluate it more than once, and hands back the
memory that it wants to see in the next step. All work in (alpha, sigma), so that variance-preserving checkpoints and
flow matching use the same ones; deterministic first-order steps are the same in all coordinates, which makes DDIM,
Euler and flow Euler one formula.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sfumato.core.level import Level, along
from sfumato.core.noise import Noise

__all__ = ["Ddim", "Denoiser", "Dpmpp2M", "EulerAncestral", "Heun", "Renoising", "State", "Step", "goes_up", "move"]

Denoiser = Callable[[Tensor, Level], Tensor]
"""x (B, ...) and its level to the clean estimate x0 (B, ...)."""

State = Any
"""What a step remembers: its own business; None before the first step."""

Step = Callable[[Denoiser, Tensor, Level, Level, State, Noise], tuple[Tensor, State]]
"""(denoise, x, level, next level, state, noise) to (x at the next level, state)."""


def move(x: Tensor, x0: Tensor, level: Level, next_level: Level) -> Tensor:
    """Keep the clean estimate and the noise, change their shares: alpha' x0 + sigma' (x - alpha x0) / sigma.

    Args:
        x: (B, ...) at ``level``.
        x0: clean estimate, same shape.
        level: with sigma > 0, shape ().
        next_level: cleaner or noisier, shape ().

    Returns:
        x (B, ...) at ``next_level``.

    Raises:
        ValueError: sigma = 0 at ``level``.
    """
    if level.sigma == 0:
        raise ValueError("x at a clean level (sigma = 0) holds no noise to keep; start the path at a noisy level")
    kept = next_level.sigma / level.sigma
    return along(kept, x) * x + along(next_level.alpha - level.alpha * kept, x) * x0


def goes_up(level: Level, next_level: Level) -> bool:
    """Whether the next level is noisier: sigma' / alpha' > sigma / alpha, without dividing."""
    return bool(next_level.sigma * level.alpha > level.sigma * next_level.alpha)


@dataclass(frozen=True)
class Ddim:
    """One first-order step: x' = alpha' x0 + sqrt(sigma'^2 - s^2) noise + s z.

    s = eta sigma' sqrt(1 - (ratio' / ratio)^2), ``ratio`` is sigma / alpha, ``noise`` what x holds beside x0, z fresh.
    With eta = 0 this is DDIM, Euler in sigma / alpha and Euler for flow matching, and going up it is DDIM inversion.
    With eta = 1 it is DDPM on the levels of the path (posterior variance) and ancestral Euler. No noise is drawn where
    sigma' = 0.

    Forwards per step: 1.

    Args:
        eta: share of the posterior's standard deviation, in [0, 1].

    Raises:
        ValueError: eta out of range; or in a step that goes up with eta > 0.

    Paper: Denoising Diffusion Implicit Models (Song et al., 2021), arXiv:2010.02502, equations 12 and 16.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {self.eta}")

    def __call__(
        self, denoise: Denoiser, x: Tensor, level: Level, next_level: Level, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """x (B, ...) at ``level`` to x at ``next_level``; keeps no state."""
        x0 = denoise(x, level)
        if self.eta == 0 or next_level.sigma == 0:
            return move(x, x0, level, next_level), None
        if goes_up(level, next_level):
            raise ValueError("Ddim with eta > 0 cannot go up a path; use eta = 0 to invert, or Renoising to resample")
        shrunk = next_level.sigma * level.alpha / (level.sigma * next_level.alpha)
        fresh = self.eta * next_level.sigma * (1 - shrunk**2).sqrt()
        kept = Level(next_level.time, next_level.alpha, (next_level.sigma**2 - fresh**2).sqrt())
        return move(x, x0, level, kept) + along(fresh, x) * noise.like(x), None


@dataclass(frozen=True)
class EulerAncestral:
    """Euler to a lower level than the next, then fresh noise up to it; the same as ``Ddim(eta=1)``.

    With r = sigma / alpha and x in units of alpha: up^2 = r'^2 (r^2 - r'^2) / r^2, down^2 = r'^2 - up^2,
    x' = x0 + down * noise + up * z. For flow matching too these are the levels' ratios, which keeps the marginals.

    Forwards per step: 1.

    Paper: k-diffusion (Crowson, 2022), ``sample_euler_ancestral``.
    """

    def __call__(
        self, denoise: Denoiser, x: Tensor, level: Level, next_level: Level, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """x (B, ...) at ``level`` to x at ``next_level``; keeps no state."""
        return Ddim(eta=1.0)(denoise, x, level, next_level, state, noise)


@dataclass(frozen=True)
class Heun:
    """Second order: step, look again from there, and step once more with the mean of both slopes.

    In r = sigma / alpha and y = x / alpha the slope dy/dr is the noise, so y' = y + (r' - r) (noise + noise') / 2.
    Where sigma' = 0 (no slope there) the step is first order; so it is where either level is nearly all noise (sigma >
    20 alpha, ``Level.is_nearly_noise``): r is so large there, or infinite, that a small error of a slope is a large x'.

    Forwards per step: 2; 1 where first order.

    Paper: Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364,
        algorithm 1.
    """

    def __call__(
        self, denoise: Denoiser, x: Tensor, level: Level, next_level: Level, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """x (B, ...) at ``level`` to x at ``next_level``; keeps no state."""
        x0 = denoise(x, level)
        ahead = move(x, x0, level, next_level)
        if next_level.sigma == 0 or level.is_nearly_noise or next_level.is_nearly_noise:
            return ahead, None
        slope = (x - along(level.alpha, x) * x0) / along(level.sigma, x)
        slope_ahead = (ahead - along(next_level.alpha, x) * denoise(ahead, next_level)) / along(next_level.sigma, x)
        way = next_level.alpha * (next_level.ratio - level.ratio) / 2
        return along(next_level.alpha / level.alpha, x) * x + along(way, x) * (slope + slope_ahead), None


@dataclass(frozen=True)
class Dpmpp2M:
    """Second order from memory: extrapolate the clean estimate along log(alpha / sigma), then move.

    With l = log(alpha / sigma), h = l' - l, h_p the step before: x0 + (x0 - x0_p) h / (2 h_p) takes the place of x0 in
    the first-order step. The first step has no memory and is first order; so is one whose way has turned round, one
    that starts at alpha = 0, and one that ends at sigma = 0, where h is infinite. diffusers' ``lower_order_final``,
    which also lowers the last of fewer than 15 steps, changes only paths that end above sigma = 0: not done here.

    Forwards per step: 1.

    Paper: DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu et al., 2022),
        arXiv:2211.01095, algorithm 2.
    """

    def __call__(
        self, denoise: Denoiser, x: Tensor, level: Level, next_level: Level, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """x (B, ...) at ``level`` to x at ``next_level``; remembers the estimate and the length of the step."""
        x0 = denoise(x, level)
        length = float(torch.log(level.ratio) - torch.log(next_level.ratio))
        previous, previous_length = state or (x0, math.inf)
        share = length / (2 * previous_length)
        extrapolated = x0 + share * (x0 - previous) if 0 < share < math.inf else x0
        return move(x, extrapolated, level, next_level), (x0, length)


@dataclass(frozen=True)
class Renoising:
    """Go up a path by exact forward noise, and down it by another step: how RePaint resamples.

    Up: x' = (alpha' / alpha) x + sqrt(sigma'^2 - (alpha' sigma / alpha)^2) z, and the inner step forgets its state.

    Forwards per step: those of the inner step; 0 going up.

    Args:
        down: the step for levels that are not noisier.

    Paper: RePaint: Inpainting using Denoising Diffusion Probabilistic Models (Lugmayr et al., 2022), arXiv:2201.09865,
        algorithm 1.
    """

    down: Step = field(default_factory=Ddim)

    def __call__(
        self, denoise: Denoiser, x: Tensor, level: Level, next_level: Level, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """x (B, ...) at ``level`` to x at ``next_level``."""
        if not goes_up(level, next_level):
            return self.down(denoise, x, level, next_level, state, noise)
        kept = next_level.alpha / level.alpha
        fresh = (next_level.sigma**2 - (kept * level.sigma) ** 2).sqrt()
        return along(kept, x) * x + along(fresh, x) * noise.like(x), None
