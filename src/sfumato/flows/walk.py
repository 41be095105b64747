"""Walk: how x goes from level to level, and what is done to it after each step.

Place 5 of the design, for flows: the sampler by name, Langevin correction of it, words that no picture may neglect
(attend-and-excite), and a picture whose coarse shapes are followed (ILVR). Where a walk begins and what else is kept is
each flow's own business.

Papers: ``sfumato.samplers``, ``sfumato.guidance.langevin``, ``sfumato.guidance.attend_and_excite`` and
    ``sfumato.guidance.ilvr`` (Choi et al., 2021, arXiv:2108.02938) name them.
Forwards per step: 1 (2 with ``heun``), ``langevin`` more, and those of ``excite``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfumato.attention.maps import attention_to
from sfumato.checkpoints.parts import Parts
from sfumato.core.image import check_images
from sfumato.core.model import Model
from sfumato.core.noise import Noise
from sfumato.core.sample import AfterStep
from sfumato.core.steps import Step
from sfumato.flows.prompts import Prompted
from sfumato.guidance.attend_and_excite import Excite
from sfumato.guidance.ilvr import Ilvr
from sfumato.guidance.langevin import Langevin
from sfumato.samplers.diffusers_scheduler import DiffusersStep
from sfumato.samplers.names import named_sampler
from sfumato.samplers.sampler import Sampler

__all__ = ["Like", "Walk", "after_steps", "encoded", "sampler_of", "start_of", "step_of"]


@dataclass(frozen=True, eq=False)
class Like:
    """A picture whose coarse shapes and colours are followed.

    Args:
        images: (B or 1, 3, H, W) in [-1, 1], of the pictures' size.
        scale: side of the blocks whose means are followed, in pixels; a multiple of the codec's factor.
        until: share of the path up to which it is followed, in [0, 1].
    """

    images: Tensor
    scale: int = 16
    until: float = 0.8


@dataclass(frozen=True, eq=False)
class Walk:
    """How x goes from level to level.

    Args:
        steps: number of steps, >= 1.
        scheduler: a short name (``sfumato.samplers.names.SHORT_NAMES``) or a class name of diffusers.
        like: a picture to follow; None: none.
        langevin: Langevin steps after each step, >= 0, which bring compositions nearer to their product.
        excite: words that shall get attention; None: none.
        start: x (B or 1, C, h, w) at the first level of the path, from an inversion; None: noise of the seeds.

    Raises:
        ValueError: langevin below 0.
    """

    steps: int = 20
    scheduler: str = "ddim"
    like: Like | None = None
    langevin: int = 0
    excite: Excite | None = None
    start: Tensor | None = None

    def __post_init__(self) -> None:
        if self.langevin < 0:
            raise ValueError(f"langevin must be at least 0, got {self.langevin}")


def sampler_of(parts: Parts, walk: Walk) -> Sampler:
    """The sampler that a walk names, set up as the checkpoint was published.

    Raises:
        ValueError: an unknown scheduler, steps out of range, or settings that it does not follow; one that goes on from
            an x of its own, with Langevin steps, a picture to follow or words to excite.
    """
    sampler = named_sampler(walk.scheduler, parts.scheduler, walk.steps)
    moves = {"Langevin steps": walk.langevin, "a picture to follow": walk.like, "words to excite": walk.excite}
    for what, asked in moves.items():
        if asked and isinstance(sampler.step, DiffusersStep) and sampler.step.holds_x:
            raise ValueError(
                f"{walk.scheduler} goes on from an x of its own, which {what} would not reach; choose ddim, dpmpp_2m, "
                "euler, euler_a, unipc or our own heun"
            )
    return replace(sampler, step=Langevin(sampler.step, walk.langevin)) if walk.langevin else sampler


def step_of(model: Model, walk: Walk, sampler: Sampler, text: Prompted) -> Step:
    """The sampler's step, which first sees that no word is neglected if a walk asks for it.

    Args:
        model: whose attention is meant.
        walk: how.
        sampler: of the walk.
        text: the prompts, with the edits of their attention.

    Raises:
        ValueError: a phrase that a prompt does not have, or words to excite where the context has none.
    """
    if walk.excite is None:
        return sampler.step
    if not text.worded:
        raise ValueError("excite speaks of words, and the context has neighbours in their place; keep the words")
    return walk.excite.over(sampler.step, attention_to(model, text.branch, text.words, walk.excite.phrases))


def start_of(parts: Parts, walk: Walk, scale: float, noise: Noise, size: tuple[int, int]) -> Tensor:
    """x (B, C, h, w) at the first level of a path: what the walk begins with, or noise of the seeds.

    Args:
        parts: with the codec.
        walk: how.
        scale: of the noise, the sampler's.
        noise: one seed a picture.
        size: height and width of the pictures, in pixels.

    Raises:
        ValueError: a start of another shape.
    """
    count, shape = len(noise.seeds), parts.codec.shape(*size)
    if walk.start is None:
        return scale * noise((count, *shape)).to(parts.device)
    if walk.start.shape not in ((count, *shape), (1, *shape)):
        raise ValueError(f"the start has shape {tuple(walk.start.shape)} and these pictures {(count, *shape)}")
    return walk.start.to(parts.device).float().expand(count, *shape)


def after_steps(parts: Parts, walk: Walk, noise: Noise, size: tuple[int, int]) -> tuple[AfterStep, ...]:
    """What a walk does to x after each step.

    Args:
        parts: with the codec.
        walk: how.
        noise: one seed a picture.
        size: height and width of the pictures, in pixels.

    Raises:
        ValueError: pictures to follow of another number or size, or blocks that do not fit.
    """
    if walk.like is None:
        return ()
    like, factor = walk.like, parts.codec.factor
    if like.scale < factor or like.scale % factor:
        raise ValueError(f"the scale of like must be a multiple of {factor} pixels for this model, got {like.scale}")
    if check_images(like.images).shape[-2:] != size:
        high, wide = like.images.shape[-2:]
        raise ValueError(f"the picture to follow is {wide}x{high} and those to be made {size[1]}x{size[0]}; resize it")
    reference = encoded(parts, like.images, len(noise.seeds))
    return (Ilvr(reference, noise.fork("like"), like.scale // factor, like.until),)


def encoded(parts: Parts, images: Tensor, count: int) -> Tensor:
    """Pictures as what the model denoises.

    Args:
        parts: with the codec.
        images: (count or 1, 3, H, W) in [-1, 1].
        count: pictures that are made; one image serves all.

    Returns:
        (count, C, h, w), on the model's device.

    Raises:
        ValueError: another number of images, or no images.
    """
    if len(check_images(images)) not in (1, count):
        raise ValueError(f"there are {len(images)} given pictures for {count} to be made; give one, or one for each")
    with torch.no_grad():
        x0 = parts.codec.encode(images.to(parts.device))
    return x0 if len(x0) == count else x0.expand(count, -1, -1, -1)
