"""Samplers by name, set up as the checkpoint was published.

A checkpoint's scheduler settings say where a path visits the trained times (spacing and offset), at which level it
ends, and, by the kind of sampler, how strong the first noise is. ``ddim``, ``dpmpp_2m``, ``euler``, ``euler_a`` and
``heun`` are our own steps and give what diffusers' scheduler of that kind gives with the same settings; every other
name is a diffusers scheduler, driven by ``sfumato.samplers.diffusers_scheduler``.

Differs from diffusers: where the number of steps does not divide the trained times, its DDIM with trailing or linspace
spacing steps to a level between two of its times and then reads x as if at the next one; ours steps to that next time.
Its Heun forgets ``rescale_betas_zero_snr``; ours keeps it. ``clip_sample`` is followed by no name: latents have no
fixed range, and diffusers' Stable Diffusion pipelines switch it off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.path import Path, leading, linspace, trailing
from sfumato.core.steps import Ddim, Dpmpp2M, EulerAncestral, Heun, Step
from sfumato.samplers.sampler import Sampler
from sfumato.samplers.schedule import alphas_cumprod, schedule_of

__all__ = ["SHORT_NAMES", "named_sampler"]

_CLASSES = {"unipc": "UniPCMultistepScheduler", "lcm": "LCMScheduler"}
_LEAST_ALPHA_CUMPROD = 2.0**-24


@dataclass(frozen=True)
class _Native:
    """One of our steps with the diffusers class whose settings it reads, and the values of them that it follows."""

    step: Step
    diffusers: str
    build: Callable[[Mapping[str, Any], int], tuple[Path, float]]
    follows: Mapping[str, tuple[object, ...]]


def named_sampler(name: str, config: Mapping[str, Any], steps: int) -> Sampler:
    """The sampler of a name.

    Args:
        name: one of ``SHORT_NAMES``, or the class name of a diffusers scheduler.
        config: the checkpoint's scheduler settings; those left out have the defaults of the named kind.
        steps: number of steps, >= 1 and at most the trained times.

    Raises:
        ValueError: an unknown name (the nearest are given), steps out of range, or settings of the named kind that our
            own step does not follow (the diffusers class that does is given). Settings of other kinds do not matter.
    """
    trained = config.get("num_train_timesteps", 1000)
    if not 1 <= steps <= trained:
        raise ValueError(f"steps must lie in 1..{trained}, got {steps}")
    if name in _NATIVE:
        native = _NATIVE[name]
        _check_settings(name, native, config)
        path, scale = native.build(config, steps)
        return Sampler(path, native.step, scale)
    return _diffusers_sampler(name, config, steps)


def _diffusers_sampler(name: str, config: Mapping[str, Any], steps: int) -> Sampler:
    from sfumato.samplers.diffusers_scheduler import class_names, from_scheduler, scheduler_of

    known = class_names()
    if _CLASSES.get(name, name) not in known:
        folded = {each.lower(): each for each in (*SHORT_NAMES, *known)}
        near = [folded[each] for each in get_close_matches(name.lower().replace("+", "p"), folded, n=3, cutoff=0.5)]
        if not near:
            raise ValueError(f"no scheduler {name!r}; known: {', '.join(SHORT_NAMES)}")
        raise ValueError(f"no scheduler {name!r}; did you mean {' or '.join(repr(each) for each in near)}?")
    return from_scheduler(scheduler_of(_CLASSES.get(name, name), config), steps)


def _ddim(config: Mapping[str, Any], steps: int) -> tuple[Path, float]:
    schedule = schedule_of(config)
    match config.get("timestep_spacing", "leading"):
        case "trailing":
            return trailing(schedule, steps), 1.0
        case "linspace":
            return linspace(schedule, steps), 1.0
        case _:
            return leading(schedule, steps, config.get("steps_offset", 0)), 1.0


def _dpmpp_2m(config: Mapping[str, Any], steps: int) -> tuple[Path, float]:
    table = _finite(alphas_cumprod(config))
    kept = _kept(table, config)
    match config.get("timestep_spacing", "linspace"):
        case "trailing":
            times = _trailing(len(table), steps, kept)
        case "leading":
            times = _leading(kept, steps + 1, config)[:-1]
        case _:
            times = _both_ends(kept, steps + 1).round()[:-1]
    return _levels(table, times), 1.0


def _euler(config: Mapping[str, Any], steps: int) -> tuple[Path, float]:
    table = _finite(alphas_cumprod(config))
    match config.get("timestep_spacing", "linspace"):
        case "trailing":
            times = _trailing(len(table), steps, len(table))
        case "leading":
            path = _levels(table, _leading(len(table), steps, config))
            return path, 1.0
        case _:
            times = _both_ends(len(table), steps)
    path = _levels(table, times)
    return path, float(path[0].sigma)


_OFF = (False, None)
_EVEN: Mapping[str, tuple[object, ...]] = dict.fromkeys(
    ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"), _OFF
)
_NATIVE: Mapping[str, _Native] = {
    "ddim": _Native(Ddim(), "DDIMScheduler", _ddim, {"thresholding": _OFF}),
    "dpmpp_2m": _Native(
        Dpmpp2M(),
        "DPMSolverMultistepScheduler",
        _dpmpp_2m,
        {
            **_EVEN,
            **dict.fromkeys(("use_flow_sigmas", "use_lu_lambdas", "thresholding"), _OFF),
            "final_sigmas_type": ("zero",),
            "algorithm_type": ("dpmsolver++", "deis"),
            "solver_order": (2,),
            "solver_type": ("midpoint", "bh1", "bh2", "logrho"),
        },
    ),
    "euler": _Native(
        Ddim(),
        "EulerDiscreteScheduler",
        _euler,
        {
            **_EVEN,
            "interpolation_type": ("linear",),
            "timestep_type": ("discrete",),
            "final_sigmas_type": ("zero",),
        },
    ),
    "euler_a": _Native(EulerAncestral(), "EulerAncestralDiscreteScheduler", _euler, {}),
    "heun": _Native(Heun(), "HeunDiscreteScheduler", _euler, _EVEN),
}
SHORT_NAMES: tuple[str, ...] = (*_NATIVE, *_CLASSES)
"""Names shorter than a class; every class of diffusers that samples such checkpoints is a name too."""

_SPACINGS = ("leading", "trailing", "linspace")


def _check_settings(name: str, native: _Native, config: Mapping[str, Any]) -> None:
    spacing = config.get("timestep_spacing", "leading")
    if spacing not in _SPACINGS:
        known = ", ".join(_SPACINGS)
        raise ValueError(f"this checkpoint's scheduler has timestep_spacing = {spacing!r}; give it one of {known}")
    for key, followed in native.follows.items():
        if key in config and config[key] not in followed:
            raise ValueError(
                f"this checkpoint's scheduler has {key} = {config[key]!r}, which {name!r} does not follow; "
                f"use {native.diffusers!r}, which does"
            )


def _finite(table: Tensor) -> Tensor:
    """As diffusers keeps sigma / alpha finite for samplers that work in it: pure noise becomes alpha^2 = 2^-24."""
    return torch.where(table == 0, _LEAST_ALPHA_CUMPROD, table)


def _kept(table: Tensor, config: Mapping[str, Any]) -> int:
    """How many times have a log(alpha / sigma) of at least ``lambda_min_clipped``: those that DPM-Solver visits."""
    least = config.get("lambda_min_clipped")
    if least is None:
        return len(table)
    kept = int((table.logit() / 2 >= least).sum()) if isinstance(least, int | float) else 0
    if not kept:
        raise ValueError(
            f"this checkpoint's scheduler has lambda_min_clipped = {least!r}, which leaves no level; "
            "give it a number such as -5.1, or none"
        )
    return kept


def _trailing(trained: int, steps: int, kept: int) -> Tensor:
    """From the last of the kept times down, as far apart as from the last trained one; fewer than steps fit then."""
    times = (kept - torch.arange(steps, dtype=torch.float64) * (trained / steps)).round() - 1
    return times[times >= 0]


def _leading(trained: int, count: int, config: Mapping[str, Any]) -> Tensor:
    times = torch.arange(count, dtype=torch.float64).flip(0) * (trained // count) + config.get("steps_offset", 0)
    if count > trained or not 0 <= times[0] < trained:
        raise ValueError(f"{count} times with an offset do not fit the checkpoint's {trained}; use fewer steps")
    return times


def _both_ends(trained: int, count: int) -> Tensor:
    if not 2 <= count <= trained:
        raise ValueError(f"this checkpoint's spacing visits both ends of {trained} times; {count} of them do not fit")
    gap = (trained - 1) / (count - 1)
    return (torch.arange(count, dtype=torch.float64).flip(0) * gap).clamp(max=trained - 1)


def _levels(table: Tensor, times: Tensor) -> Path:
    """Levels at times, sigma / alpha being linear between whole times as in diffusers; then the clean end."""
    ratios = (1 / table - 1).sqrt()
    low = times.floor().long()
    ratio = torch.lerp(ratios[low], ratios[times.ceil().long()], times - low)
    alpha = (1 + ratio**2).rsqrt()
    noisy = [Level(times[i], alpha[i], ratio[i] * alpha[i], i / len(times)) for i in range(len(times))]
    zero = torch.zeros((), dtype=torch.float64)
    return [*noisy, Level(zero, torch.ones_like(zero), zero, 1.0)]
