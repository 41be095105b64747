"""Named samplers visit diffusers' times at diffusers' levels, from diffusers' first noise, for any settings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from torch import Tensor

import sfumato
from sfumato.core.noise import Noise
from sfumato.core.sample import Record, sample
from sfumato.core.steps import Ddim, Dpmpp2M, EulerAncestral, Heun
from sfumato.samplers.diffusers_scheduler import DiffusersStep
from sfumato.samplers.names import SHORT_NAMES, named_sampler
from tests.tiny import EMOJI_SCHEDULER, SD1_SCHEDULER, SD2_SCHEDULER, SDXL_SCHEDULER

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


def levels(name: str, config: Mapping[str, Any]) -> Tensor:
    """Time, alpha and sigma of each level of four steps."""
    return torch.stack(
        [torch.stack([each.time, each.alpha, each.sigma]) for each in named_sampler(name, config, 4).path]
    )


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


@pytest.mark.parametrize("steps", [10, 20])
def test_heun_on_the_embedded_model_ends_with_latents_like_those_of_ddim(steps: int) -> None:
    parts, spreads = sfumato.load("emoji"), list[float]()
    for name in ("heun", "ddim"):
        records: list[Record] = []
        walk = sfumato.Walk(steps=steps, scheduler=name)
        sfumato.text_to_image(parts, ["a red apple"], seeds=[0], walk=walk, watch=records.append)
        spreads.append(float(records[-1].x.std()))
    assert spreads[0] == pytest.approx(spreads[1], rel=0.2)


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


KINDS = {"ddim": DDIMScheduler, **SIGMA_KINDS, "heun": HeunDiscreteScheduler}
UNFOLLOWED: dict[str, Any] = {
    "use_karras_sigmas": True,
    "use_exponential_sigmas": True,
    "use_beta_sigmas": True,
    "use_flow_sigmas": True,
    "use_lu_lambdas": True,
    "thresholding": True,
    "interpolation_type": "log_linear",
    "timestep_type": "continuous",
    "final_sigmas_type": "sigma_min",
    "algorithm_type": "sde-dpmsolver++",
    "solver_order": 3,
    "solver_type": "heun",
}


@pytest.mark.parametrize("setting", UNFOLLOWED)
@pytest.mark.parametrize("name", KINDS)
def test_a_setting_is_refused_if_the_named_kind_reads_it_and_no_other_is(name: str, setting: str) -> None:
    config = {**SD1_SCHEDULER, setting: UNFOLLOWED[setting]}
    if setting not in inspect.signature(KINDS[name].__init__).parameters:
        assert torch.equal(levels(name, config), levels(name, SD1_SCHEDULER))
        return
    remedy = KINDS[name].__name__
    sentence = f"{setting} = {UNFOLLOWED[setting]!r}, which '{name}' does not follow; use '{remedy}', which does"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        named_sampler(name, config, 4)
    kept = named_sampler(remedy, config, 4).step
    assert isinstance(kept, DiffusersStep) and kept.scheduler.config[setting] == UNFOLLOWED[setting]


@pytest.mark.parametrize("name", KINDS)
def test_a_spacing_that_nobody_knows(name: str) -> None:
    with pytest.raises(ValueError, match="timestep_spacing = 'odd'; give it one of leading, trailing, linspace"):
        named_sampler(name, {**SD1_SCHEDULER, "timestep_spacing": "odd"}, 4)


@pytest.mark.parametrize("steps", [3, 10, 20, 37])
@pytest.mark.parametrize("spacing", SPACINGS, ids=str)
@pytest.mark.parametrize("least", [-5.1, -2.0, float("-inf")])
def test_dpm_solver_leaves_out_levels_below_its_least_lambda(least: float, spacing: dict[str, Any], steps: int) -> None:
    """A cosine schedule ends at nearly pure noise, so its checkpoints are published with a least log(alpha / sigma)."""
    config = {**EMOJI_SCHEDULER, "timestep_spacing": "linspace", **spacing, "lambda_min_clipped": least}
    theirs = DPMSolverMultistepScheduler.from_config(config)
    theirs.set_timesteps(steps)
    path = named_sampler("dpmpp_2m", config, steps).path
    assert [int(level.time) for level in path[:-1]] == theirs.timesteps.tolist()
    ratios = torch.stack([level.ratio for level in path])
    torch.testing.assert_close(ratios, theirs.sigmas.double(), rtol=1e-3, atol=1e-6)


def test_the_least_lambda_is_that_of_dpm_solver_alone_and_leaves_some_level() -> None:
    config = {**EMOJI_SCHEDULER, "lambda_min_clipped": 50.0}
    assert torch.equal(levels("ddim", config), levels("ddim", EMOJI_SCHEDULER))
    for least in (50.0, float("nan"), "-5.1"):
        with pytest.raises(ValueError, match=f"lambda_min_clipped = {least!r}, which leaves no level"):
            named_sampler("dpmpp_2m", {**config, "lambda_min_clipped": least}, 4)
    assert torch.equal(levels("dpmpp_2m", {**config, "lambda_min_clipped": None}), levels("dpmpp_2m", EMOJI_SCHEDULER))


@pytest.mark.parametrize("setting", [{"euler_at_final": True}, {"lambda_min_clipped": -5.1}], ids=str)
@pytest.mark.parametrize("steps", [6, 18])
def test_dpm_solver_gives_what_diffusers_gives(setting: dict[str, Any], steps: int) -> None:
    """Its last step is Euler's anyway where the path ends at a clean picture."""
    config, start = {**EMOJI_SCHEDULER, **setting}, Noise([3])((1, 4, 4, 4))
    ours, theirs = (named_sampler(name, config, steps) for name in ("dpmpp_2m", "DPMSolverMultistepScheduler"))
    found, wanted = (
        sample(lambda x, level: torch.tanh(x + 0.3), start, each.path, each.step, noise=Noise([3]))
        for each in (ours, theirs)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
