"""The schedules that checkpoints are trained on: a table of times, the cosine, and straight flow lines."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.noise import Noise

__all__ = ["CosineSchedule", "DiscreteSchedule", "FlowSchedule", "zero_terminal_snr"]


@dataclass(frozen=True, eq=False)
class DiscreteSchedule:
    """The levels of a checkpoint trained on a table of times; variance-preserving, alpha^2 + sigma^2 = 1.

    alpha = sqrt(alphas_cumprod[time]) exactly at whole times. Between them log(alpha / sigma) is linear in time, but
    for an interval that ends at alpha = 0, where log(alpha / sigma) is infinite and alpha itself is linear.

    Args:
        alphas_cumprod: (T,), strictly decreasing, in [0, 1), by time 0..T-1. Kept in float64.
        end_alpha_cumprod: alpha^2 of the level at which a path ends, in (0, 1]; 1 is clean. Checkpoints published with
            ``set_alpha_to_one=False`` end at ``alphas_cumprod[0]``.

    Raises:
        ValueError: the table is not as described.
    """

    alphas_cumprod: Tensor
    end_alpha_cumprod: float = 1.0

    def __post_init__(self) -> None:
        table = self.alphas_cumprod.detach().to("cpu", torch.float64)
        if table.ndim != 1 or len(table) < 2:
            raise ValueError(f"alphas_cumprod must be a table of two times or more, got shape {tuple(table.shape)}")
        if not (bool((table.diff() < 0).all()) and float(table[-1]) >= 0 and float(table[0]) < 1):
            raise ValueError("alphas_cumprod must decrease strictly and lie in [0, 1)")
        if not 0 < self.end_alpha_cumprod <= 1:
            raise ValueError(f"end_alpha_cumprod must lie in (0, 1], got {self.end_alpha_cumprod}")
        object.__setattr__(self, "alphas_cumprod", table)

    def __repr__(self) -> str:
        return f"DiscreteSchedule({self.steps} times, end_alpha_cumprod={self.end_alpha_cumprod:g})"

    @property
    def steps(self) -> int:
        """Number of trained times, T."""
        return len(self.alphas_cumprod)

    @property
    def end(self) -> Level:
        """The level at which a path ends: time 0, alpha^2 = end_alpha_cumprod."""
        return _preserving(_number(0.0), _number(self.end_alpha_cumprod))

    def at(self, time: Tensor) -> Level:
        """The level at a time.

        Args:
            time: () or (B,), in [0, T-1]; whole or between.

        Raises:
            ValueError: a time outside the trained range.
        """
        time = _within(time, 0, self.steps - 1, "time")
        low, high = time.floor().long(), time.ceil().long()
        share = time - low
        between = torch.lerp(self._log_snr[low], self._log_snr[high], share).sigmoid()
        to_zero = torch.lerp(self.alphas_cumprod[low].sqrt(), self.alphas_cumprod[high].sqrt(), share).square()
        inner = torch.where(self.alphas_cumprod[high] > 0, between, to_zero)
        return _preserving(time, torch.where(share == 0, self.alphas_cumprod[low], inner))

    def at_ratio(self, ratio: Tensor) -> Level:
        """The level whose sigma / alpha is ``ratio``, told as a time between trained ones.

        Args:
            ratio: () or (B,), > 0, within the trained range and finite.

        Raises:
            ValueError: a ratio that was not trained.
        """
        table = -self._log_snr
        log_snr = -2 * _float64(ratio).log()
        wanted = _within(-log_snr, float(table[0]), float(table[-1]), "log of the squared sigma / alpha")
        high = torch.searchsorted(table, wanted).clamp(1, self.steps - 1)
        share = (wanted - table[high - 1]) / (table[high] - table[high - 1])
        return _preserving((high - 1 + share).clamp(0, self.steps - 1), log_snr.sigmoid())

    def time_at(self, position: Tensor) -> Tensor:
        """The time () or (B,) at a position in [1, T]: the nearest whole position (ties to even) less one.

        Raises:
            ValueError: a position outside that range.
        """
        return _within(position, 1, self.steps, "position").round() - 1

    def draw(self, count: int, noise: Noise) -> Level:
        """Training levels: whole times, uniform in 0..T-1, shape (count,)."""
        return self.at((noise.uniform((count,)) * self.steps).floor())

    @property
    def _log_snr(self) -> Tensor:
        return self.alphas_cumprod.logit()


@dataclass(frozen=True)
class CosineSchedule:
    """The cosine schedule with continuous times; variance-preserving.

    alpha(time) = cos((u + s) / (1 + s) * pi / 2) / cos(s / (1 + s) * pi / 2), u = (time + 1) / steps, s = 0.008, so
    that whole times agree with diffusers' ``squaredcos_cap_v2`` everywhere but at the last, where alpha is 0 here.

    Args:
        steps: number of time units in the trained range, >= 2; times lie in [0, steps - 1].
        margin: s, > 0; keeps the first level from being clean.

    Raises:
        ValueError: a setting out of range.

    Paper: Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021), arXiv:2102.09672, equation 17.
    """

    steps: int = 1000
    margin: float = 0.008

    def __post_init__(self) -> None:
        if self.steps < 2 or self.margin <= 0:
            raise ValueError(f"needs steps >= 2 and margin > 0, got {self.steps} and {self.margin}")

    @property
    def end(self) -> Level:
        """The clean level."""
        return _preserving(_number(0.0), _number(1.0))

    def at(self, time: Tensor) -> Level:
        """The level at a time () or (B,) in [0, steps - 1].

        Raises:
            ValueError: a time outside that range.
        """
        time = _within(time, 0, self.steps - 1, "time")
        angle = ((time + 1) / self.steps + self.margin) / (1 + self.margin) * math.pi / 2
        alpha = torch.where(time == self.steps - 1, 0.0, angle.cos() / self._widest)
        return _preserving(time, alpha.square())

    def at_ratio(self, ratio: Tensor) -> Level:
        """The level whose sigma / alpha is ``ratio``, () or (B,), > 0; infinite at the last time.

        Raises:
            ValueError: a ratio that lies outside the range of times.
        """
        alpha_squared = 1 / (1 + _float64(ratio).square())
        angle = (alpha_squared.sqrt() * self._widest).acos()
        time = (angle * 2 / math.pi * (1 + self.margin) - self.margin) * self.steps - 1
        return _preserving(_within(time, 0, self.steps - 1, "time of this ratio"), alpha_squared)

    def time_at(self, position: Tensor) -> Tensor:
        """The time () or (B,) at a position in [1, steps]: one less.

        Raises:
            ValueError: a position outside that range.
        """
        return _within(position, 1, self.steps, "position") - 1

    def draw(self, count: int, noise: Noise) -> Level:
        """Training levels: times uniform in [0, steps - 1), shape (count,)."""
        return self.at(noise.uniform((count,)) * (self.steps - 1))

    @property
    def _widest(self) -> float:
        return math.cos(self.margin / (1 + self.margin) * math.pi / 2)


@dataclass(frozen=True)
class FlowSchedule:
    """Straight lines from data to noise: sigma = time / steps, alpha = 1 - sigma.

    Positions, and so spacings and training draws, are shifted towards noise for large images:
    sigma = shift * u / (1 + (shift - 1) * u) at position u * steps.

    Args:
        shift: > 0; 1 spaces sigma evenly, Stable Diffusion 3 uses 3.
        steps: time units at pure noise, >= 2.

    Raises:
        ValueError: a setting out of range.

    Paper: Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024),
        arXiv:2403.03206, equation 23.
    """

    shift: float = 1.0
    steps: int = 1000

    def __post_init__(self) -> None:
        if self.steps < 2 or self.shift <= 0:
            raise ValueError(f"needs steps >= 2 and shift > 0, got {self.steps} and {self.shift}")

    @property
    def end(self) -> Level:
        """The clean level."""
        return self.at(_number(0.0))

    def at(self, time: Tensor) -> Level:
        """The level at a time () or (B,) in [0, steps].

        Raises:
            ValueError: a time outside that range.
        """
        time = _within(time, 0, self.steps, "time")
        return Level(time, 1 - time / self.steps, time / self.steps)

    def at_ratio(self, ratio: Tensor) -> Level:
        """The level whose sigma / alpha is ``ratio``, () or (B,), >= 0 and finite.

        Raises:
            ValueError: a negative ratio.
        """
        ratio = _within(ratio, 0, math.inf, "ratio")
        return self.at(ratio / (1 + ratio) * self.steps)

    def time_at(self, position: Tensor) -> Tensor:
        """The time () or (B,) at a position in (0, steps], shifted.

        Raises:
            ValueError: a position outside that range.
        """
        share = _within(position, 0, self.steps, "position") / self.steps
        return self.shift * share / (1 + (self.shift - 1) * share) * self.steps

    def draw(self, count: int, noise: Noise) -> Level:
        """Training levels: positions uniform in (0, steps], shape (count,)."""
        return self.at(self.time_at((1 - noise.uniform((count,))) * self.steps))


def zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """Shift and scale a schedule so that its last level is pure noise.

    a' = (a - a[T-1]) * a[0] / (a[0] - a[T-1]) with a = sqrt(alphas_cumprod); the first level keeps its value. Noise
    prediction is undefined at the new last level: use v or x0 prediction and trailing spacing.

    Args:
        alphas_cumprod: (T,), strictly decreasing, in [0, 1).

    Returns:
        (T,), float64, strictly decreasing to 0.

    Raises:
        ValueError: the table does not decrease.

    Paper: Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023), arXiv:2305.08891,
        algorithm 1.
    """
    scale = _float64(alphas_cumprod).sqrt()
    first, last = scale[0], scale[-1]
    if not first > last:
        raise ValueError("alphas_cumprod must decrease")
    return ((scale - last) * first / (first - last)).square()


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _float64(value: Tensor) -> Tensor:
    return value.detach().to("cpu", torch.float64)


def _preserving(time: Tensor, alpha_squared: Tensor) -> Level:
    return Level(time, alpha_squared.sqrt(), (1 - alpha_squared).sqrt())


def _within(value: Tensor, low: float, high: float, name: str) -> Tensor:
    value = _float64(value)
    if not bool(((value >= low - 1e-6) & (value <= high + 1e-6)).all()):
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {value.tolist()}")
    return value.clamp(low, high)
