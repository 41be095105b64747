"""Text to image: encode the prompts, walk from noise to a clean estimate under guidance, decode.

    x = scale * noise                                    at the first level of the path
    for each level: x0 = none + guidance * (text - none)  one forward pass
                    x  = step(x, x0)                      to the next level
    image = decode(x)

Paper: High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv:2112.10752.
Forwards per step: 1 (2 with ``heun``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sfumato.checkpoints.parts import Parts
from sfumato.core.noise import Noise
from sfumato.core.sample import Record, sample
from sfumato.flows.prompts import prompted
from sfumato.flows.steering import Steering, model_of, steered
from sfumato.flows.walk import Walk, after_steps, sampler_of, start_of, step_of

__all__ = ["check_prompts", "text_to_image"]


def text_to_image(
    parts: Parts,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    size: tuple[int, int] | None = None,
    steer: Steering = Steering(),  # noqa: B008 (frozen)
    walk: Walk = Walk(),  # noqa: B008 (frozen)
    watch: Callable[[Record], None] | None = None,
) -> Tensor:
    """Make pictures of prompts.

    Args:
        parts: a loaded checkpoint.
        prompts: B prompts.
        seeds: B seeds, one a picture; picture i depends on prompt i and seed i alone, to rounding.
        size: height and width in pixels, multiples of the codec's factor; None: those that were trained.
        steer: guidance and all else that is asked of the denoiser.
        walk: steps and scheduler.
        watch: called with a record after each step.

    Returns:
        pictures (B, 3, H, W), float32, in [-1, 1].

    Raises:
        ValueError: no prompts, another number of seeds, or a setting out of range.
    """
    check_prompts(prompts, seeds)
    size = size or parts.size
    sampler, noise = sampler_of(parts, walk), Noise(seeds)
    with torch.no_grad():
        text = prompted(parts, prompts, size, steer.edits, steer.neighbours)
        denoise = steered(parts, text.branch, size, steer, sampler.path)
        x = start_of(parts, walk, sampler.scale, noise, size)
        step, after = step_of(model_of(parts, steer), walk, sampler, text), after_steps(parts, walk, noise, size)
        x0 = sample(denoise, x, sampler.path, step, noise=noise, after=after, watch=watch)
        return parts.codec.decode(x0)


def check_prompts(prompts: Sequence[str], seeds: Sequence[int]) -> None:
    """See that there are prompts, and one seed for each.

    Raises:
        ValueError: there are not.
    """
    if isinstance(prompts, str) or len(prompts) == 0 or len(prompts) != len(seeds):
        raise ValueError(f"needs a list of prompts and one seed for each, got {len(prompts)} and {len(seeds)}")
