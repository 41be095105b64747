"""Attention maps as pictures: each word's map laid over the picture that it helped to make.

    shade = map / largest value of the map,   shown = (1 - 0.8 shade) * grey + 0.8 shade * colour(shade)

The colour runs from blue over red to yellow, so that a picture in grey shows where a word was looked at from.
Combines with: the maps of ``sfumato.attention.maps``.
Forwards per step: none.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.core.image import check_images, resize

__all__ = ["overlay"]

_COLOURS = ((0.05, 0.05, 0.6), (0.85, 0.1, 0.3), (1.0, 0.95, 0.2))
_OPACITY = 0.8


def overlay(images: Tensor, maps: Tensor) -> Tensor:
    """Maps over pictures.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        maps: (B, h, w), >= 0; each is scaled by its own largest value.

    Returns:
        (B, 3, H, W) in [-1, 1].

    Raises:
        ValueError: no images, or another number of maps.

    Paper: What the DAAM: Interpreting Stable Diffusion Using Cross Attention (Tang et al., 2022), arXiv:2210.04885,
        section 3.
    """
    check_images(images)
    if maps.ndim != 3 or len(maps) != len(images):
        raise ValueError(f"needs one map (h, w) for each of {len(images)} images, got shape {tuple(maps.shape)}")
    wide = resize(maps[:, None].to(images), images.shape[-2], images.shape[-1])
    shade = wide / wide.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
    grey = images.mean(dim=1, keepdim=True)
    low, middle, high = (torch.tensor(colour).to(images)[:, None, None] * 2 - 1 for colour in _COLOURS)
    colour = torch.where(shade < 0.5, low + 2 * shade * (middle - low), middle + (2 * shade - 1) * (high - middle))
    return (grey + _OPACITY * shade * (colour - grey)).clamp(-1, 1)
