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
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.checkpoints.parts import Parts
from sfumato.core.branch import Branch, Guided
from sfumato.core.condition import Condition
from sfumato.core.noise import Noise
from sfumato.core.sample import Record, sample
from sfumato.core.steps import Denoiser
from sfumato.guidance.classifier_free import classifier_free, in_interval
from sfumato.guidance.rescale import Rescaled
from sfumato.samplers.names import named_sampler

__all__ = ["Settings", "text_to_image"]


@dataclass(frozen=True)
class Settings:
    """How pictures are sampled; the arguments of :func:`text_to_image` that are the same for all of them.

    Raises:
        ValueError: a setting out of range; see :func:`text_to_image`.
    """

    steps: int = 20
    guidance: float = 4.0
    scheduler: str = "ddim"
    size: tuple[int, int] | None = None
    interval: tuple[float, float] | None = None
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.guidance < float("inf"):
            raise ValueError(f"guidance must be a number from 0 on (1 is none), got {self.guidance}")
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"rescale must lie in [0, 1], got {self.rescale}")
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise ValueError(f"interval must be two shares of the path, 0 <= start < stop <= 1, got {self.interval}")


def text_to_image(  # noqa: PLR0913 (the one call for scripts: a flat list of what a user may ask for)
    parts: Parts,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    steps: int = 20,
    guidance: float = 4.0,
    negative: str = "",
    scheduler: str = "ddim",
    size: tuple[int, int] | None = None,
    exact: bool = False,
    interval: tuple[float, float] | None = None,
    rescale: float = 0.0,
    watch: Callable[[Record], None] | None = None,
) -> Tensor:
    """Make pictures of prompts.

    Args:
        parts: a loaded checkpoint.
        prompts: B prompts.
        seeds: B seeds, one a picture; picture i depends on prompt i and seed i alone, to rounding.
        steps: number of steps, >= 1.
        guidance: scale, >= 0; 1 is no guidance.
        negative: what to move away from, for all pictures; "" is the checkpoint's null.
        scheduler: a short name (``sfumato.samplers.names.SHORT_NAMES``) or a class name of diffusers.
        size: height and width in pixels, multiples of the codec's factor; None: those that were trained.
        exact: make pictures one by one, so that each is bit for bit what it is alone.
        interval: shares of the path, 0 at pure noise and 1 at the end, between which guidance is on; None: always.
        rescale: share of the guided output that gets the contrast of the conditional one, in [0, 1].
        watch: called with a record after each step; with ``exact``, for one picture after the other.

    Returns:
        pictures (B, 3, H, W), float32, in [-1, 1].

    Raises:
        ValueError: no prompts, another number of seeds, or a setting out of range.
    """
    settings = Settings(steps, guidance, scheduler, size, interval, rescale)
    if isinstance(prompts, str) or len(prompts) == 0 or len(prompts) != len(seeds):
        raise ValueError(f"needs a list of prompts and one seed for each, got {len(prompts)} and {len(seeds)}")
    with torch.no_grad():
        if not exact:
            return _pictures(parts, prompts, seeds, negative, settings, watch)
        alone = [
            _pictures(parts, [prompt], [seed], negative, settings, watch)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return torch.cat(alone)


def _pictures(
    parts: Parts,
    prompts: Sequence[str],
    seeds: Sequence[int],
    negative: str,
    settings: Settings,
    watch: Callable[[Record], None] | None,
) -> Tensor:
    height, width = settings.size or parts.size
    sampler = named_sampler(settings.scheduler, parts.scheduler, settings.steps)
    text = Branch(_told_size(parts, parts.text(prompts).condition, height, width), name="text")
    none = Branch(_told_size(parts, _negative(parts, negative, len(prompts)), height, width), name="none")
    noise = Noise(seeds)
    start = sampler.scale * noise((len(seeds), *parts.codec.shape(height, width))).to(parts.device)
    x0 = sample(_denoiser(parts, text, none, settings), start, sampler.path, sampler.step, noise=noise, watch=watch)
    return parts.codec.decode(x0)


def _negative(parts: Parts, negative: str, count: int) -> Condition:
    return parts.text([negative]).condition.rows([0] * count) if negative else parts.text.null(count)


def _told_size(parts: Parts, condition: Condition, height: int, width: int) -> Condition:
    if not parts.network.sized:
        return condition
    told = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=parts.device)
    return condition.replace(extras={**condition.extras, "size": told.repeat(condition.count or 1, 1)})


def _denoiser(parts: Parts, text: Branch, none: Branch, settings: Settings) -> Denoiser:
    guided = classifier_free(text, none, settings.guidance)
    mix = guided if settings.interval is None else in_interval(guided, text, *settings.interval)
    if settings.rescale > 0:
        return Rescaled(parts.model, mix, text, parts.network.prediction, settings.rescale)
    return Guided(parts.model, mix)
