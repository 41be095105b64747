"""Train the many-context denoiser: a U-Net on the codec's latents, under text, pictures, both or nothing.

loss = mean of |v' - v|^2 over an image and the batch,  v = alpha * noise - sigma * x0,  at uniform times of the cosine
schedule.

Text, codec and picture encoder are locked; scenes, latents, token states and neighbours are computed once and kept in
the run's folder.

Paper: High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv:2112.10752;
    v-prediction: Salimans and Ho (2022), arXiv:2202.00512, section 4; picture tokens as context: Semi-Parametric Neural
    Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.train.config import SceneFitConfig, check_width, flag

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

    from sfumato.core.noise import Noise
    from sfumato.train.contexts import Forms

__all__ = ["Config", "main"]

LOOK = (
    "a red apple",
    "a rocket",
    "a 3d cat face",
    "a flat dog face",
    "a glossy blue bird",
    "a green car",
    "a purple heart",
    "a birthday cake",
    "a yellow sun",
    "a flat pink umbrella",
    "a house",
    "a soccer ball",
    "a 3d guitar",
    "a grinning face",
    "a red car and a blue bird",
    "an apple above a banana",
)
"""Prompts of the pictures that are drawn while it trains."""


@dataclass(frozen=True, kw_only=True)
class Config(SceneFitConfig):
    """Settings of the denoiser's training.

    Raises:
        ValueError: a width that normalisation does not divide, or as in ``FitConfig``.
    """

    output_dir: Path = flag(Path("runs/denoiser"), "folder of the run; the checkpoint is saved in its subfolder")
    max_train_steps: int = flag(20000, "optimiser steps in all")
    train_batch_size: int = flag(32, "images a forward pass")
    learning_rate: float = flag(8e-4, "highest learning rate")
    lr_warmup_steps: int = flag(300, "steps of linear rise to the highest learning rate")
    text: Path = flag(Path("runs/emoji"), "folder with the locked text_encoder and tokenizer")
    codec: Path = flag(Path("runs/codec/vae"), "folder of the trained codec")
    pictures: Path = flag(Path("runs/pictures_words/pictures"), "folder of the trained picture encoder")
    width: int = flag(32, "channels at 16 x 16; three times as many at 8 x 8, six times at 4 x 4; a multiple of 8")
    initial: str = flag("", "checkpoint, or 'emoji', whose U-Net is trained further; empty begins anew")
    text_share: float = flag(0.7, "share of images conditioned by their caption alone")
    pictures_share: float = flag(0.08, "share of images conditioned by picture tokens alone")
    both_share: float = flag(0.1, "share of images conditioned by both")
    neighbours: int = flag(4, "largest number of picture tokens")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_width(self.width)
        self.forms()
        if not 1 <= self.neighbours < self.scenes:
            raise ValueError(f"neighbours must be at least 1 and fewer than the scenes, got {self.neighbours}")

    def forms(self) -> Forms:
        """What a picture's context is, and how often."""
        from sfumato.train.contexts import Forms

        return Forms(self.text_share, self.pictures_share, self.both_share)


def main(config: Config) -> None:
    """Train, and save the whole checkpoint as ``output_dir/emoji-STEPS`` with its model card."""
    import torch

    from sfumato.core.sheet import grid
    from sfumato.encoders.joint import embedded_tokens
    from sfumato.flows.steering import Steering
    from sfumato.flows.text_to_image import text_to_image
    from sfumato.flows.walk import Walk
    from sfumato.train.contexts import Contexts
    from sfumato.train.embedded import Shipped, begin_unet, parts_around, ship
    from sfumato.train.fit import fit
    from sfumato.train.locked import Locked
    from sfumato.train.loss import denoising_loss
    from sfumato.train.order import Order
    from sfumato.train.prepare import prepare
    from sfumato.train.resume import check_start
    from sfumato.world.sources import open_world

    check_start(config)
    locked = Locked.load(config.text, config.codec, config.pictures)
    torch.manual_seed(config.seed)
    unet, former = begin_unet(locked, config.width, config.initial)
    world, kinds = open_world(config.world or None), config.scene_config()
    data = prepare(
        locked, world, kinds, config.output_dir, seed=config.seed, count=config.scenes, neighbours=config.neighbours
    )
    contexts = Contexts(data.captions, data.vectors, data.neighbours, config.forms())
    order = Order(config.scenes, config.train_batch_size, config.seed)
    tokens = embedded_tokens(locked.pictures.width)
    parts = parts_around(unet.to(memory_format=torch.channels_last), locked, tokens)

    def loss(module: Any, indices: Tensor, noise: Noise) -> dict[str, Tensor]:
        model = replace(parts.model, network=replace(parts.network, unet=module))
        x0 = data.latents[indices].to(parts.device, torch.float32)
        level = model.schedule.draw(len(indices), noise)
        condition = contexts.condition(indices, noise).to(parts.device)
        return {"loss": denoising_loss(model, x0, condition, level, noise.like(x0)).mean()}

    def look(_: nn.Module) -> Image.Image:
        parts.to(parts.device)  # text and codec go where the network is
        pictures = text_to_image(parts, LOOK, seeds=range(len(LOOK)), steer=Steering(guidance=3.0), walk=Walk(steps=15))
        return grid(pictures, columns=8, labels=LOOK)

    report = fit(unet, loss, order.indices, config, sample=look)
    told = Shipped("denoiser", data.key, tokens, data.vectors, {}, former)
    ship(config, config.output_dir / f"emoji-{report.steps:08d}", parts, locked, report, told)
