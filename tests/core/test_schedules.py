import math

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler, rescale_zero_terminal_snr
from torch import Tensor

from sfumato.core.level import Schedule
from sfumato.core.noise import Noise
from sfumato.core.schedules import CosineSchedule, DiscreteSchedule, FlowSchedule, zero_terminal_snr
from tests.parts import scaled_linear

ALL = [scaled_linear(), CosineSchedule(), FlowSchedule(), FlowSchedule(shift=3.0)]


def _t(*values: float) -> Tensor:
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64)


def test_trained_times_are_exact() -> None:
    schedule = scaled_linear()
    level = schedule.at(torch.arange(1000))
    assert torch.equal(level.alpha, schedule.alphas_cumprod.sqrt())
    assert torch.equal(level.sigma, (1 - schedule.alphas_cumprod).sqrt())


def test_between_trained_times_log_snr_is_linear() -> None:
    schedule = scaled_linear()
    low, middle, high = (schedule.at(_t(time)).ratio.log() for time in (500, 500.25, 501))
    torch.testing.assert_close(middle, 0.75 * low + 0.25 * high, rtol=0, atol=1e-12)


def test_between_the_last_two_times_of_a_zero_snr_table_alpha_is_linear() -> None:
    schedule = DiscreteSchedule(zero_terminal_snr(scaled_linear().alphas_cumprod))
    before, middle, last = schedule.at(_t(998, 998.5, 999)).alpha
    assert last == 0
    torch.testing.assert_close(middle, before / 2)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_at_ratio_inverts_at(schedule: Schedule) -> None:
    times = _t(0.5, 1, 20.25, 400, 900.9, 998)
    found = schedule.at_ratio(schedule.at(times).ratio)
    torch.testing.assert_close(found.time, times, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.alpha, schedule.at(times).alpha, rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_positions_go_from_nearly_clean_to_noisiest(schedule: Schedule) -> None:
    ratio = schedule.at(schedule.time_at(torch.arange(1, schedule.steps + 1))).ratio
    assert ratio[0] < 0.05
    assert (ratio.diff() > 0).all()
    assert schedule.end.sigma == 0
    assert schedule.end.alpha == 1


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_draws_belong_to_their_seed_and_fill_the_range(schedule: Schedule) -> None:
    level = schedule.draw(512, Noise(range(512)))
    assert level.time.shape == level.alpha.shape == level.sigma.shape == (512,)
    assert torch.equal(schedule.draw(1, Noise([17])).time, level.time[17:18])
    assert level.time.min() < 50
    assert level.time.max() > 950
    assert level.progress is None
    with pytest.raises(ValueError, match="one seed an image"):
        schedule.draw(2, Noise([1]))


def test_a_discrete_schedule_draws_whole_times() -> None:
    times = scaled_linear().draw(64, Noise(range(64))).time
    assert torch.equal(times, times.round())


def test_a_published_end_is_kept() -> None:
    table = scaled_linear().alphas_cumprod
    end = DiscreteSchedule(table, end_alpha_cumprod=float(table[0])).end
    assert end.alpha == table[0].sqrt()
    assert end.time == 0


@pytest.mark.parametrize("schedule", ALL, ids=repr)
@pytest.mark.parametrize("time", [-1.0, 1000.5, math.nan])
def test_untrained_times_are_refused(schedule: Schedule, time: float) -> None:
    with pytest.raises(ValueError, match="time must lie in"):
        schedule.at(_t(time))


def test_untrained_ratios_are_refused() -> None:
    with pytest.raises(ValueError, match="must lie in"):
        scaled_linear().at_ratio(_t(1000.0))
    with pytest.raises(ValueError, match="must lie in"):
        CosineSchedule().at_ratio(_t(1e-6))
    with pytest.raises(ValueError, match="must lie in"):
        FlowSchedule().at_ratio(_t(-1.0))


@pytest.mark.parametrize("table", [[0.5], [0.5, 0.6], [1.0, 0.5], [0.5, -0.1], [0.5, 0.5], [[0.5, 0.4]]])
def test_tables_that_are_no_schedule_are_refused(table: list[float]) -> None:
    with pytest.raises(ValueError, match="alphas_cumprod"):
        DiscreteSchedule(torch.tensor(table))


@pytest.mark.parametrize(
    "build",
    [
        lambda: DiscreteSchedule(_t(0.9, 0.1), end_alpha_cumprod=0.0),
        lambda: CosineSchedule(steps=1),
        lambda: CosineSchedule(margin=0.0),
        lambda: FlowSchedule(shift=0.0),
        lambda: FlowSchedule(steps=1),
    ],
)
def test_settings_out_of_range_are_refused(build: type) -> None:
    with pytest.raises(ValueError, match="got"):
        build()


def test_cosine_agrees_with_the_capped_table_of_diffusers() -> None:
    table = DDIMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod.double()
    level = CosineSchedule().at(torch.arange(1000))
    torch.testing.assert_close(level.alpha[:999] ** 2, table[:999], rtol=1e-3, atol=1e-7)
    assert level.alpha[999] == 0
    torch.testing.assert_close(level.alpha**2 + level.sigma**2, torch.ones(1000, dtype=torch.float64))


def test_flow_levels_are_straight_and_told_a_thousand_sigma() -> None:
    level = FlowSchedule(shift=3.0).at(_t(250))
    assert (level.alpha, level.sigma, level.time) == (0.75, 0.25, 250)


def test_flow_positions_are_shifted_towards_noise() -> None:
    assert FlowSchedule(shift=3.0).time_at(_t(500)) == 750
    assert FlowSchedule().time_at(_t(500)) == 500


def test_zero_terminal_snr_against_diffusers() -> None:
    table = scaled_linear().alphas_cumprod
    rescaled = zero_terminal_snr(table)
    assert rescaled[-1] == 0
    torch.testing.assert_close(rescaled[0], table[0], rtol=1e-12, atol=0)
    assert (rescaled.diff() < 0).all()
    betas = 1 - table / torch.cat([torch.ones(1, dtype=torch.float64), table[:-1]])
    wanted = (1 - rescale_zero_terminal_snr(betas)).cumprod(0)
    torch.testing.assert_close(rescaled, wanted, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="decrease"):
        zero_terminal_snr(torch.ones(3))
