"""Inpainting without training: after each step, put the known part back at the level that was reached.

With m = 1 where the picture is to be made anew, and 0 where it is known:

    x <- m * x + (1 - m) * (alpha * known + sigma * z)

At the clean end alpha = 1 and sigma = 0, so the known part is kept exactly (of latents: exactly in latents). Started
from pure noise this is inpainting, from a noised picture it is SDEdit with a mask. The new part is made in ignorance of
what is put back beside it; RePaint lets both get used to each other by going up and down again: walk
``core.path.bumps`` with ``core.steps.Renoising``.

Combines with: any denoiser and step; other after-step edits, of which this should be the last.
Forwards per step: 0 of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.predict import noised

__all__ = ["KeepKnown", "check_mask", "latent_mask", "pasted"]


@dataclass(frozen=True, eq=False)
class KeepKnown:
    """An after-step edit that puts the known part back.

    Args:
        known: clean, (B, C, h, w), in what the model denoises.
        mask: 1 where the picture is made anew and 0 where it is known, (B or 1, 1, h, w), in [0, 1].
        noise: draws z, afresh for each step; one seed an image, apart from the sampler's own (``noise.fork``).

    Raises:
        ValueError: a mask of another shape or range.

    Paper: RePaint: Inpainting using Denoising Diffusion Probabilistic Models (Lugmayr et al., 2022), arXiv:2201.09865,
        equation 8; with a start from a noised picture, SDEdit (Meng et al., 2021), arXiv:2108.01073, algorithm 3.
    Differs from the paper: SDEdit's code puts the known part back one level too noisy, and leaves noise at the end;
        here the last step of a path puts it back clean, whatever the schedule ends with.
    """

    known: Tensor
    mask: Tensor
    noise: Noise

    def __post_init__(self) -> None:
        count, _, height, width = self.known.shape
        if self.mask.shape not in ((1, 1, height, width), (count, 1, height, width)):
            wanted = f"({count} or 1, 1, {height}, {width})"
            raise ValueError(f"the mask must have shape {wanted}, got {tuple(self.mask.shape)}")
        if not (self.mask.min() >= 0 and self.mask.max() <= 1):
            raise ValueError("the mask must lie in [0, 1]: 1 is made anew, 0 is kept")

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        """x (B, C, h, w) at a level, with the known part."""
        known = self.known if level.is_last else noised(self.known, self.noise.like(x), level)
        return known + self.mask * (x - known)


def check_mask(mask: Tensor, images: Tensor) -> None:
    """See that a mask (B or 1, 1, H, W) has the size of the pictures (B, 3, H, W).

    Raises:
        ValueError: it has another.
    """
    if mask.shape[-2:] != images.shape[-2:]:
        sizes = tuple(mask.shape[-2:]), tuple(images.shape[-2:])
        raise ValueError(f"the mask has size {sizes[0]} and the picture {sizes[1]}; give a mask of the same size")


def pasted(images: Tensor, mask: Tensor, made: Tensor) -> Tensor:
    """Pictures (B or 1, 3, H, W) with what was made (B, 3, H, W) in their place where a mask (B or 1, 1, H, W) is 1."""
    return images + mask * (made.to(images) - images)


def latent_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask of pixels on a coarser grid: 1 where any pixel of the cell is made anew, so that no known latent knows it.

    Args:
        mask: (B, 1, H, W), 1 where the picture is made anew.
        height: of the grid, a divisor of H.
        width: of the grid, a divisor of W.

    Returns:
        (B, 1, height, width).

    Raises:
        ValueError: the grid does not divide the mask.
    """
    if mask.shape[-2] % height or mask.shape[-1] % width:
        raise ValueError(f"a mask of {tuple(mask.shape[-2:])} cannot be reduced to {height} x {width}")
    cells = mask.unflatten(-1, (width, -1)).unflatten(-3, (height, -1))
    return cells.amax(dim=(-3, -1))
