"""How far pictures that a codec decodes are from those that it was given: the error that it learns, and the PSNR."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["psnr", "reconstruction_loss"]


def reconstruction_loss(made: Tensor, images: Tensor, mse_weight: float, coarse_weight: float) -> dict[str, Tensor]:
    """The terms of a codec's loss that compare pictures.

        mean |x - x'| + mse_weight * mean (x - x')^2 + coarse_weight * mean |P(x - x')|,  P = means of 8 x 8 pixels

    Args:
        made: x' (B, 3, H, W), decoded.
        images: x (B, 3, H, W) in [-1, 1].
        mse_weight: of the squared error.
        coarse_weight: of the coarse one, which makes colours come early.

    Returns:
        scalars (): their sum as "loss", and as "psnr" that of the whole batch in dB, without a gradient.
    """
    error = made.float() - images
    squared = error.square().mean()
    loss = error.abs().mean() + mse_weight * squared + coarse_weight * F.avg_pool2d(error, 8).abs().mean()
    return {"loss": loss, "psnr": _decibels(squared.detach())}


def psnr(made: Tensor, images: Tensor) -> float:
    """Mean peak signal-to-noise ratio over pictures, in dB.

    Args:
        made: (B, 3, H, W) in [-1, 1], decoded.
        images: (B, 3, H, W) in [-1, 1].
    """
    return float(_decibels((made - images).square().flatten(1).mean(1)).mean())


def _decibels(squared: Tensor) -> Tensor:
    """10 log10(2^2 / e) of squared errors e (...), 2 being the range of a picture's values."""
    return -10 * (squared / 4).log10()
