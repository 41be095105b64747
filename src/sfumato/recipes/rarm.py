"""Train the autoregressive twin of the retrieval-augmented model: codes of pictures, one after the other.

    loss = -(1 / n) * sum over i of log p(s_i | s_<i, C),  C = embeddings of the k nearest entries of D to the picture

Codec and picture encoder are locked; codes and neighbours are computed once, more of these than are used. With some
pictures C is zeros, the null that guidance starts from. ``--neighbours 0`` trains the same network without a memory.

Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.2.
    Differs from the paper: its null was never trained (``--zeros 0``).
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.train.config import MemoryFitConfig, check_least, check_width, flag

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from sfumato.core.noise import Noise
    from sfumato.networks.codes import CodeCodec
    from sfumato.networks.rarm import Rarm

__all__ = ["Config", "build", "main", "measure"]

_LOOK = 8


@dataclass(frozen=True, kw_only=True)
class Config(MemoryFitConfig):
    """Settings of the autoregressive network's training.

    Raises:
        ValueError: a number outside its range, at construction.
    """

    output_dir: Path = flag(Path("runs/rarm"), "folder of the run; the checkpoint is saved in its subfolder")
    max_train_steps: int = flag(20000, "optimiser steps in all")
    learning_rate: float = flag(5e-4, "highest learning rate")
    lr_warmup_steps: int = flag(300, "steps of linear rise to the highest learning rate")
    adam_beta2: float = flag(0.95, "AdamW decay of the squared gradient")
    zeros: float = flag(0.1, "share of pictures whose context is zeros, which trains the null of guidance")
    base: str = flag("emoji", "checkpoint, or folder of a CLIP, whose picture encoder is used")
    vq: Path = flag(Path("runs/vq/vq"), "folder of the trained quantised codec")
    width: int = flag(192, "width of the transformer")
    layers: int = flag(6, "layers of the transformer")
    heads: int = flag(6, "heads of an attention")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.zeros <= 1:
            raise ValueError(f"zeros must lie in [0, 1], got {self.zeros}")
        check_least(self, 1, "layers", "heads")
        check_width(self.width, self.heads)


def build(config: Config, codec: CodeCodec, context_width: int) -> Rarm:
    """A new network for the codes of a codec.

    Args:
        config: gives its size.
        codec: gives the codes.
        context_width: length of a neighbour's vector.
    """
    from sfumato.networks.rarm import Rarm

    return Rarm(codec.count, codec.side**2, context_width, config.width, config.layers, config.heads)


def measure(network: Rarm, codes: Tensor, context: Tensor, batch: int = 64) -> dict[str, float]:
    """What the neighbours tell a network: mean -log p of a code in nats.

    Args:
        network: in evaluation mode.
        codes: (N, n) int64 of pictures that it did not learn, N >= 2.
        context: C (N, k, D) of their neighbours; zeros where there is no memory.
        batch: pictures at a time.

    Returns:
        Figures under their own neighbours, those of another picture, and none; without a memory the last alone.
    """
    import torch

    from sfumato.networks.rarm import log_likelihood

    told = {"no neighbours": torch.zeros_like(context)}
    if bool(context.any()):
        told = {"their own neighbours": context, "another's neighbours": context.roll(1, 0), **told}
    figures: dict[str, float] = {}
    with torch.no_grad():
        for name, each in told.items():
            pairs = zip(codes.split(batch), each.split(batch), strict=True)
            likely = torch.cat([log_likelihood(network, part, under) for part, under in pairs])
            figures[f"nats a code on held-out scenes, under {name}"] = round(-float(likely.mean()) / codes.shape[1], 4)
    return figures


def main(config: Config) -> None:
    """Train, and save the whole checkpoint as ``output_dir/rarm-STEPS`` with its model card."""
    import torch

    from sfumato.checkpoints.joint import load_joint
    from sfumato.checkpoints.neighbours import save_training_vectors
    from sfumato.checkpoints.rarm import RarmParts, save_rarm
    from sfumato.core.sheet import grid
    from sfumato.encoders.joint import embedded_tokens
    from sfumato.flows.rarm import rarm
    from sfumato.networks.rarm import log_likelihood
    from sfumato.train.card import write_card
    from sfumato.train.device import device_of
    from sfumato.train.fit import fit
    from sfumato.train.locked import digest, locked_vq
    from sfumato.train.order import Order
    from sfumato.train.resume import check_start
    from sfumato.train.retrieved import prepare_run

    check_start(config)
    codec, encoder, folder = locked_vq(config.vq), load_joint(config.base), config.output_dir
    _, data, others = prepare_run(config, codec.encode, encoder, digest(config.vq))
    tokens = replace(embedded_tokens(encoder.width), alone=True)
    vectors = others.context(torch.arange(config.held_out), config.neighbours)
    order = Order(config.scenes, config.train_batch_size, config.seed)
    torch.manual_seed(config.seed)
    network = build(config, codec, encoder.width)

    def loss(module: Any, indices: Tensor, noise: Noise) -> dict[str, Tensor]:
        under, there = data.tokens(indices, config.neighbours, tokens, config.zeros, noise), device_of(module)
        likely = log_likelihood(module, data.learned[indices].to(there), under.to(there))
        return {"loss": -likely.mean() / data.learned.shape[1]}

    def look(module: Any) -> Image.Image:
        """Held-out pictures as their codes show them, and below each what its neighbours alone lead to."""
        parts, seeds = RarmParts(module, codec, tokens), range(len(vectors[:_LOOK]))
        scales = (1.0, 2.0) if config.neighbours else (1.0,)
        drawn = [rarm(parts, vectors[:_LOOK], seeds=seeds, guidance=scale) for scale in scales]
        return grid(torch.cat([codec.decode(others.learned[:_LOOK]), *drawn]), columns=len(seeds))

    report = fit(network, loss, order.indices, config, sample=look)
    network.cpu()
    target = folder / f"rarm-{report.steps:08d}"
    save_rarm(RarmParts(network, codec, tokens), target)
    _keep_encoder(config, target / "encoder")
    save_training_vectors(target, data.vectors)
    write_card(target, "rarm", config, report, measure(network, others.learned, tokens(vectors)), data=data.key)


def _keep_encoder(config: Config, target: Path) -> None:
    """Put what ``load_joint`` reads of the base into a folder."""
    from sfumato.checkpoints.load import folder_of
    from sfumato.checkpoints.safety import read_json
    from sfumato.train.embedded import keep_encoders

    base = folder_of(config.base)
    if target.resolve() == base.resolve():
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    if (base / "model_index.json").is_file():
        keep_encoders(base, target)
        index = {part: kind for part, kind in read_json(base / "model_index.json").items() if (target / part).is_dir()}
        (target / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
        return
    for file in base.iterdir():
        if file.suffix in (".json", ".txt", ".safetensors"):
            shutil.copy(file, target)
