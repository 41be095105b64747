"""Train the pictures-and-words encoder: a small vision transformer into the locked text encoder's sentence space.

With unit vectors z of the pictures and t of their captions, and scale s = exp(tau) <= 100,

loss = mean of both directions of cross-entropy(s * z t', diagonal).

Scenes and the vectors of their captions are computed once and kept in the run's folder, 14 KB a scene.

Paper: Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021), arXiv:2103.00020,
    figure 3; LiT (Zhai et al., 2022), arXiv:2111.07991. Differs from the papers: the text side is the locked one, and
    pictures with the same caption in a batch are all right answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sfumato.train.config import FitConfig, check_least, check_width, flag

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sfumato.core.noise import Noise

__all__ = ["Captioned", "Config", "build", "contrastive_loss", "main", "prepare_captioned", "retrieval_at"]

_HELD_OUT = 512
_HEAD = 64
"""Channels of a head of the vision transformer."""
_PATCHES = (4, 8, 16, 32)
"""Sides that a picture of 64 pixels can be cut into."""


@dataclass(frozen=True, kw_only=True)
class Config(FitConfig):
    """Settings of the pictures-and-words encoder's training.

    Raises:
        ValueError: a number outside its range, at construction.
    """

    output_dir: Path = flag(Path("runs/pictures_words"), "folder of the run; the encoder is saved in its subfolder")
    max_train_steps: int = flag(2400, "optimiser steps in all")
    train_batch_size: int = flag(128, "images a forward pass")
    optimizer: Literal["adamw", "muon"] = flag("muon", "muon moves weight matrices by Muon and the rest by AdamW")
    learning_rate: float = flag(2e-3, "highest learning rate")
    lr_cooldown_steps: int = flag(600, "steps of linear fall to zero at the end of the run")
    weight_decay: float = flag(0.05, "decoupled weight decay")
    ema_decay: float = flag(0.99, "decay of the averaged weights, the ones that are kept; 0 for no average")
    sample_steps: int = flag(1000, "steps between sample pictures")
    text: Path = flag(Path("runs/emoji"), "folder with the locked text_encoder and tokenizer")
    hidden: int = flag(192, "width of the vision transformer")
    layers: int = flag(6, "layers of the vision transformer")
    patch: int = flag(8, "side of a patch, in pixels")
    disturbance: float = flag(0.1, "largest standard deviation of noise added to training pictures, in [-1, 1] units")
    scenes: int = flag(48000, "training scenes")
    world: str = flag("", "cache of the emoji world; empty for the default place, 'sample' for the one in the package")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_width(self.hidden, _HEAD, "hidden")
        check_least(self, 1, "scenes", "layers")
        if self.patch not in _PATCHES:
            raise ValueError(f"patch must be one of {', '.join(map(str, _PATCHES))}, got {self.patch}")


@dataclass(frozen=True, eq=False)
class Captioned:
    """Pictures and the vectors of their captions.

    Args:
        pictures: uint8 (N, 64, 64, 3).
        texts: (N, D) unit vectors.
    """

    pictures: Tensor
    texts: Tensor


def prepare_captioned(config: Config) -> tuple[Captioned, Captioned, str]:
    """The scenes of a run, computed once and kept in its folder as ``captioned-KEY.safetensors``.

    Returns:
        those that are learned, those that are held out, and the key: hash of all that they follow from.

    Raises:
        FileNotFoundError: there is no text encoder; the sentence names what makes it.
    """
    from sfumato.encoders.image import sentences
    from sfumato.train.locked import digest, locked_text
    from sfumato.train.prepare import cached
    from sfumato.train.scenes import SceneStream
    from sfumato.world.scene import SceneConfig
    from sfumato.world.sources import open_world

    world, text = open_world(config.world or None), locked_text(config.text)
    learned = SceneStream(world, config.seed, config.scenes, SceneConfig())
    wanted = {"learned": learned, "held_out": learned.held_out(_HELD_OUT)}

    def compute() -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, stream in wanted.items():
            scenes = stream.render()
            found[f"{name}.pictures"] = scenes.pictures
            found[f"{name}.texts"] = sentences(text, scenes.captions)
        return found

    words = digest(config.text / "text_encoder", config.text / "tokenizer")
    found, key = cached(config.output_dir, "captioned", (*wanted["held_out"].facts, words), compute)
    ours, others = (Captioned(found[f"{name}.pictures"], found[f"{name}.texts"]) for name in wanted)
    return ours, others, key


def build(config: Config, width: int) -> nn.Module:
    """A new picture encoder into ``width`` dimensions, with its learned scale as ``logit_scale``."""
    import math

    import torch
    from torch import nn
    from transformers.models.clip.modeling_clip import CLIPVisionConfig, CLIPVisionModelWithProjection

    module = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=config.hidden,
            intermediate_size=4 * config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.hidden // _HEAD,
            image_size=64,
            patch_size=config.patch,
            projection_dim=width,
            hidden_act="gelu",
        )
    )
    module.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    return module


def contrastive_loss(pictures: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """The symmetric contrastive loss; equal texts in a batch share the right answer.

    Args:
        pictures: (B, D) unit vectors, float32; compared in float32 also under autocast.
        texts: (B, D) unit vectors, float32.
        scale: () positive; clipped at 100.

    Returns:
        () loss; log B when nothing is told apart.
    """
    import torch
    import torch.nn.functional as F

    with torch.autocast(pictures.device.type, enabled=False):
        logits = scale.clamp(max=100) * pictures @ texts.T
        same = (texts @ texts.T > 1 - 1e-4).to(logits)
    wanted = same / same.sum(1, keepdim=True)
    return 0.5 * (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted))


def retrieval_at(pictures: Tensor, texts: Tensor, count: int) -> float:
    """Share of pictures (N, D) whose own text is among the ``count`` nearest of the N texts (N, D)."""
    cosine = pictures @ texts.T
    own = (pictures * texts).sum(1, keepdim=True)
    return float(((cosine > own + 1e-6).sum(1) < count).float().mean())


def main(config: Config) -> None:
    """Train, and save the encoder as ``output_dir/pictures`` with its model card."""
    import torch

    from sfumato.core.sheet import grid
    from sfumato.encoders.image import PictureEncoder
    from sfumato.train.card import write_card
    from sfumato.train.device import device_of
    from sfumato.train.fit import fit
    from sfumato.train.order import Order
    from sfumato.train.resume import check_start
    from sfumato.train.scenes import to_images

    check_start(config)
    learned, held_out, key = prepare_captioned(config)
    order = Order(config.scenes, config.train_batch_size, config.seed)
    torch.manual_seed(config.seed)
    module: Any = build(config, learned.texts.shape[1])

    def loss(encoder: Any, indices: Tensor, noise: Noise) -> dict[str, Tensor]:
        images = to_images(learned.pictures[indices]).to(device_of(encoder))
        strength = config.disturbance * noise.uniform((len(images), 1, 1, 1)).to(images)
        embedded = encoder(images + strength * noise.like(images)).image_embeds.float()
        pictures = torch.nn.functional.normalize(embedded, dim=-1)
        scale = encoder.logit_scale.exp()
        return {"loss": contrastive_loss(pictures, learned.texts[indices].to(pictures), scale), "scale": scale.detach()}

    def found(encoder: Any) -> Any:
        """Held-out pictures, each beside the one nearest to its caption."""
        images = to_images(held_out.pictures)
        there = images.to(device_of(encoder))
        nearest = (held_out.texts[:32] @ PictureEncoder(encoder)(there).cpu().T).argmax(1)
        return grid(torch.stack([images[:32], images[nearest]], 1).flatten(0, 1), columns=16)

    report = fit(module, loss, order.indices, config, sample=found)
    module.cpu()
    with torch.no_grad():
        vectors = PictureEncoder(module)(to_images(held_out.pictures))
    scores = {
        f"own caption among the nearest {count} of {_HELD_OUT}, held-out scenes": round(
            retrieval_at(vectors, held_out.texts, count), 3
        )
        for count in (1, 5)
    }
    del module.logit_scale
    module.save_pretrained(config.output_dir / "pictures")
    write_card(config.output_dir / "pictures", "pictures_words", config, report, scores, data=key)
