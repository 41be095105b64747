import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_repaint import RePaintScheduler

from sfumato.core.path import (
    Path,
    backwards,
    bumps,
    karras,
    leading,
    linspace,
    suffix,
    trailing,
    uniform_log_snr,
)
from sfumato.core.schedules import CosineSchedule, FlowSchedule
from tests.parts import scaled_linear

LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SPACINGS = {"trailing": trailing, "leading": leading, "linspace": linspace}


def _times(path: Path) -> list[float]:
    return [float(level.time) for level in path]


@pytest.mark.parametrize("spacing", SPACINGS)
def test_spacings_equal_those_of_diffusers(spacing: str) -> None:
    for steps in [*range(2, 61), 100, 250, 999, 1000]:
        scheduler = DDIMScheduler(**LATENT, timestep_spacing=spacing)
        scheduler.set_timesteps(steps)
        path = SPACINGS[spacing](scaled_linear(), steps)
        assert _times(path)[:-1] == scheduler.timesteps.tolist()[:steps], steps


def test_leading_takes_the_offset_of_stable_diffusion() -> None:
    assert _times(leading(scaled_linear(), 4, offset=1)) == [751, 501, 251, 1, 0]


def test_karras_equals_diffusers() -> None:
    scheduler = EulerDiscreteScheduler(**LATENT, use_karras_sigmas=True)
    scheduler.set_timesteps(12)
    path = karras(scaled_linear(), 12)
    ratios = torch.stack([level.ratio for level in path]).float()
    torch.testing.assert_close(ratios, scheduler.sigmas, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.tensor(_times(path)[:-1]), scheduler.timesteps, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_trailing_flow_paths_equal_the_sigmas_of_flow_pipelines(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / 7, 7).tolist())
    sigmas = torch.stack([level.sigma for level in trailing(FlowSchedule(shift), 7)])
    torch.testing.assert_close(sigmas.float(), scheduler.sigmas, rtol=0, atol=1e-6)


def test_uniform_log_snr_is_evenly_spaced() -> None:
    ratios = torch.stack([level.ratio for level in uniform_log_snr(scaled_linear(), 9)[:-1]])
    steps = ratios.log().diff()
    torch.testing.assert_close(steps, steps[:1].expand(8))


@pytest.mark.parametrize(
    "path", [trailing(scaled_linear(), 5), karras(scaled_linear(), 5), leading(CosineSchedule(), 5)]
)
def test_paths_fall_to_the_clean_end_and_know_their_progress(path: Path) -> None:
    ratios = [float(level.ratio) for level in path]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == 0
    assert [level.progress for level in path] == [0, 0.2, 0.4, 0.6, 0.8, 1]


@pytest.mark.parametrize(("strength", "kept"), [(1.0, 10), (0.5, 5), (0.81, 8), (0.01, 1)])
def test_suffix_keeps_the_last_steps_and_their_progress(strength: float, kept: int) -> None:
    path = trailing(scaled_linear(), 10)
    part = suffix(path, strength)
    assert part == path[-1 - kept :]
    assert part[0].progress == (10 - kept) / 10


def test_backwards_drops_the_clean_end() -> None:
    path = trailing(scaled_linear(), 4)
    assert backwards(path) == [path[3], path[2], path[1], path[0]]
    with pytest.raises(ValueError, match="two noisy levels"):
        backwards(trailing(scaled_linear(), 1))


def test_bumps_walk_each_stretch_again() -> None:
    path = trailing(scaled_linear(), 5)
    a, b, c, d, e, end = path
    assert bumps(path, 2, 3) == [a, b, c, d, b, c, d, b, c, d, e, end, d, e, end, d, e, end]
    assert bumps(path, 2, 1) == path
    assert bumps(path, 5, 2) == path


@pytest.mark.parametrize(("steps", "length", "repeats"), [(20, 5, 2), (25, 10, 3), (12, 1, 4), (7, 7, 2)])
def test_bumps_are_where_repaint_has_them(steps: int, length: int, repeats: int) -> None:
    """diffusers lists times: one below the last is a step from it, one above it is a step up."""
    scheduler = RePaintScheduler(num_train_timesteps=steps)
    scheduler.set_timesteps(steps, jump_length=length, jump_n_sample=repeats)
    visited = scheduler.timesteps.tolist()
    reached = [visited[0]]
    for last, time in zip([steps, *visited], visited, strict=False):
        reached.append(reached[-1] + (1 if time > last else -1))
    turns = [t for s, t, u in zip(reached, reached[1:], reached[2:], strict=False) if (t - s) * (u - t) < 0]
    path = trailing(scaled_linear(), steps)
    index = {id(level): steps - 1 - i for i, level in enumerate(path)}
    found = [index[id(level)] for level in bumps(path, length, repeats)]
    ours = [t for s, t, u in zip(found, found[1:], found[2:], strict=False) if (t - s) * (u - t) < 0]
    assert ours == turns


@pytest.mark.parametrize(
    "build",
    [
        lambda: trailing(scaled_linear(), 0),
        lambda: trailing(scaled_linear(), 1001),
        lambda: leading(scaled_linear(), 0),
        lambda: leading(scaled_linear(), 4, offset=400),
        lambda: linspace(scaled_linear(), 1),
        lambda: karras(scaled_linear(), 1),
        lambda: karras(scaled_linear(), 4, rho=0.5),
        lambda: karras(CosineSchedule(), 4),
        lambda: uniform_log_snr(FlowSchedule(), 4),
        lambda: suffix(trailing(scaled_linear(), 4), 0),
        lambda: suffix(trailing(scaled_linear(), 4), math.nan),
        lambda: bumps(trailing(scaled_linear(), 4), 0, 2),
        lambda: bumps(trailing(scaled_linear(), 4), 1, 0),
    ],
)
def test_settings_out_of_range_are_refused(build: type) -> None:
    with pytest.raises(ValueError, match="must|needs"):
        build()
