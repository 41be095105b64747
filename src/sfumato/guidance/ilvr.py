"""ILVR: a picture with the coarse shapes and colours of another, by exchanging low frequencies after each step.

With y the reference brought to the level that was reached, and L a low-pass filter of blocks of N x N:

    x <- x - L(x) + L(y),        y = alpha * reference + sigma * z

Blocks of 1 copy the reference, larger ones leave more freedom; stopping early leaves more, too, since coarse shapes are
decided at noisy levels. L takes the mean of each block and is a projection, so L(x) = L(y) holds exactly after the
step. For models of latents the blocks are blocks of latents: near to, but not quite, a low-pass filter of the picture.

Combines with: any denoiser and step (stochastic ones mend seams better); other after-step edits, in the order given.
Forwards per step: 0 of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.predict import noised

__all__ = ["Ilvr", "block_mean"]


def block_mean(x: Tensor, size: int) -> Tensor:
    """Replace each block of size x size by its mean.

    Args:
        x: (B, C, h, w).
        size: a divisor of h and w.

    Returns:
        (B, C, h, w).

    Raises:
        ValueError: the blocks do not fit.
    """
    if size < 1 or x.shape[-2] % size or x.shape[-1] % size:
        raise ValueError(f"blocks of {size} do not fill {x.shape[-2]} x {x.shape[-1]}; choose a divisor of both")
    return F.avg_pool2d(x, size).repeat_interleave(size, -2).repeat_interleave(size, -1)


@dataclass(frozen=True, eq=False)
class Ilvr:
    """An after-step edit that gives x the low frequencies of a reference.

    Args:
        reference: clean, (B, C, h, w), in what the model denoises (latents for a model of latents).
        noise: draws z, afresh for each step; one seed an image, apart from the sampler's own (``noise.fork``).
        size: of the blocks N, >= 1, in elements of the reference.
        until: share of the path up to which it acts, in [0, 1]; 0 never, 1 to the very end, where L(x) = L(reference).
        low_pass: L, of a tensor and N.

    Raises:
        ValueError: until out of range, or blocks that do not fit.

    Paper: ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models (Choi et al., 2021), arXiv:2108.02938,
        algorithm 1.
    Differs from the paper: means of blocks, where the authors' code resizes bicubically, which is no projection; their
        code also noises the reference to the level before the step, one too noisy; here it is the level reached.
    """

    reference: Tensor
    noise: Noise
    size: int = 8
    until: float = 0.8
    low_pass: Callable[[Tensor, int], Tensor] = block_mean

    def __post_init__(self) -> None:
        if not 0 <= self.until <= 1:
            raise ValueError(f"until must be a share of the path, in [0, 1], got {self.until}")
        self.low_pass(self.reference, self.size)

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        """x (B, C, h, w) at a level of a path, with the reference's low frequencies.

        Raises:
            ValueError: a level outside a path (progress is None).
        """
        if level.progress is None:
            raise ValueError("ILVR needs a level of a path, which knows its progress")
        if self.until == 0 or level.progress > self.until:
            return x
        y = self.reference if level.is_last else noised(self.reference, self.noise.like(x), level)
        return x + self.low_pass(y - x, self.size)
