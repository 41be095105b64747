"""Morph: pictures on the way from one picture or prompt to another, from ends that are exact.

    x = slerp(start_a, start_b; share),  condition = lerp(text_a, text_b; share),  walked as text to image

The start of an end is noise of its seed, or the inversion of a picture. All pictures share the noise that stochastic
steps draw, so that nothing but the share changes from one to the next.

Paper: Hierarchical Text-Conditional Image Generation with CLIP Latents (Ramesh et al., 2022), arXiv:2204.06125, section
    3.2; starts by inversion: Denoising Diffusion Implicit Models (Song et al., 2021), arXiv:2010.02502, section 5.3.
Differs from the papers: both are interpolated at once, token states along a line.
Forwards per step: 1 (2 with ``heun``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.checkpoints.parts import Parts
from sfumato.core.branch import Branch
from sfumato.core.condition import Condition
from sfumato.core.noise import Noise
from sfumato.core.sample import Record, sample
from sfumato.flows.prompts import condition_of
from sfumato.flows.steering import Steering, steered
from sfumato.flows.walk import Walk, after_steps, sampler_of
from sfumato.guidance.interpolation import lerp_conditions, slerp

__all__ = ["End", "Morph", "morph"]


@dataclass(frozen=True, eq=False)
class End:
    """Where a morph begins or ends.

    Args:
        prompt: what the picture shows; "" asks for nothing, and guidance does nothing where that is the null, too (SDXL
            has zeros for it).
        seed: of its noise.
        start: x (1, C, h, w) at the first level of the path, from ``flows.invert``; None: noise of the seed.
    """

    prompt: str
    seed: int = 0
    start: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Morph:
    """The way from one end to another.

    Args:
        first: the end at share 0.
        second: the end at share 1.
        shares: B places on the way, in [0, 1].

    Raises:
        ValueError: no shares, or one out of range.
    """

    first: End
    second: End
    shares: Sequence[float]

    def __post_init__(self) -> None:
        if not self.shares or not all(0 <= share <= 1 for share in self.shares):
            raise ValueError(f"a morph needs shares of the way in [0, 1], got {list(self.shares)}")


def morph(
    parts: Parts,
    given: Morph,
    *,
    size: tuple[int, int] | None = None,
    steer: Steering = Steering(),  # noqa: B008 (frozen)
    walk: Walk = Walk(),  # noqa: B008 (frozen)
    watch: Callable[[Record], None] | None = None,
) -> Tensor:
    """Make pictures on the way from one end to another.

    Args:
        parts: a loaded checkpoint.
        given: the ends, and the B shares.
        size: height and width in pixels, multiples of the codec's factor; None: those that were trained.
        steer: guidance and all else that is asked of the denoiser.
        walk: steps and scheduler.
        watch: called with a record after each step.

    Returns:
        pictures (B, 3, H, W), float32, in [-1, 1]; at shares 0 and 1 those that the ends make alone, the second if
        nothing is drawn on the way, or it has the first one's seed and both or neither have a start.

    Raises:
        ValueError: starts of another shape, or a setting out of range.
    """
    if walk.start is not None:
        raise ValueError("a morph begins at its two ends; give a start from an inversion to one of them")
    if steer.edits or walk.excite is not None:
        raise ValueError("between two prompts there are no words whose attention could be edited")
    size = size or parts.size
    sampler, noise = sampler_of(parts, walk), Noise([given.first.seed] * len(given.shares))
    with torch.no_grad():
        starts = (
            _start(parts, given.first, sampler.scale, size, noise),
            _start(parts, given.second, sampler.scale, size, Noise([given.second.seed])),
        )
        texts = [condition_of(parts, [end.prompt], size, steer.neighbours) for end in (given.first, given.second)]
        x = torch.cat([slerp(starts[0], starts[1], share) for share in given.shares])
        text = Branch(
            Condition.cat([lerp_conditions(texts[0], texts[1], share) for share in given.shares]), name="text"
        )
        denoise = steered(parts, text, size, steer, sampler.path)
        after = after_steps(parts, walk, noise, size)
        return parts.codec.decode(sample(denoise, x, sampler.path, sampler.step, noise=noise, after=after, watch=watch))


def _start(parts: Parts, end: End, scale: float, size: tuple[int, int], noise: Noise) -> Tensor:
    shape = (1, *parts.codec.shape(*size))
    if end.start is None:
        return scale * noise((len(noise.seeds), *shape[1:]))[:1].to(parts.device)
    if end.start.shape != shape:
        raise ValueError(f"the start of '{end.prompt}' has shape {tuple(end.start.shape)}, these pictures {shape}")
    return end.start.to(parts.device).float()
