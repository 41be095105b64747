"""A driven diffusers scheduler does what the same scheduler does by itself."""

from __future__ import annotations

import copy
import inspect
from itertools import pairwise
from typing import Any

import diffusers.schedulers
import pytest
import torch
from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.predict import from_x0
from sfumato.core.sample import sample
from sfumato.core.steps import Ddim
from sfumato.samplers.diffusers_scheduler import DiffusersStep, class_names, from_scheduler, scheduler_of
from sfumato.samplers.names import named_sampler
from sfumato.samplers.schedule import prediction_of
from tests.parts import Gaussian
from tests.tiny import EMOJI_SCHEDULER, SD1_SCHEDULER, SD2_SCHEDULER, ZERO_SNR

NAMES = sorted(class_names())
ZERO_TERMINAL = {**SD2_SCHEDULER, **ZERO_SNR}
KNOW_ZERO_SNR = [
    name
    for name in NAMES
    if "rescale_betas_zero_snr" in inspect.signature(getattr(diffusers.schedulers, name).__init__).parameters
]
CASES = {
    **{f"{name}, noise": (name, SD1_SCHEDULER) for name in NAMES},
    **{f"{name}, v, zero terminal": (name, ZERO_TERMINAL) for name in KNOW_ZERO_SNR},
}


def denoise(x: Tensor, level: Level) -> Tensor:
    """The clean estimate for Gaussian data of mean 0.3 and variance 1/4, made nonlinear."""
    alpha, sigma = level.alpha, level.sigma
    return (0.25 * alpha * x + 0.3 * sigma**2) / (0.25 * alpha**2 + sigma**2) + 0.1 * torch.tanh(x)


def alone(scheduler: Any, x: Tensor, steps: int, seeds: list[int], path: list[Level]) -> Tensor:
    """diffusers' own loop, with noise from the generators that the driven step uses."""
    scheduler.set_timesteps(steps)
    noise, x = Noise(seeds), x * scheduler.init_noise_sigma
    for time, level in zip(scheduler.timesteps, path, strict=False):
        scaled = scheduler.scale_model_input(x, time)
        output = from_x0(prediction_of(scheduler.config), denoise(scaled, level), scaled, level)
        random = {}
        if "generator" in scheduler.step.__code__.co_varnames:
            drawn = (noise.uniform((len(seeds),)) * 2**53).long().tolist()
            random = {"generator": [torch.Generator().manual_seed(seed) for seed in drawn]}
        x = scheduler.step(output, time, x, **random).prev_sample
    return x


@pytest.mark.parametrize(("name", "config"), CASES.values(), ids=CASES)
def test_equals_the_scheduler_alone(name: str, config: dict[str, Any]) -> None:
    scheduler, seeds = scheduler_of(name, config), [1, 2]
    sampler = from_scheduler(scheduler, 8)
    start = Noise(seeds)((2, 4, 4, 4))
    ours = sample(denoise, sampler.scale * start, sampler.path, sampler.step, noise=Noise(seeds))
    theirs = alone(scheduler, start, 8, seeds, sampler.path)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
    assert ours.std() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_told_the_level_that_x_has(name: str) -> None:
    scheduler = scheduler_of(name, SD1_SCHEDULER)
    sampler = from_scheduler(scheduler, 8)
    levels: list[Level] = []
    inputs: list[Tensor] = []

    def exact(x: Tensor, level: Level) -> Tensor:
        levels.append(level)
        inputs.append(x)
        return torch.zeros_like(x)

    start = Noise([3])((1, 4, 16, 16))
    sample(exact, sampler.scale * start, sampler.path, sampler.step, noise=Noise([3]))
    assert len(levels) == len(sampler.path) - 1
    for level, x in zip(levels, inputs, strict=True):
        if level.sigma > 0.1:
            assert x.std() == pytest.approx(float(level.sigma), rel=0.1)


@pytest.mark.parametrize("name", ["UniPCMultistepScheduler", "HeunDiscreteScheduler", "LCMScheduler"])
def test_nothing_is_left_behind(name: str) -> None:
    scheduler = scheduler_of(name, SD1_SCHEDULER)
    before = copy.deepcopy(scheduler.__dict__)
    sampler = from_scheduler(scheduler, 5)
    start = sampler.scale * Noise([7])((1, 4, 4, 4))
    first = sample(denoise, start, sampler.path, sampler.step, noise=Noise([7]))
    second = sample(denoise, start, sampler.path, sampler.step, noise=Noise([7]))
    assert torch.equal(first, second)
    assert str(scheduler.__dict__) == str(before)


def test_a_step_does_not_change_the_state_it_was_given() -> None:
    sampler = from_scheduler(scheduler_of("UniPCMultistepScheduler", SD1_SCHEDULER), 5)
    (first, second), (_, third) = list(pairwise(sampler.path))[:2]
    x, noise = Noise([7])((1, 4, 4, 4)), Noise([7])
    x, state = sampler.step(denoise, x, first, second, None, noise)
    once, _ = sampler.step(denoise, x, second, third, state, noise)
    twice, _ = sampler.step(denoise, x, second, third, state, noise)
    assert torch.equal(once, twice)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"LCMScheduler"}))  # which keeps the estimate alone
def test_what_is_done_to_x_between_two_steps_counts_unless_it_says_that_x_is_its_own(name: str) -> None:
    """Under a constant estimate a shift of x after a step shifts the next x, not only the estimate."""
    sampler = from_scheduler(scheduler_of(name, SD1_SCHEDULER), 12)
    assert isinstance(sampler.step, DiffusersStep)
    ends: list[Tensor] = []
    for shift in (0.0, 1.0):
        x, state, noise = sampler.scale * Noise([7])((1, 4, 4, 4)), None, Noise([7])
        for index, (level, next_level) in enumerate(pairwise(sampler.path[:7])):
            x = x + shift if index == 5 else x
            x, state = sampler.step(lambda x, _: torch.full_like(x, 0.3), x, level, next_level, state, noise)
        ends.append(x)
    assert ((ends[1] - ends[0]).abs().min() > 0.01) or sampler.step.holds_x


UNEVEN: list[tuple[str, dict[str, Any], int]] = [
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, 50),
    ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True}, 30),
    ("UniPCMultistepScheduler", {"use_karras_sigmas": True}, 50),
    ("DEISMultistepScheduler", {"use_karras_sigmas": True}, 50),
]


@pytest.mark.parametrize(("name", "config", "steps"), UNEVEN)
def test_times_that_are_rounded_to_the_same_one_are_no_second_looks(
    name: str, config: dict[str, Any], steps: int
) -> None:
    """A walk may begin at each of them, and its first step is then that of DDIM between the levels that are meant."""
    sampler = from_scheduler(scheduler_of(name, {**SD1_SCHEDULER, **config}), steps)
    assert isinstance(sampler.step, DiffusersStep) and not sampler.step.looks_twice and not sampler.step.holds_x
    twins = [i for i, (a, b) in enumerate(pairwise(sampler.path[:-1])) if a.time == b.time]
    assert twins, "this spacing has times that coincide"
    noise = Noise([7])
    for index in (twins[0], twins[0] + 1):
        level, next_level = sampler.path[index : index + 2]
        x = 0.3 + level.sigma.float() * noise((1, 4, 4, 4))
        found, state = sampler.step(lambda x, _: torch.full_like(x, 0.3), x, level, next_level, None, noise)
        wanted, _ = Ddim()(lambda x, _: torch.full_like(x, 0.3), x, level, next_level, None, noise)
        assert state[0] == index + 1
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_who_looks_twice(name: str) -> None:
    step = from_scheduler(scheduler_of(name, SD1_SCHEDULER), 12).step
    assert isinstance(step, DiffusersStep)
    assert step.looks_twice == (name.startswith(("Heun", "KDPM2", "PNDM")))


@pytest.mark.parametrize("published", [{}, {"clip_sample": True}], ids=str)
@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler", "LCMScheduler", "TCDScheduler"])
def test_clean_estimates_are_not_clipped_whatever_the_settings_say(name: str, published: dict[str, Any]) -> None:
    config = {key: value for key, value in SD1_SCHEDULER.items() if key != "clip_sample"}
    sampler = from_scheduler(scheduler_of(name, {**config, "set_alpha_to_one": True, **published}), 4)
    start = sampler.scale * Noise([3])((1, 4, 4, 4))
    found = sample(lambda x, _: torch.full_like(x, 3.0), start, sampler.path, sampler.step, noise=Noise([3]))
    torch.testing.assert_close(found, torch.full_like(found, 3.0), rtol=0, atol=0.1)


@pytest.mark.parametrize("name", ["EulerAncestralDiscreteScheduler", "DDPMScheduler", "LCMScheduler"])
def test_noise_belongs_to_the_image(name: str) -> None:
    sampler = from_scheduler(scheduler_of(name, SD1_SCHEDULER), 4)

    def run(seeds: list[int]) -> Tensor:
        noise = Noise(seeds)
        start = sampler.scale * noise((len(seeds), 4, 4, 4))
        return sample(denoise, start, sampler.path, sampler.step, noise=noise)

    together = run([5, 6, 7])
    torch.testing.assert_close(together[1:2], run([6]))
    assert (together[0] - together[1]).abs().max() > 0.1


def test_progress_runs_from_zero_to_one() -> None:
    path = from_scheduler(scheduler_of("PNDMScheduler", SD1_SCHEDULER), 5).path
    shares = [level.progress for level in path]
    assert shares[0] == 0 and shares[-1] == 1 and shares == sorted(shares)


def test_the_last_level_is_that_of_the_checkpoint() -> None:
    scheduler = scheduler_of("DDIMScheduler", SD1_SCHEDULER)
    end = from_scheduler(scheduler, 5).path[-1]
    assert float(end.alpha**2) == pytest.approx(float(scheduler.alphas_cumprod[0]))


def test_a_class_that_forgets_zero_terminal_snr_is_refused() -> None:
    forget = set(NAMES) - set(KNOW_ZERO_SNR)
    assert {"HeunDiscreteScheduler", "PNDMScheduler", "DEISMultistepScheduler"} < forget
    for name in forget:
        with pytest.raises(ValueError, match=f"rescale_betas_zero_snr, which {name} does not know.*TCDScheduler"):
            scheduler_of(name, ZERO_TERMINAL)
        scheduler_of(name, {**ZERO_TERMINAL, "rescale_betas_zero_snr": False})


@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler"])
def test_some_cannot_begin_at_nearly_all_noise(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot begin where sigma is 2.03e.04 times alpha.*our own heun"):
        from_scheduler(scheduler_of(name, EMOJI_SCHEDULER), 10)


@pytest.mark.parametrize("name", sorted({*NAMES} - {"HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler"}))
def test_those_that_begin_at_nearly_all_noise_reach_the_spread_of_the_data(name: str) -> None:
    sampler = from_scheduler(scheduler_of(name, EMOJI_SCHEDULER), 20)
    noise = Noise(range(16))
    found = sample(Gaussian(), sampler.scale * noise((16, 64)), sampler.path, sampler.step, noise=noise)
    assert found.mean() == pytest.approx(0.7, abs=0.05)
    assert 0.15 < found.std() < 0.34


@pytest.mark.parametrize("name", ["UniPCMultistepScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler"])
def test_a_level_is_visited_once(name: str) -> None:
    """With linspace spacing 1000 steps of DPM-Solver round to 999 times, and the step between twins divides by 0."""
    config = {**SD1_SCHEDULER, "timestep_spacing": "linspace"}
    with pytest.raises(ValueError, match=f"{name} visits a level twice with 1000 steps; use fewer steps"):
        from_scheduler(scheduler_of(name, config), 1000)
    assert len(from_scheduler(scheduler_of(name, config), 500).path) == 501


def test_an_x_that_is_no_longer_finite_is_said() -> None:
    sampler = from_scheduler(scheduler_of("DDIMScheduler", SD1_SCHEDULER), 4)
    start = Noise([3])((1, 4, 4, 4))
    with pytest.raises(ValueError, match="x is no longer finite after the step of DDIMScheduler from Level"):
        sample(lambda x, _: x / 0, start, sampler.path, sampler.step, noise=Noise([3]))


def test_what_needs_torchsde_is_not_offered() -> None:
    with pytest.raises(ValueError, match="no scheduler 'DPMSolverSDEScheduler'"):
        named_sampler("DPMSolverSDEScheduler", SD1_SCHEDULER, 4)


def test_refusals() -> None:
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    with pytest.raises(ValueError, match="no table of trained times"):
        from_scheduler(FlowMatchEulerDiscreteScheduler(), 5)
    with pytest.raises(ValueError, match="refuses 2000 steps"):
        from_scheduler(scheduler_of("DDIMScheduler", SD1_SCHEDULER), 2000)
    with pytest.raises(ValueError, match="cannot be used with this checkpoint's scheduler settings"):
        scheduler_of("DDIMScheduler", {"beta_schedule": "unheard"})
