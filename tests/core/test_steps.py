"""Steps on data whose denoiser is known, and against diffusers' schedulers with the same random function."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from torch import Tensor

from sfumato.core.level import Level, Schedule
from sfumato.core.noise import Noise
from sfumato.core.path import Path, backwards, bumps, leading, linspace, trailing, uniform_log_snr
from sfumato.core.predict import to_noise, to_x0
from sfumato.core.sample import sample
from sfumato.core.schedules import CosineSchedule, DiscreteSchedule, FlowSchedule
from sfumato.core.steps import Ddim, Dpmpp2M, EulerAncestral, Heun, Renoising, Step, goes_up, move
from tests.parts import Gaussian, scaled_linear

LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
WEIGHT = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _network(x: Tensor, time: float) -> Tensor:
    """A smooth random function in place of a network."""
    return torch.tanh(x.double() @ WEIGHT + time / 500).to(x) + 0.3 * x


def _denoise(x: Tensor, level: Level) -> Tensor:
    return to_x0("noise", _network(x, float(level.time)), x, level)


def _start(count: int = 3) -> Tensor:
    return Noise(range(count))((count, 6)).double()


def _run(path: Path, step: Step, x: Tensor | None = None) -> Tensor:
    x = _start() if x is None else x
    return sample(_denoise, x, path, step, noise=Noise(range(100, 100 + len(x))))


# --- analytic Gaussian --------------------------------------------------------------------------------------------


def _fixed_range(schedule: Schedule, steps: int) -> Path:
    """Evenly spaced in log-SNR without the jump to the clean end, so that only the solver's order shows."""
    return uniform_log_snr(schedule, steps + 1)[:-1]


def _errors(step: Step, schedule: Schedule, counts: tuple[int, ...]) -> list[float]:
    data, x = Gaussian(), torch.linspace(-2, 2, 8, dtype=torch.float64)[:, None]
    errors = []
    for count in counts:
        path = _fixed_range(schedule, count)
        found = sample(data, x, path, step, noise=Noise(range(8)))
        errors.append((found - data.flow(x, path[0], path[-1])).abs().max().item())
    return errors


@pytest.mark.parametrize(("step", "order"), [(Ddim(), 1), (Heun(), 2), (Dpmpp2M(), 2)], ids=repr)
def test_error_falls_with_the_order_of_the_step(step: Step, order: int) -> None:
    errors = _errors(step, scaled_linear(), (40, 80, 160, 320))
    slopes = [math.log2(coarse / fine) for coarse, fine in zip(errors, errors[1:], strict=False)]
    assert slopes[-1] == pytest.approx(order, abs=0.2)
    assert slopes[-2] == pytest.approx(order, abs=0.35)


def test_second_order_beats_first_at_equal_forwards() -> None:
    (ddim,) = _errors(Ddim(), scaled_linear(), (40,))
    (heun,) = _errors(Heun(), scaled_linear(), (20,))
    (dpmpp,) = _errors(Dpmpp2M(), scaled_linear(), (40,))
    assert heun < ddim
    assert dpmpp < ddim / 3


@pytest.mark.parametrize("schedule", [scaled_linear(), CosineSchedule(), FlowSchedule()], ids=repr)
@pytest.mark.parametrize("step", [Ddim(), Ddim(0.5), EulerAncestral(), Heun(), Dpmpp2M()], ids=repr)
def test_samples_have_the_mean_and_spread_of_the_data(step: Step, schedule: Schedule) -> None:
    noise = Noise(range(16))
    x = noise((16, 2000)).double()
    found = sample(Gaussian(), x, trailing(schedule, 200), step, noise=noise)
    assert found.mean().item() == pytest.approx(0.7, abs=0.02)
    assert found.std().item() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("steps", [10, 20])
@pytest.mark.parametrize("least", [2.0**-12, 4.9e-5, 0.0])
def test_heun_begins_at_nearly_all_noise(least: float, steps: int) -> None:
    """A cosine table, and one of zero terminal SNR, begin where sigma is thousands of times alpha."""
    angles = torch.linspace(0, math.pi / 2, 1001, dtype=torch.float64)[1:]
    path = trailing(DiscreteSchedule(angles.cos().clamp(min=least).square()), steps)
    noise = Noise(range(16))
    ends = [sample(Gaussian(), noise((16, 200)).double(), path, step, noise=noise) for step in (Heun(), Ddim())]
    assert ends[0].std().item() == pytest.approx(0.3, abs=0.4 / steps)
    assert abs(ends[0].std().item() - 0.3) < abs(ends[1].std().item() - 0.3)


@pytest.mark.parametrize("step", [Ddim(), Heun(), Dpmpp2M()], ids=repr)
def test_a_single_point_is_reached_in_one_step(step: Step) -> None:
    found = sample(Gaussian(std=0.0), _start(), trailing(scaled_linear(), 1), step, noise=Noise(range(3)))
    torch.testing.assert_close(found, torch.full_like(found, 0.7))


def test_inversion_reaches_noise_and_sampling_comes_back() -> None:
    path = trailing(scaled_linear(), 200)[:-1]
    noise = Noise(range(16))
    x0 = 0.7 + 0.3 * noise((16, 500)).double()
    inverted = sample(Gaussian(), x0, backwards(path), Ddim(), noise=noise)
    assert inverted.std().item() == pytest.approx(1, abs=0.05)
    back = sample(Gaussian(), inverted, path, Ddim(), noise=noise)
    assert (back - x0).abs().max() < 0.06


def test_the_error_of_inversion_falls_with_the_number_of_steps() -> None:
    noise, data = Noise(range(4)), Gaussian()
    x0 = 0.7 + 0.3 * noise((4, 500)).double()
    errors = []
    for steps in (50, 100, 200, 400):
        path = _fixed_range(scaled_linear(), steps)
        inverted = sample(data, x0, backwards(path), Ddim(), noise=noise)
        errors.append((sample(data, inverted, path, Ddim(), noise=noise) - x0).abs().max().item())
    assert all(fine < 0.7 * coarse for coarse, fine in zip(errors, errors[1:], strict=False))


def test_a_fixed_point_of_the_upward_step_is_the_exact_inverse() -> None:
    low, high = scaled_linear().at(torch.tensor(100.0)), scaled_linear().at(torch.tensor(150.0))
    clean = _start()
    x = clean
    for _ in range(100):
        noise = to_noise(x, _denoise(x, high), high)
        x = high.alpha / low.alpha * (clean - low.sigma * noise) + high.sigma * noise
    torch.testing.assert_close(_run([high, low], Ddim(), x), clean, rtol=0, atol=1e-8)
    plain = _run([low, high], Ddim(), clean)
    assert (_run([high, low], Ddim(), plain) - clean).abs().max() > 1e-3


def test_resampling_keeps_the_distribution() -> None:
    noise = Noise(range(16))
    x = noise((16, 2000)).double()
    path = bumps(trailing(scaled_linear(), 800), length=6, repeats=3)
    found = sample(Gaussian(), x, path, Renoising(Ddim(1.0)), noise=noise)
    assert found.mean().item() == pytest.approx(0.7, abs=0.02)
    assert found.std().item() == pytest.approx(0.3, abs=0.03)


# --- identities ---------------------------------------------------------------------------------------------------


def test_ddim_in_angles_is_a_rotation_by_v() -> None:
    level, next_level = scaled_linear().at(torch.tensor(700.0)), scaled_linear().at(torch.tensor(500.0))
    x = _start()
    x0 = _denoise(x, level)
    v = (level.alpha * x - x0) / level.sigma
    turn = torch.atan2(level.sigma, level.alpha) - torch.atan2(next_level.sigma, next_level.alpha)
    torch.testing.assert_close(move(x, x0, level, next_level), turn.cos() * x - turn.sin() * v)


def test_eta_one_is_ddpm_with_fixed_small_variance_on_the_kept_levels() -> None:
    schedule = scaled_linear()
    level, next_level = schedule.at(torch.tensor(700.0)), schedule.at(torch.tensor(500.0))
    bar, bar_next = level.alpha**2, next_level.alpha**2
    kept = bar / bar_next
    x = _start()
    x0 = _denoise(x, level)
    mean = (bar_next.sqrt() * (1 - kept) * x0 + kept.sqrt() * (1 - bar_next) * x) / (1 - bar)
    std = ((1 - kept) * (1 - bar_next) / (1 - bar)).sqrt()
    wanted = mean + std * Noise(range(100, 103)).like(x)
    for step in (Ddim(1.0), EulerAncestral()):
        torch.testing.assert_close(_run([level, next_level], step), wanted, rtol=0, atol=1e-10)


def test_eta_one_is_ancestral_euler_in_units_of_alpha() -> None:
    schedule = scaled_linear()
    level, next_level = schedule.at(torch.tensor(700.0)), schedule.at(torch.tensor(500.0))
    x = _start()
    up = next_level.ratio / level.ratio * (level.ratio**2 - next_level.ratio**2).sqrt()
    down = (next_level.ratio**2 - up**2).sqrt()
    y = x / level.alpha
    slope = (y - _denoise(x, level)) / level.ratio
    y = y + slope * (down - level.ratio) + up * Noise(range(100, 103)).like(x)
    found = _run([level, next_level], EulerAncestral())
    torch.testing.assert_close(found, y * next_level.alpha, rtol=0, atol=1e-10)


def test_dpmpp_starts_with_ddim_and_is_ddim_for_a_constant_estimate() -> None:
    path = trailing(scaled_linear(), 8)
    torch.testing.assert_close(_run(path[:2], Dpmpp2M()), _run(path[:2], Ddim()))
    constant = torch.randn(3, 6, dtype=torch.float64)
    ends = [sample(lambda x, level: constant, _start(), path, s, noise=Noise([0, 1, 2])) for s in (Dpmpp2M(), Ddim())]
    torch.testing.assert_close(ends[0], ends[1])


@pytest.mark.parametrize("step", [Ddim(), Heun(), Dpmpp2M()], ids=repr)
def test_scaling_x_and_its_levels_together_changes_nothing(step: Step) -> None:
    """The variance-exploding form, alpha = 1 and sigma = ratio, is the same walk in units of alpha."""
    path = trailing(scaled_linear(), 8)[:-1]
    exploding = [Level(level.time, torch.ones_like(level.alpha), level.ratio) for level in path]
    alphas = {float(level.time): level.alpha for level in path}
    noise, x = Noise(range(3)), _start()

    def denoise(y: Tensor, level: Level) -> Tensor:
        alpha = alphas[float(level.time)]
        return _denoise(y * alpha, Level(level.time, alpha, alpha * level.sigma))

    found = sample(denoise, x / path[0].alpha, exploding, step, noise=noise)
    torch.testing.assert_close(found * path[-1].alpha, sample(_denoise, x, path, step, noise=noise))


def test_no_noise_is_drawn_at_a_clean_end() -> None:
    noise, path = Noise(range(3)), trailing(scaled_linear(), 2)
    sample(_denoise, _start(), path[1:], EulerAncestral(), noise=noise)
    assert torch.equal(noise((3, 4)), Noise(range(3))((3, 4)))


def test_dpmpp_forgets_when_the_way_turns_round() -> None:
    level, lower = (scaled_linear().at(torch.tensor(time)) for time in (700.0, 500.0))
    x = _start()
    turned, _ = Dpmpp2M()(_denoise, x, lower, level, (torch.zeros_like(x), 0.4), Noise(range(3)))
    plain, _ = Ddim()(_denoise, x, lower, level, None, Noise(range(3)))
    torch.testing.assert_close(turned, plain)
    assert goes_up(lower, level)
    assert not goes_up(level, lower)
    assert not goes_up(level, level)


@pytest.mark.parametrize("step", [Ddim(), Heun(), Dpmpp2M(), EulerAncestral()], ids=repr)
def test_pure_noise_with_alpha_zero_is_a_good_start(step: Step) -> None:
    for schedule in (CosineSchedule(), FlowSchedule()):
        found = sample(Gaussian(), _start(), trailing(schedule, 6), step, noise=Noise(range(3)))
        assert found.isfinite().all()


def test_steps_refuse_what_they_cannot_do() -> None:
    schedule = scaled_linear()
    low, high = schedule.at(torch.tensor(100.0)), schedule.at(torch.tensor(900.0))
    with pytest.raises(ValueError, match="cannot go up"):
        _run([low, high], Ddim(eta=0.5))
    with pytest.raises(ValueError, match="clean level"):
        _run([schedule.end, high], Ddim())
    for eta in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="eta"):
            Ddim(eta)


def test_renoising_goes_up_from_a_clean_level_by_the_forward_process() -> None:
    schedule, x = scaled_linear(), _start()
    high = schedule.at(torch.tensor(900.0))
    wanted = high.alpha * x + high.sigma * Noise(range(100, 103)).like(x)
    torch.testing.assert_close(_run([schedule.end, high], Renoising(), x), wanted)


# --- parity with diffusers ----------------------------------------------------------------------------------------


def _diffusers(scheduler: object, x: Tensor, **step: object) -> Tensor:
    """Diffusers' loop, with the random function as its network."""
    x = x * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        output = _network(scheduler.scale_model_input(x, time), float(time))
        x = scheduler.step(output, time, x, return_dict=False, **step)[0]
    return x


@pytest.mark.parametrize("steps", [7, 20, 50])
def test_ddim_equals_diffusers(steps: int) -> None:
    scheduler = DDIMScheduler(**LATENT, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    scheduler.alphas_cumprod = scaled_linear().alphas_cumprod
    scheduler.final_alpha_cumprod = scheduler.alphas_cumprod[0]
    scheduler.set_timesteps(steps)
    table = scaled_linear().alphas_cumprod
    path = leading(DiscreteSchedule(table, end_alpha_cumprod=float(table[0])), steps, offset=1)
    torch.testing.assert_close(_run(path, Ddim()), _diffusers(scheduler, _start()), rtol=1e-12, atol=1e-12)


def test_ddim_with_noise_equals_diffusers() -> None:
    scheduler = DDIMScheduler(**LATENT, clip_sample=False, timestep_spacing="trailing")
    scheduler.alphas_cumprod = scaled_linear().alphas_cumprod
    scheduler.set_timesteps(10)
    path, noise = trailing(scaled_linear(), 10), Noise(range(100, 103))
    draws = [noise.like(_start()) for _ in path]
    x = _start()
    for time, draw in zip(scheduler.timesteps, draws, strict=False):
        x = scheduler.step(_network(x, float(time)), time, x, eta=0.8, variance_noise=draw).prev_sample
    torch.testing.assert_close(_run(path, Ddim(0.8)), x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("step", [Ddim(1.0), EulerAncestral()], ids=repr)
@pytest.mark.parametrize("steps", [10, 50])
def test_eta_one_equals_ddpm_in_diffusers(step: Step, steps: int) -> None:
    """Mean and deviation: x and the noise, which both draw from the same seeds in float32, are in each step."""
    scheduler = DDPMScheduler(**LATENT, clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    x = _start().float()
    drawn = [torch.Generator().manual_seed(seed) for seed in range(100, 103)]
    wanted = _diffusers(scheduler, x, generator=drawn)
    torch.testing.assert_close(_run(trailing(scaled_linear(), steps), step, x), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [7, 25])
def test_dpmpp_2m_equals_the_formula_of_k_diffusion(steps: int) -> None:
    """In y = x / alpha with its noise r = sigma / alpha, and t = -log r: the variance-exploding form of our step."""
    path = trailing(scaled_linear(), steps)
    y, before, last = _start() / path[0].alpha, None, 0.0
    for level, next_level in pairwise(path):
        x0, length = _denoise(level.alpha * y, level), float(level.ratio.log() - next_level.ratio.log())
        ratio = 2 * last / length
        mixed = x0 if before is None or next_level.sigma == 0 else (1 + 1 / ratio) * x0 - before / ratio
        y = next_level.ratio / level.ratio * y - math.expm1(-length) * mixed
        before, last = x0, length
    found = _run(path, Dpmpp2M())
    torch.testing.assert_close(found, y * path[-1].alpha, rtol=0, atol=1e-10)
    assert (found - _run(path, Ddim())).abs().max() > 0.1, "of first order it would be DDIM"


@pytest.mark.parametrize("steps", [6, 12, 25])
def test_dpmpp_2m_equals_diffusers(steps: int) -> None:
    scheduler = DPMSolverMultistepScheduler(**LATENT, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    found = _run(trailing(scaled_linear(), steps), Dpmpp2M())
    torch.testing.assert_close(found, _diffusers(scheduler, _start()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [6, 20])
def test_euler_equals_diffusers(steps: int) -> None:
    scheduler = EulerDiscreteScheduler(**LATENT, timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(steps)
    found = _run(leading(scaled_linear(), steps, offset=1), Ddim())
    torch.testing.assert_close(found, _diffusers(scheduler, _start()), rtol=1e-4, atol=1e-4)


def test_heun_equals_diffusers() -> None:
    scheduler = HeunDiscreteScheduler(**LATENT, timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(10)
    found = _run(leading(scaled_linear(), 10, offset=1), Heun())
    torch.testing.assert_close(found, _diffusers(scheduler, _start()), rtol=1e-4, atol=1e-4)


def test_ancestral_euler_equals_diffusers_up_to_its_noise() -> None:
    """Its last step adds none and its noise is drawn inside, so one step with the noise taken out is compared."""
    scheduler = EulerAncestralDiscreteScheduler(**LATENT, timestep_spacing="linspace")
    scheduler.set_timesteps(10)
    path = linspace(scaled_linear(), 10)
    x = _start(1)
    y = x / path[0].alpha
    output = _network(scheduler.scale_model_input(y, scheduler.timesteps[0]), float(path[0].time))
    drawn = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(5))
    found = scheduler.step(output, scheduler.timesteps[0], y, generator=torch.Generator().manual_seed(5)).prev_sample
    up = path[1].ratio / path[0].ratio * (path[0].ratio ** 2 - path[1].ratio ** 2).sqrt()
    ours = _run(path[:2], EulerAncestral(), x) / path[1].alpha
    ours = ours - up * Noise([100]).like(x)
    torch.testing.assert_close(ours, found - up * drawn, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_euler_equals_diffusers(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / 9, 9).tolist())
    wanted = _start()
    for time in scheduler.timesteps:
        wanted = scheduler.step(_network(wanted, float(time)), time, wanted).prev_sample
    found = sample(
        lambda x, level: to_x0("flow", _network(x, float(level.time)), x, level),
        _start(),
        trailing(FlowSchedule(shift), 9),
        Ddim(),
        noise=Noise(range(3)),
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
