"""Train a codec on scenes of the emoji world: what the recipes of codecs have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sfumato.core.noise import Noise
from sfumato.core.sheet import grid
from sfumato.train.config import CodecFitConfig
from sfumato.train.device import device_of
from sfumato.train.fit import FitReport, fit
from sfumato.train.order import Order
from sfumato.train.resume import check_start
from sfumato.train.scenes import SceneSet, SceneStream, to_images
from sfumato.world.scene import SceneConfig
from sfumato.world.sources import open_world

__all__ = ["CodecScenes", "fit_codec", "codec_scenes"]

HELD_OUT = 256
_SHOWN = 32


@dataclass(frozen=True, eq=False)
class CodecScenes:
    """Scenes that a codec learns, and further ones that it is measured on."""

    learned: SceneSet
    held_out: SceneSet


def codec_scenes(config: CodecFitConfig) -> CodecScenes:
    """Draw the scenes of a config, once its folder is seen to be free or gone on with.

    Raises:
        FileExistsError, FileNotFoundError, ValueError: as :func:`sfumato.train.resume.start_of`.
    """
    check_start(config)
    learned = SceneStream(open_world(config.world or None), config.seed, config.scenes, SceneConfig())
    return CodecScenes(learned.render(), learned.held_out(HELD_OUT).render())


def fit_codec(
    codec: Any,
    loss: Callable[[Any, Tensor, Noise], Mapping[str, Tensor]],
    remake: Callable[[Any, Tensor], Tensor],
    config: CodecFitConfig,
    scenes: CodecScenes,
) -> FitReport:
    """Train a codec, and leave it on the CPU; its sample grids show held-out scenes, each above what is made of it.

    Args:
        codec: a module.
        loss: of the codec, images (B, 3, H, W) in [-1, 1] and noise, one seed an image.
        remake: of the codec and images (B, 3, H, W), what it gives back.
        config: of the recipe.
        scenes: what is learned and shown.
    """
    order = Order(len(scenes.learned), config.train_batch_size, config.seed)

    def batch(number: int) -> Tensor:
        return to_images(scenes.learned.pictures[order.indices(number)])

    def sample(module: Any) -> Image.Image:
        images = to_images(scenes.held_out.pictures[:_SHOWN])
        made = remake(module, images.to(device_of(module))).cpu().clamp(-1, 1)
        return grid(torch.cat([images, made]), columns=_SHOWN // 2)

    def loss_there(module: Any, images: Tensor, noise: Noise) -> Mapping[str, Tensor]:
        return loss(module, images.to(device_of(module)), noise)

    report = fit(codec, loss_there, batch, config, sample=sample)
    codec.cpu()
    return report
