"""Thresholding: keep the clean estimate within the range of pictures.

Strong guidance pushes x0 out of [-1, 1], where training never was, and pixels saturate. Per image:

    static     x0 <- clip(x0, -1, 1)
    dynamic    s = max(1, quantile of |x0|),   x0 <- clip(x0, -s, s) / s

Dynamic thresholding pulls all pixels inwards when many are too large, which keeps detail where static clipping makes
flat patches. The step that follows takes its noise from the thresholded estimate, so x stays alpha * x0 + sigma *
noise.

Models of pixels only: latents have no such range, and their tails are signal. There, use ``rescale``.
Combines with: any denoiser inside; it is the outermost wrapper.
Forwards per step: 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.steps import Denoiser

__all__ = ["Thresholded"]


@dataclass(frozen=True, eq=False)
class Thresholded:
    """A denoiser whose estimates lie in [-1, 1].

    Args:
        denoise: the estimate without it, (B, 3, H, W).
        quantile: of |x0| over one image, in (0, 1]; 1 divides by the largest. None: static clipping.

    Raises:
        ValueError: quantile out of range.

    Paper: Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding (Saharia et al., 2022),
        arXiv:2205.11487, section 2.3.
    Differs from the paper: no. (diffusers caps s at ``sample_max_value``, 1 by default, which makes it static.)
    """

    denoise: Denoiser
    quantile: float | None = 0.995

    def __post_init__(self) -> None:
        if self.quantile is not None and not 0 < self.quantile <= 1:
            raise ValueError(f"quantile must lie in (0, 1], or be None for static clipping, got {self.quantile}")

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        """The thresholded clean estimate (B, 3, H, W) of x at a level () or (B,)."""
        x0 = self.denoise(x, level)
        if self.quantile is None:
            return x0.clamp(-1, 1)
        size = x0.abs().flatten(1).quantile(self.quantile, dim=1).clamp(min=1).reshape(-1, *[1] * (x0.ndim - 1))
        return x0.clamp(-size, size) / size
