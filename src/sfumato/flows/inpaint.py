"""Inpainting and outpainting without training: walk from pure noise, and put the known part back after each step.

    x = noise
    for each level: x = step(x);  x <- m x + (1 - m) (alpha * known + sigma * z)

RePaint walks stretches of the path several times, going up again between, so that the new part has time to fit the
known one; it costs that many times the steps. Outpainting is inpainting of a border that is put round the picture.

Paper: RePaint: Inpainting using Denoising Diffusion Probabilistic Models (Lugmayr et al., 2022), arXiv:2201.09865,
    algorithm 1.
Forwards per step: 1 (2 with ``heun``); a repaint of r walks about r times the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.checkpoints.parts import Parts
from sfumato.core.noise import Noise
from sfumato.core.path import bumps
from sfumato.core.sample import Record, sample
from sfumato.core.steps import Renoising
from sfumato.flows.prompts import prompted
from sfumato.flows.steering import Steering, model_of, steered
from sfumato.flows.text_to_image import check_prompts
from sfumato.flows.walk import Walk, after_steps, encoded, sampler_of, step_of
from sfumato.guidance.inpaint import KeepKnown, check_mask, latent_mask, pasted

__all__ = ["Inpaint", "extended", "inpaint"]


@dataclass(frozen=True, eq=False)
class Inpaint:
    """What is kept, and what is made anew.

    Args:
        images: (B or 1, 3, H, W) in [-1, 1]; sides are multiples of the codec's factor.
        mask: (B or 1, 1, H, W) in [0, 1], 1 where the picture is made anew and 0 where it is kept.
        repaint: times that each stretch is walked, >= 1; 1 is plain blending, the paper has 10.
        stretch: steps in a stretch, >= 1.
        paste: whether the kept pixels are put back after decoding, so that they are exact for models of latents, too.

    Raises:
        ValueError: a mask of another size, or a setting out of range.
    """

    images: Tensor
    mask: Tensor
    repaint: int = 1
    stretch: int = 2
    paste: bool = False

    def __post_init__(self) -> None:
        check_mask(self.mask, self.images)
        if self.repaint < 1 or self.stretch < 1:
            raise ValueError(f"needs repaint >= 1 and stretch >= 1, got {self.repaint} and {self.stretch}")


def inpaint(
    parts: Parts,
    given: Inpaint,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    steer: Steering = Steering(),  # noqa: B008 (frozen)
    walk: Walk = Walk(),  # noqa: B008 (frozen)
    watch: Callable[[Record], None] | None = None,
) -> Tensor:
    """Make the masked part of pictures anew.

    Args:
        parts: a loaded checkpoint.
        given: the pictures and the mask.
        prompts: B prompts, of the whole pictures.
        seeds: B seeds, one a picture.
        steer: guidance and all else that is asked of the denoiser.
        walk: steps and scheduler.
        watch: called with a record after each step.

    Returns:
        pictures (B, 3, H, W), float32, in [-1, 1].

    Raises:
        ValueError: no prompts, other numbers of seeds or pictures, a setting out of range, or a path that is too short
            to be walked again.
    """
    check_prompts(prompts, seeds)
    if walk.start is not None:
        raise ValueError("inpainting begins from noise of the seeds; a start from an inversion is for text_to_image")
    size = (given.images.shape[-2], given.images.shape[-1])
    sampler, noise = sampler_of(parts, walk), Noise(seeds)
    path = bumps(sampler.path, given.stretch, given.repaint)
    if given.repaint > 1 and len(path) == len(sampler.path):
        raise ValueError(
            f"a path of {len(path) - 1} steps is too short for stretches of {given.stretch} to be walked again; take "
            "more steps, a shorter stretch, or repaint 1"
        )
    with torch.no_grad():
        text = prompted(parts, prompts, size, steer.edits, steer.neighbours)
        denoise = steered(parts, text.branch, size, steer, sampler.path)
        step = step_of(model_of(parts, steer), walk, sampler, text)
        step = Renoising(step) if given.repaint > 1 else step
        known = encoded(parts, given.images, len(seeds))
        keep = KeepKnown(known, latent_mask(given.mask.to(known), *known.shape[-2:]), noise.fork("known"))
        x = sampler.scale * noise.like(known)
        after = (*after_steps(parts, walk, noise, size), keep)
        images = parts.codec.decode(sample(denoise, x, path, step, noise=noise, after=after, watch=watch))
    return pasted(given.images, given.mask, images) if given.paste else images


def extended(images: Tensor, left: int, right: int, top: int, bottom: int) -> tuple[Tensor, Tensor]:
    """A picture with a border to be made anew, and the mask of that border: what outpainting inpaints.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        left: pixels of border on that side, >= 0; so the others.
        right: see left.
        top: see left.
        bottom: see left.

    Returns:
        images (B, 3, top + H + bottom, left + W + right), the border being a copy of the edge, which keeps the codec
        calm; and the mask (1, 1, ...) of that size, 1 on the border.

    Raises:
        ValueError: a negative border, or none at all.
    """
    border = (left, right, top, bottom)
    if min(border) < 0 or max(border) == 0:
        raise ValueError(f"outpainting needs a border of more than 0 pixels on some side, got {border}")
    inside = torch.zeros(1, 1, *images.shape[-2:], dtype=images.dtype, device=images.device)
    return F.pad(images, border, mode="replicate"), F.pad(inside, border, value=1.0)
