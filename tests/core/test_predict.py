from typing import cast, get_args

import pytest
import torch
from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.predict import Prediction, add_score, from_x0, noised, score, target, to_noise, to_x0
from sfumato.core.schedules import CosineSchedule, FlowSchedule
from tests.parts import scaled_linear

KINDS = get_args(Prediction)
SCHEDULES = [scaled_linear(), FlowSchedule()]


def _data() -> tuple[Tensor, Tensor]:
    return torch.randn(3, 2, 5, dtype=torch.float64), torch.randn(3, 2, 5, dtype=torch.float64)


def _levels(time: list[float]) -> list[Level]:
    return [schedule.at(torch.tensor(time, dtype=torch.float64)) for schedule in SCHEDULES]


@pytest.mark.parametrize("kind", KINDS)
def test_the_training_target_stands_for_the_clean_data(kind: Prediction) -> None:
    x0, noise = _data()
    for level in [*_levels([3.0, 400.0, 990.0]), SCHEDULES[0].at(torch.tensor(250.5))]:
        x = noised(x0, noise, level)
        output = target(kind, x0, noise, level)
        torch.testing.assert_close(to_x0(kind, output, x, level), x0, rtol=0, atol=1e-10)
        torch.testing.assert_close(from_x0(kind, x0, x, level), output, rtol=0, atol=1e-10)
        torch.testing.assert_close(to_noise(x, x0, level), noise, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_any_output_survives_the_round_trip(kind: Prediction) -> None:
    output, x = _data()
    for level in _levels([3.0, 400.0, 990.0]):
        back = from_x0(kind, to_x0(kind, output, x, level), x, level)
        torch.testing.assert_close(back, output, rtol=0, atol=1e-10)


def test_squared_errors_differ_by_the_signal_to_noise_ratio() -> None:
    x0, noise = _data()
    level = SCHEDULES[0].at(torch.tensor(300.0))
    x, wrong = noised(x0, noise, level), x0 + 0.1
    snr = level.ratio**-2
    error = {k: (from_x0(k, wrong, x, level) - target(k, x0, noise, level)).square().mean() for k in KINDS}
    torch.testing.assert_close(error["v"], (1 + snr) * error["x0"])
    torch.testing.assert_close(error["noise"], snr * error["x0"])


def test_at_pure_noise_only_noise_prediction_fails() -> None:
    level = CosineSchedule().at(torch.tensor(999.0))
    x0, noise = _data()
    for kind in ("x0", "v", "flow"):
        found = to_x0(kind, target(kind, x0, noise, level), noised(x0, noise, level), level)
        torch.testing.assert_close(found, x0, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="cannot start at pure noise"):
        to_x0("noise", noise, noise, level)


def test_a_clean_level_has_no_noise() -> None:
    x0, _ = _data()
    with pytest.raises(ValueError, match="clean level"):
        to_noise(x0, x0, CosineSchedule().end)
    assert from_x0("x0", x0, x0, CosineSchedule().end) is x0


def test_unknown_kinds_are_refused() -> None:
    x0, noise = _data()
    level = SCHEDULES[0].at(torch.tensor(300.0))
    kind = cast(Prediction, "epsilon")
    for call in (
        lambda: to_x0(kind, noise, x0, level),
        lambda: from_x0(kind, noise, x0, level),
        lambda: target(kind, x0, noise, level),
    ):
        with pytest.raises(ValueError, match="unknown prediction 'epsilon'"):
            call()


def test_scores_are_minus_noise_over_sigma_and_can_be_added() -> None:
    level = scaled_linear().at(torch.tensor([200.0, 700.0]))
    x, x0 = (torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed)).double() for seed in (0, 1))
    found = score(x, x0, level)
    torch.testing.assert_close(found, -to_noise(x, x0, level) / level.sigma[:, None, None])
    change = x.flip(-1)
    torch.testing.assert_close(score(x, add_score(x0, change, level), level), found + change)
