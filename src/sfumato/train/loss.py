"""The denoising loss, its weightings, and dropping conditions.

With x = alpha * x0 + sigma * noise and a network that predicts noise, x0, v or flow:

loss = weight(level) * mean over an image of (output - target)^2

Paper: Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, eq. 14;
    Progressive Distillation for Fast Sampling of Diffusion Models (Salimans and Ho, 2022), arXiv:2202.00512, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.level import Level
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.predict import Prediction, noised, target

__all__ = ["MinSnr", "Weight", "denoising_loss", "drop", "uniform"]

Weight = Callable[[Level, Prediction], Tensor]


def uniform(level: Level, prediction: Prediction) -> Tensor:
    """Weight 1 at every level, (B,): the plain squared error of whatever the network predicts."""
    return torch.ones_like(level.alpha)


@dataclass(frozen=True)
class MinSnr:
    """min(SNR, gamma) on the error of x0, with SNR = (alpha / sigma)^2; each image's levels count about equally.

    The squared error of v is (SNR + 1) and that of noise SNR times the error of x0, so the weight is divided by those.

    Args:
        gamma: the SNR from which cleaner levels gain no more weight, > 0.

    Raises:
        ValueError: gamma not above 0.

    Paper: Efficient Diffusion Training via Min-SNR Weighting Strategy (Hang et al., 2023), arXiv:2303.09556,
        section 3.4.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ValueError(f"gamma must be above 0, got {self.gamma}")

    def __call__(self, level: Level, prediction: Prediction) -> Tensor:
        """Weight (B,) at levels (B,) for the squared error of a prediction."""
        snr = (level.alpha / level.sigma) ** 2
        wanted = snr.clamp(max=self.gamma)
        match prediction:
            case "x0":
                return wanted
            case "noise":
                return (self.gamma / snr).clamp(max=1)
            case "v":
                return wanted / (snr + 1)
            case "flow":
                return wanted / ((level.alpha + level.sigma) / level.sigma) ** 2
        raise ValueError(f"unknown prediction {prediction!r}")


def denoising_loss(
    model: DenoisingModel,
    x0: Tensor,
    condition: Condition,
    level: Level,
    noise: Tensor,
    weight: Weight = uniform,
) -> Tensor:
    """The weighted squared error of a network's output, one number an image.

    Args:
        model: the network in its adapter, with its schedule.
        x0: clean data (B, ...), float32.
        condition: B images.
        level: training levels, shape (B,).
        noise: standard normal, x0's shape.
        weight: (level, prediction) -> (B,).

    Returns:
        (B,), float32.
    """
    prediction = model.network.prediction
    output = model.raw(noised(x0, noise, level), level, condition).float()
    error = (output - target(prediction, x0, noise, level)).square().flatten(1).mean(1)
    return weight(level, prediction).to(error) * error


def drop(condition: Condition, null: Condition, probability: float, noise: Noise) -> Condition:
    """Replace whole conditions by the null, each image by its own draw, so that guidance has a branch to guide from.

    Args:
        condition: B images.
        null: the encoder's null for B images; padded or cut to nothing: its token count must fit by ``Condition.cat``.
        probability: share of images that lose their condition, in [0, 1].
        noise: one seed an image.

    Returns:
        B images, each row from ``condition`` or from ``null``.

    Raises:
        ValueError: probability outside [0, 1], or a condition without images.

    Paper: Classifier-Free Diffusion Guidance (Ho and Salimans, 2022), arXiv:2207.12598, algorithm 1.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    if condition.count is None:
        raise ValueError("an empty condition has nothing to drop")
    count = condition.count
    dropped = noise.uniform((count,)) < probability
    rows = torch.arange(count) + count * dropped.long()
    return Condition.cat([condition, null]).rows(rows)
