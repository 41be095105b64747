"""A tiny model for tests of the core, a count of its forwards, and data whose denoiser is known in closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.checkpoints.parts import Parts
from sfumato.core.attention import AttentionEdit, Site
from sfumato.core.branch import Branch
from sfumato.core.condition import Condition
from sfumato.core.level import Level
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.predict import Prediction
from sfumato.core.schedules import DiscreteSchedule
from sfumato.flows.steering import Steering
from sfumato.flows.text_to_image import text_to_image
from sfumato.flows.walk import Walk
from sfumato.networks.unet import UNetNetwork
from tests.tiny import TEXT_WIDTH, tiny_unet

LATENT = (4, 8, 8)
TOKENS = 6


def scaled_linear() -> DiscreteSchedule:
    """Stable Diffusion's levels."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return DiscreteSchedule((1 - betas).cumprod(0))


def tiny_model(
    prediction: Prediction = "noise", max_rows: int | None = None, dtype: torch.dtype = torch.float64
) -> DenoisingModel:
    """A random U-Net with cross- and self-attention at 8 x 8 and 4 x 4, for latents (4, 8, 8)."""
    unet = tiny_unet().to(dtype)
    return DenoisingModel(UNetNetwork(unet, prediction), scaled_linear(), max_rows)


def branch(seed: int, count: int = 2, tokens: int = TOKENS, edits: tuple[AttentionEdit, ...] = ()) -> Branch:
    """A branch with random tokens, one seed an image."""
    noise = Noise([1000 * seed + index for index in range(count)])
    return Branch(Condition(tokens=noise((count, tokens, TEXT_WIDTH)).double()), edits, f"b{seed}")


def start(count: int = 2, first_seed: int = 0) -> Tensor:
    """Starting noise in float64."""
    return Noise(range(first_seed, first_seed + count))((count, *LATENT)).double()


@contextmanager
def counted(model: DenoisingModel) -> Iterator[list[int]]:
    """The rows of each forward of the network during the block."""
    rows: list[int] = []
    handle = model.network.unet.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    try:
        yield rows
    finally:
        handle.remove()


@dataclass(frozen=True)
class Gaussian:
    """The exact denoiser of data N(mean, std^2), and the exact end of its ODE."""

    mean: float = 0.7
    std: float = 0.3

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        gain = level.alpha * self.std**2 / (level.alpha**2 * self.std**2 + level.sigma**2)
        return self.mean + gain * (x - level.alpha * self.mean)

    def flow(self, x: Tensor, level: Level, end: Level) -> Tensor:
        shrink = (end.alpha**2 * self.std**2 + end.sigma**2) / (level.alpha**2 * self.std**2 + level.sigma**2)
        return end.alpha * self.mean + shrink.sqrt() * (x - level.alpha * self.mean)


def made(parts: Parts, prompts: Sequence[str], seeds: Sequence[int], **settings: Any) -> Tensor:
    """``text_to_image`` with the fields of ``Steering`` and ``Walk`` given flat."""
    return text_to_image(parts, prompts, seeds=seeds, **sorted_settings(settings))


def sorted_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flat settings as the arguments of a flow: those of ``Steering``, those of ``Walk``, and the rest."""
    asked = {name: value for name, value in settings.items() if name in Steering.__dataclass_fields__}
    walked = {name: value for name, value in settings.items() if name in Walk.__dataclass_fields__}
    rest = {name: value for name, value in settings.items() if name not in {*asked, *walked}}
    return {"steer": Steering(**asked), "walk": Walk(**walked), **rest}


class Gaussians:
    """A model that knows the exact denoiser of each branch."""

    def __init__(self, denoisers: Mapping[Branch, Callable[[Tensor, Level], Tensor]]) -> None:
        self.denoisers, self.schedule = denoisers, scaled_linear()

    def __call__(self, x: Tensor, level: Level, branches: Sequence[Branch]) -> tuple[Tensor, ...]:
        return tuple(self.denoisers[branch](x, level) for branch in branches)


class Sharpen(AttentionEdit):
    """Multiplies the scores of cross-attention."""

    def __init__(self, factor: float = 3.0, until: float = 1.0) -> None:
        self.factor, self.until = factor, until

    def active(self, level: Level) -> bool:
        return level.progress is None or level.progress < self.until

    def applies(self, site: Site) -> bool:
        return site.kind == "cross"

    def scores(self, scores: Tensor, site: Site, ratio: Tensor) -> Tensor:
        return scores * (self.factor + torch.log1p(ratio))


class Flatten(AttentionEdit):
    """Mixes cross-attention maps with their mean over tokens."""

    def applies(self, site: Site) -> bool:
        return site.kind == "cross"

    def weights(self, weights: Tensor, site: Site) -> Tensor:
        return 0.5 * weights + 0.5 * weights.mean(dim=-1, keepdim=True)


class HalveValues(AttentionEdit):
    """Halves what cross-attention returns, in the context stage."""

    def applies(self, site: Site) -> bool:
        return site.kind == "cross"

    def context(self, keys: Tensor, values: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        return keys, values / 2
