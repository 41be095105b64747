"""Features of pictures that the judge reads: what the picture shows, and roughly where.

The network is trained on ImageNet and never on the world, so neither the judge's features nor the Fréchet distance over
them were fitted to what a generator learns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.core.image import check_images, resize
from sfumato.evaluate.efficientnet import EfficientNetLite0, load_imagenet
from sfumato.machine import best_dtype

__all__ = ["GRID", "POOLED", "WIDTH", "FeatureFunction", "Features", "imagenet_features"]

FeatureFunction = Callable[[Tensor], Tensor]
POOLED = 1280
GRID = 4
WIDTH = POOLED + 112 * GRID * GRID
"""Width of a feature vector: the pooled last map, then the middle map on a 4 x 4 grid."""


@dataclass(frozen=True, eq=False)
class Features:
    """Pictures to feature vectors: the pooled head, then a 4 x 4 grid of the middle map.

        sign(f) sqrt(|f|) of each, which tames the few large ones that would rule every distance

    Args:
        network: EfficientNet-Lite0 with weights.
        size: side in pixels that pictures are scaled to (antialiased bicubic), a multiple of 32.
        batch: pictures per forward; memory only.

    Raises:
        ValueError: size is no positive multiple of 32.
    """

    network: EfficientNetLite0
    size: int = 128
    batch: int = 64

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 32:
            raise ValueError(f"the side must be a positive multiple of 32, got {self.size}")

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features of each picture.

        Args:
            images: (B, 3, H, W) float32 in [-1, 1].

        Returns:
            (B, 3072) float32, in [0, 2.45] in the first 1280.

        Raises:
            ValueError: images of another shape or range.
        """
        return torch.cat([self._of_batch(part) for part in check_images(images).split(self.batch)])

    def _of_batch(self, images: Tensor) -> Tensor:
        weights = next(self.network.parameters())
        scaled = resize(images, self.size, self.size, "bicubic").to(weights.device, weights.dtype)
        middle, last = self.network(scaled.contiguous(memory_format=torch.channels_last))
        grid = F.adaptive_avg_pool2d(middle.float(), GRID).flatten(1)
        features = torch.cat([last.float().mean((2, 3)), grid], dim=1).cpu()
        return features.sign() * features.abs().sqrt()


@lru_cache(maxsize=2)
def imagenet_features(size: int = 128) -> Features:
    """The judge's features, with weights of the package that the extra "judge" installs.

    In bfloat16 where the CPU has it, which is three times faster; else in float32.

    Args:
        size: side in pixels that pictures are scaled to.

    Returns:
        The feature function; the same object for the same size.

    Raises:
        WeightsError: the weights are not installed.
    """
    return Features(load_imagenet().to(getattr(torch, best_dtype())), size)
