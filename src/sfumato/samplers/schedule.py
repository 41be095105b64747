"""A checkpoint's scheduler settings, as diffusers publishes them, read as our schedule and prediction.

Only the settings that say what was trained are read here: betas and what the network predicts. Those that say how to
sample (spacing, offset, last level) are read by ``sfumato.samplers.names``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sfumato.core.predict import Prediction
from sfumato.core.schedules import DiscreteSchedule, zero_terminal_snr

__all__ = ["alphas_cumprod", "prediction_of", "schedule_of"]

_PREDICTIONS: Mapping[str, Prediction] = {"epsilon": "noise", "sample": "x0", "v_prediction": "v"}


def schedule_of(config: Mapping[str, Any]) -> DiscreteSchedule:
    """The levels that a checkpoint was trained on, and the one at which its paths end.

    Args:
        config: scheduler settings; those left out have diffusers' defaults.

    Raises:
        ValueError: settings that describe no such schedule.
    """
    table = alphas_cumprod(config)
    return DiscreteSchedule(table, 1.0 if config.get("set_alpha_to_one", True) else float(table[0]))


def prediction_of(config: Mapping[str, Any]) -> Prediction:
    """What the network predicts.

    Raises:
        ValueError: an unknown kind.
    """
    kind = config.get("prediction_type", "epsilon")
    if kind not in _PREDICTIONS:
        raise ValueError(f"the scheduler's prediction_type is {kind!r}; known are {', '.join(_PREDICTIONS)}")
    return _PREDICTIONS[kind]


def alphas_cumprod(config: Mapping[str, Any]) -> Tensor:
    """alpha^2 by time, (T,), float64; computed in float32 as diffusers does, which is what networks were trained with.

    Raises:
        ValueError: an unknown beta_schedule, or settings out of range.
    """
    table = (1 - _betas(config)).cumprod(0).double()
    return zero_terminal_snr(table) if config.get("rescale_betas_zero_snr") else table


def _betas(config: Mapping[str, Any]) -> Tensor:
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float32)
    steps = config.get("num_train_timesteps", 1000)
    start, end = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
    if not isinstance(steps, int) or not 2 <= steps <= 1_000_000 or not 0 < start < end < 1:
        raise ValueError(f"a scheduler with {steps} timesteps and betas from {start} to {end} makes no schedule")
    match config.get("beta_schedule", "linear"):
        case "linear":
            return torch.linspace(start, end, steps, dtype=torch.float32)
        case "scaled_linear":
            return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float32) ** 2
        case "squaredcos_cap_v2":
            return torch.tensor([_cosine_beta(time / steps, (time + 1) / steps) for time in range(steps)])
        case other:
            known = "linear, scaled_linear and squaredcos_cap_v2"
            raise ValueError(f"the scheduler's beta_schedule is {other!r}; known are {known}")


def _cosine_beta(start: float, stop: float) -> float:
    kept = [math.cos((share + 0.008) / 1.008 * math.pi / 2) ** 2 for share in (start, stop)]
    return min(1 - kept[1] / kept[0], 0.999)
