"""Paths: lists of levels, noisiest first, ending at the schedule's end.

``progress`` is given once, by the spacing: 0 at the first level, 1 at the end. Parts, reversals and bumps keep it, so
that a window such as "the first 80 % of the path" means the same noise levels in all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from sfumato.core.level import Level, Schedule

__all__ = ["Path", "backwards", "bumps", "karras", "leading", "linspace", "suffix", "trailing", "uniform_log_snr"]

Path = list[Level]
_Stop = TypeVar("_Stop")


def trailing(schedule: Schedule, steps: int) -> Path:
    """Evenly spaced from the noisiest level on: positions T - i * T / steps.

    Args:
        schedule: with T positions.
        steps: number of steps, in 1..T.

    Returns:
        ``steps`` levels and the schedule's end.

    Raises:
        ValueError: steps out of range.
    """
    index, last = _indices(schedule, steps), schedule.steps
    gap = last - (last - last / steps)  # rounded as numpy's arange does, so that ties fall as in diffusers
    return _path(schedule, schedule.time_at(last - index * gap), schedule.at)


def leading(schedule: Schedule, steps: int, offset: int = 0) -> Path:
    """Evenly spaced from the cleanest level on: positions 1 + offset + i * (T // steps); the noisiest is not visited.

    Args:
        schedule: with T positions.
        steps: number of steps, in 1..T.
        offset: added to each position; 1 for Stable Diffusion.

    Returns:
        ``steps`` levels and the schedule's end.

    Raises:
        ValueError: steps out of range, or an offset that leaves the trained range.
    """
    index = _indices(schedule, steps).flip(0)
    return _path(schedule, schedule.time_at(1 + offset + index * (schedule.steps // steps)), schedule.at)


def linspace(schedule: Schedule, steps: int) -> Path:
    """Both ends of the trained range and whole positions evenly between: 1 + round(i * (T - 1) / (steps - 1)).

    Args:
        schedule: with T positions.
        steps: number of steps, in 2..T.

    Returns:
        ``steps`` levels and the schedule's end.

    Raises:
        ValueError: steps out of range.
    """
    if steps < 2:
        raise ValueError(f"linspace visits both ends, so it needs at least 2 steps, got {steps}")
    gap = (schedule.steps - 1) / (steps - 1)
    return _path(schedule, schedule.time_at(1 + (_indices(schedule, steps).flip(0) * gap).round()), schedule.at)


def karras(schedule: Schedule, steps: int, rho: float = 7.0) -> Path:
    """Evenly spaced in ratio^(1/rho), where ratio = sigma / alpha, over the trained range.

    Args:
        schedule: with a finite ratio at both ends.
        steps: number of steps, in 2..T.
        rho: >= 1; larger values spend more steps near the clean end.

    Returns:
        ``steps`` levels and the schedule's end.

    Raises:
        ValueError: a setting out of range, or a schedule that begins at pure noise.

    Paper: Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364,
        equation 5.
    """
    if rho < 1:
        raise ValueError(f"rho must be at least 1, got {rho}")
    clean, noisy = _finite_ends(schedule, "karras")
    share = _shares(schedule, steps)
    ratio = (noisy ** (1 / rho) + share * (clean ** (1 / rho) - noisy ** (1 / rho))) ** rho
    return _path(schedule, ratio, schedule.at_ratio)


def uniform_log_snr(schedule: Schedule, steps: int) -> Path:
    """Evenly spaced in log(alpha / sigma) over the trained range.

    Args:
        schedule: with a finite ratio at both ends.
        steps: number of steps, in 2..T.

    Returns:
        ``steps`` levels and the schedule's end.

    Raises:
        ValueError: steps out of range, or a schedule that begins at pure noise.
    """
    clean, noisy = _finite_ends(schedule, "uniform_log_snr")
    return _path(schedule, torch.lerp(noisy.log(), clean.log(), _shares(schedule, steps)).exp(), schedule.at_ratio)


def suffix(path: list[_Stop], strength: float) -> list[_Stop]:
    """The last part of a path, for starting from a noised image instead of pure noise.

    Args:
        path: S + 1 levels.
        strength: share of the S steps to keep, in (0, 1]; int(S * strength) of them, at least one. diffusers cuts off a
            rounding error with it: 0.29 of 100 are 28 steps there and 29 here.

    Raises:
        ValueError: strength out of range.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength must lie in (0, 1], got {strength}")
    kept = max(1, int((len(path) - 1) * strength + 1e-9))
    return path[-1 - kept :]


def backwards(path: Path) -> Path:
    """The path from clean to noisy, for inversion; a clean end (sigma = 0) is dropped, since noise is undefined there.

    Raises:
        ValueError: fewer than two noisy levels.
    """
    noisy = [level for level in path if level.sigma > 0]
    if len(noisy) < 2:
        raise ValueError("a path needs at least two noisy levels to be walked backwards")
    return noisy[::-1]


def bumps(path: list[_Stop], length: int, repeats: int) -> list[_Stop]:
    """Walk stretches of a path several times, going up again between: the resampling of RePaint.

    Whenever 0, 1, 2, ... times ``length`` steps are left, the path returns by ``length`` levels and walks them again,
    ``repeats`` times in all. It never returns to its first level, so a path of ``length`` steps or fewer is left as it
    is. The steps that go up need a step that knows how, such as ``Renoising``.

    Args:
        path: S + 1 levels.
        length: steps in a stretch, >= 1; 10 of 250 in the paper.
        repeats: times that each stretch is walked, >= 1; 1 leaves the path as it is; 10 in the paper.

    Raises:
        ValueError: a setting out of range.

    Paper: RePaint: Inpainting using Denoising Diffusion Probabilistic Models (Lugmayr et al., 2022), arXiv:2201.09865,
        section 4.2 and appendix B.
    """
    if length < 1 or repeats < 1:
        raise ValueError(f"needs length >= 1 and repeats >= 1, got {length} and {repeats}")
    walked, steps = path[:1], len(path) - 1
    for index in range(1, len(path)):
        walked.append(path[index])
        left = steps - index
        if left % length == 0 and left + length < steps:
            walked += path[index - length : index + 1] * (repeats - 1)
    return walked


def _indices(schedule: Schedule, steps: int) -> Tensor:
    if not 1 <= steps <= schedule.steps:
        raise ValueError(f"steps must lie in 1..{schedule.steps}, got {steps}")
    return torch.arange(steps, dtype=torch.float64)


def _shares(schedule: Schedule, steps: int) -> Tensor:
    if steps < 2:
        raise ValueError(f"this spacing visits both ends, so it needs at least 2 steps, got {steps}")
    return _indices(schedule, steps) / (steps - 1)


def _finite_ends(schedule: Schedule, name: str) -> tuple[Tensor, Tensor]:
    ends = torch.tensor([1.0, schedule.steps], dtype=torch.float64)
    clean, noisy = schedule.at(schedule.time_at(ends)).ratio
    if noisy.isinf():
        raise ValueError(f"{name} needs a finite sigma / alpha, and this schedule begins at pure noise; use trailing")
    return clean, noisy


def _path(schedule: Schedule, values: Tensor, level_of: Callable[[Tensor], Level]) -> Path:
    all_levels = level_of(values)
    numbers = zip(all_levels.time, all_levels.alpha, all_levels.sigma, strict=True)
    levels = [Level(*number, progress=index / len(values)) for index, number in enumerate(numbers)]
    return [*levels, replace(schedule.end, progress=1.0)]
