"""Train a retrieval-augmented diffusion model: a U-Net that sees a picture's neighbours in a memory, and no words.

    loss = mean of |v' - v|^2,  v' = U(x, level, C),  C = embeddings of the k nearest entries of D to the picture

The embedded model's codec and picture encoder are locked; neighbours are computed once, more of them than are used.
``--neighbours 0`` trains the same network without a memory, as an unconditional model to compare with.

Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.2.
Differs from the paper: v-prediction on the cosine schedule, as the embedded denoiser; ``--zeros`` trains the null of
guidance, which the paper's models never saw.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sfumato.train.config import MemoryFitConfig, check_width, flag

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor, nn

    from sfumato.checkpoints.parts import Parts
    from sfumato.core.noise import Noise
    from sfumato.train.retrieved import Retrieved
    from sfumato.train.scenes import SceneStream

__all__ = ["Config", "main", "measure"]


@dataclass(frozen=True, kw_only=True)
class Config(MemoryFitConfig):
    """Settings of the training of a retrieval-augmented model.

    Raises:
        ValueError: more neighbours than are stored, a share out of range, or as in ``FitConfig``.
    """

    output_dir: Path = flag(Path("runs/retrieval"), "folder of the run; the checkpoint is saved in its subfolder")
    max_train_steps: int = flag(4000, "optimiser steps in all")
    train_batch_size: int = flag(128, "images a forward pass")
    optimizer: Literal["adamw", "muon"] = flag("muon", "muon moves weight matrices by Muon and the rest by AdamW")
    learning_rate: float = flag(2e-3, "highest learning rate")
    zeros: float = flag(0.0, "share of pictures whose context is zeros, which trains the null of guidance")
    base: str = flag("emoji", "checkpoint whose codec and picture encoder are used")
    width: int = flag(32, "channels at 16 x 16; three times as many at 8 x 8, six times at 4 x 4; a multiple of 8")
    initial: str = flag("", "checkpoint, or 'emoji', whose U-Net is trained further; empty begins anew")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_width(self.width)
        if not 0 <= self.zeros < 1:
            raise ValueError(f"zeros must lie in [0, 1), got {self.zeros}")


def main(config: Config) -> None:
    """Train, and save the whole checkpoint as ``output_dir/retrieval-STEPS`` with its model card."""
    import torch

    from sfumato.checkpoints.joint import load_joint
    from sfumato.checkpoints.load import folder_of
    from sfumato.core.condition import Condition
    from sfumato.encoders.joint import embedded_tokens
    from sfumato.train.embedded import Shipped, begin_unet, keep_encoders, parts_around, ship
    from sfumato.train.fit import fit
    from sfumato.train.locked import Locked
    from sfumato.train.loss import denoising_loss
    from sfumato.train.order import Order
    from sfumato.train.prepare import mean_latents
    from sfumato.train.resume import check_start
    from sfumato.train.retrieved import prepare_run

    check_start(config)
    base = folder_of(config.base)
    locked, encoder = Locked.load(base, base / "vae", base / "pictures"), load_joint(config.base)
    torch.manual_seed(config.seed)
    unet, former = begin_unet(locked, config.width, config.initial)

    def latents(images: Tensor) -> Tensor:
        return mean_latents(locked.codec, images).half()

    scenes, data, held_out = prepare_run(config, latents, encoder, locked.digest)
    tokens = replace(embedded_tokens(encoder.width), alone=True)
    order = Order(config.scenes, config.train_batch_size, config.seed)
    parts = parts_around(unet.to(memory_format=torch.channels_last), locked, tokens)

    def loss(module: Any, indices: Tensor, noise: Noise) -> dict[str, Tensor]:
        model = replace(parts.model, network=replace(parts.network, unet=module))
        x0 = data.learned[indices].to(parts.device, torch.float32)
        level = model.schedule.draw(len(indices), noise)
        condition = Condition(tokens=data.tokens(indices, config.neighbours, tokens, config.zeros, noise).to(x0))
        return {"loss": denoising_loss(model, x0, condition, level, noise.like(x0)).mean()}

    def look(_: nn.Module) -> Image.Image:
        return _drawn(parts, scenes, data, config.neighbours)

    report = fit(unet, loss, order.indices, config, sample=look)
    scores = measure(parts, held_out, config.neighbours)
    told = Shipped("retrieval", data.key, tokens, data.vectors, scores, former)
    target = ship(config, config.output_dir / f"retrieval-{report.steps:08d}", parts, locked, report, told)
    keep_encoders(base, target)


def measure(parts: Parts, data: Retrieved, count: int) -> dict[str, str]:
    """What neighbours tell a model: the loss of pictures that it did not learn, with 95 % intervals over pictures.

    Args:
        parts: of the model.
        data: N held-out pictures with their neighbours, N >= 2.
        count: k; 0 for a model without a memory.

    Returns:
        Figures under their own neighbours, those of another picture, and none; without a memory the last alone.
    """
    import torch

    from sfumato.evaluate.intervals import bootstrap_mean

    assert parts.neighbours is not None, "a model of neighbours says how it takes them"
    own = parts.neighbours(data.context(torch.arange(len(data.learned)), count))
    told = {"no neighbours": torch.zeros_like(own)}
    if count:
        told = {"their own neighbours": own, "another's neighbours": own.roll(1, 0), **told}
    figures: dict[str, str] = {}
    for name, context in told.items():
        mean = bootstrap_mean(_losses(parts, data.learned, context))
        figures[f"loss on held-out scenes, under {name}"] = f"{mean.value:.4f} [{mean.low:.4f}, {mean.high:.4f}]"
    return figures


def _losses(parts: Parts, learned: Tensor, context: Tensor, rounds: int = 4, batch: int = 64) -> Tensor:
    """The mean loss (N,) of pictures at some levels; the same levels and noise whatever they are told."""
    import torch

    from sfumato.core.condition import Condition
    from sfumato.core.noise import Noise
    from sfumato.train.loss import denoising_loss

    losses = torch.zeros(len(learned))
    for rows in torch.arange(rounds * len(learned)).split(batch):
        some, noise = rows % len(learned), Noise(rows.tolist())
        x0 = learned[some].to(parts.device, torch.float32)
        condition, level = Condition(tokens=context[some].to(x0)), parts.model.schedule.draw(len(some), noise)
        with torch.no_grad():
            loss = denoising_loss(parts.model, x0, condition, level, noise.like(x0))
        losses.index_add_(0, some, loss.cpu() / rounds)
    return losses


def _drawn(parts: Parts, scenes: SceneStream, data: Retrieved, count: int) -> Image.Image:
    """Training pictures, and below each what is drawn from its neighbours."""
    import torch

    from sfumato.core.sheet import grid
    from sfumato.flows.prompts import Neighbours
    from sfumato.flows.steering import Steering
    from sfumato.flows.text_to_image import text_to_image
    from sfumato.flows.walk import Walk
    from sfumato.train.scenes import to_images

    parts.to(parts.device)  # the codec goes where the network is
    shown = scenes.render(min(16, scenes.count)).pictures
    context = Neighbours(data.context(torch.arange(len(shown)), count))
    steer = Steering(guidance=2.0 if count else 1.0, neighbours=context)
    made = text_to_image(parts, [""] * len(shown), seeds=range(len(shown)), steer=steer, walk=Walk(steps=15))
    return grid(torch.cat([to_images(shown), made.cpu()]), columns=len(shown))
