"""Noise levels, and what a schedule of them can be asked.

Everything in sfumato speaks levels: ``x = alpha * x0 + sigma * noise``, plus the number that the network is told.
Levels are float64 tensors on the CPU, of shape () while sampling and (B,) while training; a 0-dim CPU tensor can be
compared in Python without waiting for a device and leaves x in its own dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sfumato.core.noise import Noise

__all__ = ["Level", "Schedule", "along"]

_ALL_NOISE = 20.0


@dataclass(frozen=True, eq=False)
class Level:
    """One noise level: ``x = alpha * x0 + sigma * noise``.

    Args:
        time: what the network is told, in the checkpoint's own unit (0..999 for Stable Diffusion, 1000 * sigma for
            flow matching). Shape () or (B,).
        alpha: signal scale, >= 0, same shape.
        sigma: noise scale, >= 0, same shape.
        progress: share of the path already walked, in [0, 1]: 0 at pure noise, 1 at the clean end; None outside a path.
    """

    time: Tensor
    alpha: Tensor
    sigma: Tensor
    progress: float | None = None

    @property
    def ratio(self) -> Tensor:
        """sigma / alpha, >= 0, same shape: the "sigma" of EDM, eDiff-I and k-diffusion; infinite at alpha = 0."""
        return self.sigma / self.alpha

    @property
    def is_last(self) -> bool:
        """Whether x is decoded as it is here: no noise is left, or the path ends with what the schedule leaves of it.

        Stable Diffusion's published schedules end at sigma = 0.029, and their pipelines decode that. Levels () only.
        """
        return self.progress == 1 or bool(self.sigma == 0)

    @property
    def is_nearly_noise(self) -> bool:
        """Whether x holds next to no signal here: sigma > 20 alpha. Levels () only.

        Stable Diffusion's levels end at 14.6; those of a cosine schedule, and with zero terminal SNR, go far beyond.
        """
        return bool(self.sigma > _ALL_NOISE * self.alpha)

    def __repr__(self) -> str:
        if self.time.ndim:
            return f"Level({self.time.numel()} times)"
        return f"Level(time={float(self.time):g}, alpha={float(self.alpha):.4g}, sigma={float(self.sigma):.4g})"


def along(value: Tensor, x: Tensor) -> Tensor:
    """Shape one number per image so that it multiplies x.

    Args:
        value: shape (), or (B,) with one number for each image of x.
        x: (B, ...).

    Returns:
        A () value as it is; a (B,) value as (B, 1, ...) in x's dtype and on its device.

    Raises:
        ValueError: value has another shape.
    """
    if value.ndim == 0:
        return value
    if value.shape != x.shape[:1]:
        raise ValueError(f"expected one value or {x.shape[0]} values, one an image, got shape {tuple(value.shape)}")
    return value.to(x).reshape(-1, *[1] * (x.ndim - 1))


class Schedule(Protocol):
    """Which noise levels a network was trained on, and what it is told at each.

    The trained range is divided into ``steps`` positions, 1 the cleanest and ``steps`` the noisiest.
    """

    @property
    def steps(self) -> int:
        """Number of positions in the trained range."""
        ...

    @property
    def end(self) -> Level:
        """The level at which a path ends, shape ()."""
        ...

    def at(self, time: Tensor) -> Level:
        """The level at a time () or (B,) of the checkpoint's own unit."""
        ...

    def at_ratio(self, ratio: Tensor) -> Level:
        """The level () or (B,) whose sigma / alpha is ``ratio``."""
        ...

    def time_at(self, position: Tensor) -> Tensor:
        """The time () or (B,) at a position in [1, steps] of the trained range."""
        ...

    def draw(self, count: int, noise: Noise) -> Level:
        """Random training levels, shape (count,); ``noise`` has one seed for each."""
        ...
