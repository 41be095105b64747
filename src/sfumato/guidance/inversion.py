"""DDIM inversion: the noise from which a deterministic sampler would make a given image.

A DDIM step down from t to s keeps the noise e that the network finds at t, so going up from s to t needs e(x_t, t), of
an x_t that is not known yet:

    x_t = alpha_t * (x_s - sigma_s e) / alpha_s + sigma_t e

    "plain"        e = e(x_s, s)            the network at the level where x is
    "target"       e = e(x_s, t)            told the level it goes to, as diffusers' ``DDIMInverseScheduler``
    "fixed_point"  e = e(x_t, t)            by iteration, x_t of "plain" to begin with: exact in the limit

Where x_t is next to all noise, e(x_t, t) is x_t itself and the iteration in e stands still. There it is written in
v = alpha e - sigma x0, with phi = atan(sigma / alpha): x_t = x_s / cos(phi_t - phi_s) + tan(phi_t - phi_s) v(x_t, t).

The first two have an error that falls with the length of the steps. Invert with guidance scale 1: a larger one makes
every variant's error grow, and makes the fixed point repel. Walk the path in reverse, clean end included; at the clean
end, where x holds no noise to look at, "plain" does as "target".

Combines with: any denoiser; sampling from the result, along the same path with ``Ddim()``, with any of them.
Forwards per step: 1; "fixed_point" 1 + ``iterations``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from sfumato.core.level import Level, along
from sfumato.core.noise import Noise
from sfumato.core.predict import from_x0, to_noise
from sfumato.core.steps import Denoiser, State

__all__ = ["Inversion", "Variant"]

Variant = Literal["plain", "target", "fixed_point"]


@dataclass(frozen=True)
class Inversion:
    """A step up a path that undoes a step of ``Ddim()``.

    Forwards per step: 1; "fixed_point" 1 + ``iterations``.

    Args:
        variant: where the noise is looked at; see the module.
        iterations: of "fixed_point", >= 1.

    Raises:
        ValueError: an unknown variant, or iterations below 1; in the call, a next level without noise, or a level
            without signal.

    Paper: Denoising Diffusion Implicit Models (Song et al., 2021), arXiv:2010.02502, section 4.3; the fixed point:
        On Exact Inversion of DPM-Solvers (Hong et al., 2023), arXiv:2311.18387, section 4.
    """

    variant: Variant = "plain"
    iterations: int = 10

    def __post_init__(self) -> None:
        if self.variant not in ("plain", "target", "fixed_point"):
            raise ValueError(f"unknown variant {self.variant!r}; known are 'plain', 'target' and 'fixed_point'")
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")

    def __call__(
        self, denoise: Denoiser, x: Tensor, level: Level, next_level: Level, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """x (B, ...) at ``level`` to x at the noisier ``next_level``; keeps no state."""
        if next_level.sigma == 0 or level.alpha == 0:
            raise ValueError("inversion goes from signal towards noise; give the path in reverse, its clean end first")
        raised = _raised(x, self._first(denoise, x, level, next_level), level, next_level)
        for _ in range(self.iterations if self.variant == "fixed_point" else 0):
            x0 = denoise(raised, next_level)
            if next_level.is_nearly_noise:
                raised = _met(x, from_x0("v", x0, raised, next_level), level, next_level)
            else:
                raised = _raised(x, to_noise(raised, x0, next_level), level, next_level)
        return raised, None

    def _first(self, denoise: Denoiser, x: Tensor, level: Level, next_level: Level) -> Tensor:
        if level.sigma == 0:
            return to_noise(x, denoise(x, next_level), next_level)
        told = replace(level, time=next_level.time) if self.variant == "target" else level
        return to_noise(x, denoise(x, told), told)


def _met(x: Tensor, v: Tensor, level: Level, next_level: Level) -> Tensor:
    """The x' at the next level from which a step down with v = alpha' * noise - sigma' * x0 leads to x."""
    power = next_level.alpha**2 + next_level.sigma**2
    across = level.alpha * next_level.sigma - level.sigma * next_level.alpha
    length = level.alpha * next_level.alpha + level.sigma * next_level.sigma
    return along(power / length, x) * x + along(across / length, x) * v


def _raised(x: Tensor, found: Tensor, level: Level, next_level: Level) -> Tensor:
    kept = next_level.alpha / level.alpha
    return along(kept, x) * x + along(next_level.sigma - kept * level.sigma, x) * found
