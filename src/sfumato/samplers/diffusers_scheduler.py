"""Any diffusers scheduler inside ``sample``: the way out for samplers that we do not have.

diffusers' schedulers remember (counters, earlier outputs) and some work in x / alpha. Here each step works on a copy
and hands that copy on as its state, x is always alpha * x0 + sigma * noise outside, and noise comes from the images'
own seeds. Schedulers that look twice a step (Heun, KDPM2) have two levels a step in their path. What a walk does to x
between two steps (a mask's known part, Langevin steps) counts: UniPC then leaves out its correction of the step before.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sfumato.core.level import Level, along
from sfumato.core.noise import Noise
from sfumato.core.path import Path
from sfumato.core.predict import from_x0
from sfumato.core.schedules import DiscreteSchedule
from sfumato.core.steps import Denoiser, State
from sfumato.samplers.sampler import Sampler
from sfumato.samplers.schedule import prediction_of

__all__ = ["DiffusersStep", "class_names", "from_scheduler", "scheduler_of"]

_ZERO_SNR = "rescale_betas_zero_snr"
_WEIGH_BY_RATIO = ("HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler")
"""Whose steps multiply small errors of a slope by sigma / alpha, so that they need levels where that is not large."""


def class_names() -> tuple[str, ...]:
    """The class names of all diffusers schedulers that sample checkpoints with a table of trained times.

    Left out are one with levels of its own, and one whose noise cannot be drawn from the images' seeds.
    """
    from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers

    left_out = {"EDMEulerScheduler", "DPMSolverSDEScheduler"}
    return (*sorted(set(KarrasDiffusionSchedulers.__members__) - left_out), "LCMScheduler", "TCDScheduler")


def scheduler_of(name: str, config: Mapping[str, Any]) -> Any:
    """A diffusers scheduler of a class name, with those of a checkpoint's settings that the class knows.

    ``clip_sample`` is off whatever the settings say, as in diffusers' Stable Diffusion pipelines: DDIM and DDPM would
    clip where the settings say nothing, and clean estimates of latents leave [-1, 1].

    Raises:
        ValueError: the class cannot be built from these settings, or does not know that the checkpoint was trained with
            ``rescale_betas_zero_snr`` and would sample on other levels.
    """
    import diffusers.schedulers

    kind, parameters = getattr(diffusers.schedulers, name), _settings_of(name)
    if config.get(_ZERO_SNR) and _ZERO_SNR not in parameters:
        follow = ", ".join(each for each in class_names() if _ZERO_SNR in _settings_of(each))
        raise ValueError(
            f"this checkpoint was trained with {_ZERO_SNR}, which {name} does not know, so its levels would be others; "
            f"choose ddim, dpmpp_2m, euler, euler_a, heun, unipc or lcm, or a class that does: {follow}"
        )
    known = {key: value for key, value in {**config, "clip_sample": False}.items() if key in parameters}
    try:
        return kind(**known)
    except (ImportError, NotImplementedError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{name} cannot be used with this checkpoint's scheduler settings: {reason}") from error


def _settings_of(name: str) -> tuple[str, ...]:
    """The names of a class's settings."""
    import diffusers.schedulers

    return tuple(inspect.signature(getattr(diffusers.schedulers, name).__init__).parameters)


def from_scheduler(scheduler: Any, steps: int) -> Sampler:
    """The sampler that a diffusers scheduler makes.

    Args:
        scheduler: not changed; a copy is driven.
        steps: number of steps, as for its ``set_timesteps``.

    Returns:
        a path of one level for each of the scheduler's timesteps and the end, a step, and the scale of the first noise.

    Raises:
        ValueError: steps that the scheduler refuses or with which it visits a level twice; a scheduler without a table
            of trained times, or one that cannot begin at a level that is nearly all noise where its path does.
    """
    fresh = copy.deepcopy(scheduler)
    if getattr(fresh, "alphas_cumprod", None) is None:
        raise ValueError(f"{type(fresh).__name__} has no table of trained times, so it cannot sample this checkpoint")
    try:
        fresh.set_timesteps(steps)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{type(fresh).__name__} refuses {steps} steps: {error}") from error
    path, step = _path(fresh), DiffusersStep(fresh, _works_in_ratio(fresh))
    _check_path(path, step, steps)
    start = float(path[0].alpha) if step.in_ratio else 1.0
    return Sampler(path, step, start * float(fresh.init_noise_sigma))


def _check_path(path: Path, step: DiffusersStep, steps: int) -> None:
    name = type(step.scheduler).__name__
    if name in _WEIGH_BY_RATIO and path[0].is_nearly_noise:
        raise ValueError(
            f"{name} cannot begin where sigma is {float(path[0].ratio):.3g} times alpha, as this checkpoint's path "
            "does; choose our own heun, dpmpp_2m or unipc"
        )
    twice = (a.time == b.time and a.sigma == b.sigma for a, b in pairwise(path[:-1]))
    if not step.looks_twice and any(twice):
        raise ValueError(f"{name} visits a level twice with {steps} steps; use fewer steps")


@dataclass(frozen=True, eq=False)
class DiffusersStep:
    """One call of a diffusers scheduler's ``step``.

    Forwards per step: 1; schedulers of second order count two steps in a path.

    Args:
        scheduler: with its timesteps set; never changed.
        in_ratio: it works in x / alpha, so that its x is larger than ours by 1 / alpha.
    """

    scheduler: Any
    in_ratio: bool

    def __call__(
        self, denoise: Denoiser, x: Tensor, level: Level, next_level: Level, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """x (B, ...) at ``level`` to x at ``next_level``; the state is index, a copy of the scheduler, and x there.

        Raises:
            ValueError: a level that the scheduler has not, or one in its middle if it looks twice a step; x that is no
                longer finite after the step.
        """
        index, scheduler, left = state or (*self._begun(level), x)
        scheduler = copy.deepcopy(scheduler)
        if x is not left and hasattr(scheduler, "last_sample"):
            scheduler.last_sample = None
        time = scheduler.timesteps[index]
        theirs = x / along(level.alpha, x) if self.in_ratio else x
        scheduler.scale_model_input(theirs, time)
        output = from_x0(prediction_of(scheduler.config), denoise(x, level), x, level)
        moved = scheduler.step(output, time, theirs, **_random(scheduler, noise)).prev_sample
        moved = moved * along(next_level.alpha, x) if self.in_ratio else moved
        if not moved.isfinite().all():
            raise ValueError(
                f"x is no longer finite after the step of {type(scheduler).__name__} from {level}; choose another "
                "number of steps, or ddim, dpmpp_2m, euler, euler_a or heun"
            )
        return moved, (index + 1, scheduler, moved)

    @property
    def looks_twice(self) -> bool:
        """Whether some of its steps take two calls; PNDM says that its order is 1, and repeats its first timesteps."""
        return self.scheduler.order > 1 or hasattr(self.scheduler, "plms_timesteps")

    @property
    def holds_x(self) -> bool:
        """Whether it goes on from an x of some calls before, so that what was done to x since is lost."""
        return self.looks_twice or hasattr(self.scheduler, "sample")

    def _begun(self, level: Level) -> tuple[int, Any]:
        """The index of the timestep of a level, and a copy that begins there: a walk may start in the middle.

        Where spacings are uneven, times near the clean end are rounded to the same one, and sigma tells which is meant.
        """
        found = (self.scheduler.timesteps.double().cpu() == level.time).nonzero().flatten().tolist()
        if not found:
            raise ValueError(f"{type(self.scheduler).__name__} has no timestep at {level}; walk the path that it made")
        path = _path(self.scheduler)
        index = min(found, key=lambda each: float((path[each].sigma - level.sigma).abs()))
        if index and self.looks_twice:
            raise ValueError(
                f"{type(self.scheduler).__name__} looks twice a step, so it can be walked from its first level only; "
                "choose ddim, dpmpp_2m, euler, unipc or our own heun"
            )
        begun = copy.deepcopy(self.scheduler)
        if hasattr(begun, "set_begin_index"):
            begun.set_begin_index(index)
        return index, begun

    def __repr__(self) -> str:
        return f"DiffusersStep({type(self.scheduler).__name__})"


def _random(scheduler: Any, noise: Noise) -> dict[str, list[torch.Generator]]:
    if "generator" not in inspect.signature(scheduler.step).parameters:
        return {}
    seeds = (noise.uniform((len(noise.seeds),)) * 2**53).long()
    return {"generator": [torch.Generator("cpu").manual_seed(int(seed)) for seed in seeds]}


def _works_in_ratio(scheduler: Any) -> bool:
    """Whether the scheduler scales x before the network sees it."""
    probe = copy.deepcopy(scheduler)
    one = torch.ones(1)
    return not torch.equal(probe.scale_model_input(one, probe.timesteps[0]), one)


def _path(scheduler: Any) -> Path:
    table = scheduler.alphas_cumprod.double()
    times = scheduler.timesteps.double().cpu()
    sigmas = getattr(scheduler, "sigmas", None)
    exact = DiscreteSchedule(table)
    levels: Path = []
    for index, time in enumerate(times):
        between = sigmas is None or (hasattr(scheduler, "sigmas_interpol") and index % 2 == 1)
        level = exact.at(time) if between or sigmas is None else _at_ratio(time, sigmas[index])
        levels.append(replace(level, progress=index / len(times)))
    end = torch.as_tensor(getattr(scheduler, "final_alpha_cumprod", 1.0)).double()
    return [*levels, Level(torch.zeros_like(end), end.sqrt(), (1 - end).sqrt(), 1.0)]


def _at_ratio(time: Tensor, ratio: Any) -> Level:
    ratio = torch.as_tensor(ratio).double().cpu()
    alpha = (1 + ratio**2).rsqrt()
    return Level(time, alpha, ratio * alpha)
