"""Named samplers visit diffusers' times at diffusers' levels, from diffusers' first noise, for any settings."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler

from sfumato.core.steps import Ddim, Dpmpp2M, EulerAncestral, Heun
from sfumato.samplers.diffusers_scheduler import DiffusersStep
from sfumato.samplers.names import SHORT_NAMES, named_sampler
from tests.tiny import SD1_SCHEDULER, SD2_SCHEDULER, SDXL_SCHEDULER

SPACINGS: list[dict[str, Any]] = [
    {},
    {"timestep_spacing": "leading", "steps_offset": 1},
    {"timestep_spacing": "leading", "steps_offset": 0},
    {"timestep_spacing": "trailing"},
    {"timestep_spacing": "linspace"},
]
SIGMA_KINDS = {
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_a": EulerAncestralDiscreteScheduler,
}


def without_spacing() -> dict[str, Any]:
    """Settings that leave spacing and offset to the defaults of each kind."""
    return {key: value for key, value in SD1_SCHEDULER.items() if key not in ("timestep_spacing", "steps_offset")}


@pytest.mark.parametrize("steps", [2, 7, 20, 50, 333])
@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
@pytest.mark.parametrize("name", SIGMA_KINDS)
def test_levels_of_samplers_in_sigma(name: str, spacing: dict[str, Any], steps: int) -> None:
    config = {**without_spacing(), **spacing}
    theirs = SIGMA_KINDS[name].from_config(config)
    theirs.set_timesteps(steps)
    sampler = named_sampler(name, config, steps)
    times = torch.stack([level.time for level in sampler.path[:-1]])
    ratios = torch.stack([level.ratio for level in sampler.path])
    torch.testing.assert_close(times, theirs.timesteps.double(), rtol=0, atol=1e-4)
    torch.testing.assert_close(ratios, theirs.sigmas.double(), rtol=1e-4, atol=1e-6)
    in_their_scale = 1.0 if name == "dpmpp_2m" else float(sampler.path[0].alpha)
    assert sampler.scale == pytest.approx(in_their_scale * float(theirs.init_noise_sigma), rel=1e-5)


@pytest.mark.parametrize("steps", [2, 8, 20, 50, 500])
@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
@pytest.mark.parametrize("to_one", [True, False])
def test_levels_of_ddim(spacing: dict[str, Any], steps: int, to_one: bool) -> None:
    config = {**without_spacing(), **spacing, "set_alpha_to_one": to_one}
    theirs = DDIMScheduler.from_config(config)
    theirs.set_timesteps(steps)
    sampler = named_sampler("ddim", config, steps)
    assert [int(level.time) for level in sampler.path[:-1]] == theirs.timesteps.tolist()
    alphas = torch.stack([level.alpha**2 for level in sampler.path])
    expected = torch.cat([theirs.alphas_cumprod[theirs.timesteps], theirs.final_alpha_cumprod.reshape(1)])
    torch.testing.assert_close(alphas, expected.double(), rtol=1e-5, atol=0)
    assert sampler.scale == 1


def test_heun_visits_eulers_levels() -> None:
    theirs = HeunDiscreteScheduler.from_config(SDXL_SCHEDULER)
    theirs.set_timesteps(6)
    ratios = torch.stack([level.ratio for level in named_sampler("heun", SDXL_SCHEDULER, 6).path])
    torch.testing.assert_close(ratios, theirs.sigmas.double().unique().flip(0), rtol=1e-4, atol=1e-6)


def test_zero_terminal_snr_stays_finite_for_samplers_in_sigma() -> None:
    config = {**SD2_SCHEDULER, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    assert named_sampler("ddim", config, 10).path[0].alpha == 0
    theirs = EulerDiscreteScheduler.from_config(config)
    theirs.set_timesteps(10)
    for name in ("euler", "dpmpp_2m"):
        first = named_sampler(name, config, 10).path[0]
        assert float(first.ratio) == pytest.approx(float(theirs.sigmas[0]), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "step"),
    [("ddim", Ddim()), ("dpmpp_2m", Dpmpp2M()), ("euler", Ddim()), ("euler_a", EulerAncestral()), ("heun", Heun())],
)
def test_native_steps(name: str, step: Any) -> None:
    assert named_sampler(name, SD1_SCHEDULER, 4).step == step


@pytest.mark.parametrize(("name", "kind"), [("unipc", "UniPC"), ("lcm", "LCM"), ("PNDMScheduler", "PNDM")])
def test_diffusers_steps(name: str, kind: str) -> None:
    step = named_sampler(name, SD1_SCHEDULER, 4).step
    assert isinstance(step, DiffusersStep) and repr(step).startswith(f"DiffusersStep({kind}")


def test_every_short_name_gives_a_path() -> None:
    assert SHORT_NAMES == ("ddim", "dpmpp_2m", "euler", "euler_a", "heun", "unipc", "lcm")
    for name in SHORT_NAMES:
        path = named_sampler(name, SD1_SCHEDULER, 4).path
        assert path[-1].progress == 1 and path[0].progress == 0 and path[0].sigma > 0.9


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("dpm++", "dpmpp_2m"),
        ("eular", "euler"),
        ("DDIM", "ddim"),
        ("UNIPC", "unipc"),
        ("EulerDiscreteSchedular", "EulerDiscreteScheduler"),
        ("ddimscheduler", "DDIMScheduler"),
    ],
)
def test_a_wrong_name_gets_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean .*'{right}'"):
        named_sampler(wrong, SD1_SCHEDULER, 4)


def test_a_name_like_nothing_gets_the_list() -> None:
    with pytest.raises(ValueError, match="no scheduler 'zzz'; known: ddim, dpmpp_2m, euler"):
        named_sampler("zzz", SD1_SCHEDULER, 4)
    with pytest.raises(ValueError, match="no scheduler 'FlowMatchEulerDiscreteScheduler'"):
        named_sampler("FlowMatchEulerDiscreteScheduler", SD1_SCHEDULER, 4)


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_steps_out_of_range(name: str) -> None:
    for steps in (0, -1, 1001):
        with pytest.raises(ValueError, match="step"):
            named_sampler(name, SD1_SCHEDULER, steps)


@pytest.mark.parametrize(
    ("name", "setting", "value", "remedy"),
    [
        ("euler", "use_karras_sigmas", True, "EulerDiscreteScheduler"),
        ("euler", "interpolation_type", "log_linear", "EulerDiscreteScheduler"),
        ("dpmpp_2m", "algorithm_type", "sde-dpmsolver++", "DPMSolverMultistepScheduler"),
        ("dpmpp_2m", "solver_order", 3, "DPMSolverMultistepScheduler"),
        ("dpmpp_2m", "final_sigmas_type", "sigma_min", "DPMSolverMultistepScheduler"),
        ("ddim", "thresholding", True, "DDIMScheduler"),
        ("ddim", "timestep_spacing", "odd", "DDIMScheduler"),
    ],
)
def test_settings_that_are_not_followed(name: str, setting: str, value: Any, remedy: str) -> None:
    sentence = f"{setting} = {value!r}, which '{name}' does not follow; use '{remedy}', which does"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        named_sampler(name, {**SD1_SCHEDULER, setting: value}, 4)


def test_settings_of_another_kind_do_not_matter() -> None:
    assert named_sampler("ddim", {**SD1_SCHEDULER, "solver_order": 3}, 4).scale == 1
