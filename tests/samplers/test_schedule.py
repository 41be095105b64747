"""Scheduler settings give the levels that diffusers computes from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from sfumato.samplers.schedule import alphas_cumprod, prediction_of, schedule_of
from tests.tiny import EMOJI_SCHEDULER, SD1_SCHEDULER, SDXL_SCHEDULER, ZERO_SNR

CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "linear": {"beta_schedule": "linear", "num_train_timesteps": 400, "beta_end": 0.03},
    "sd1": dict(SD1_SCHEDULER),
    "sdxl": dict(SDXL_SCHEDULER),
    "cosine": dict(EMOJI_SCHEDULER),
    "zero snr": {**SD1_SCHEDULER, **ZERO_SNR},
    "own betas": {"trained_betas": [0.1, 0.2, 0.4], "num_train_timesteps": 3},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_diffusers(name: str) -> None:
    config = CONFIGS[name]
    theirs = DDIMScheduler.from_config(config)
    schedule = schedule_of(config)
    torch.testing.assert_close(schedule.alphas_cumprod, theirs.alphas_cumprod.double(), rtol=2e-5, atol=1e-9)
    assert float(schedule.end.alpha**2) == pytest.approx(float(theirs.final_alpha_cumprod))


def test_zero_terminal_snr_is_exact() -> None:
    table = alphas_cumprod({**SD1_SCHEDULER, **ZERO_SNR})
    assert table[-1] == 0 and table[0] == pytest.approx(float(alphas_cumprod(SD1_SCHEDULER)[0]))


@pytest.mark.parametrize(
    ("theirs", "ours"), [("epsilon", "noise"), ("sample", "x0"), ("v_prediction", "v"), (None, "noise")]
)
def test_predictions(theirs: str | None, ours: str) -> None:
    assert prediction_of({} if theirs is None else {"prediction_type": theirs}) == ours


@pytest.mark.parametrize(
    "config",
    [{"beta_schedule": "sigmoid"}, {"num_train_timesteps": 1}, {"beta_start": 0.5, "beta_end": 0.1}, {"beta_end": 2.0}],
)
def test_no_schedule(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="beta"):
        schedule_of(config)
    with pytest.raises(ValueError, match="known are epsilon, sample, v_prediction"):
        prediction_of({"prediction_type": "flow"})
