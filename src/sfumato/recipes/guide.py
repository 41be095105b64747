"""Train the guide: one network that reads noisy latents, with a head for each list of labels and one for sentences.

With x = alpha * x0 + sigma * noise at uniform times of the denoiser's schedule,

loss = contrastive(sentence(x, level), caption) + sum over lists of cross-entropy(p(word | x, level), label).

Text encoder and codec are locked; latents, caption vectors and labels are computed once and kept in the run's folder. A
scene that has no word of a list (a pair has no one concept, a rainbow no one colour) adds nothing to that list's loss.

Paper: Diffusion Models Beat GANs on Image Synthesis (Dhariwal & Nichol, 2021), arXiv:2105.05233, section 4 and appendix
    H; noised CLIP: GLIDE (Nichol et al., 2021), arXiv:2112.10741, equation 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sfumato.train.config import SceneFitConfig, check_width, flag

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.level import Level
    from sfumato.core.noise import Noise
    from sfumato.networks.guide import Guide
    from sfumato.train.labelled import LabelledSet

__all__ = ["Config", "build", "label_loss", "main", "measure"]

_RATIOS = (0.0, 0.5, 1.0, 2.0, 5.0)
_HELD_OUT, _OF = 1024, 512


@dataclass(frozen=True, kw_only=True)
class Config(SceneFitConfig):
    """Settings of the guide's training.

    Raises:
        ValueError: a number outside its range, at construction.
    """

    output_dir: Path = flag(Path("runs/guide"), "folder of the run; the guide is saved in its subfolder")
    max_train_steps: int = flag(5000, "optimiser steps in all")
    train_batch_size: int = flag(128, "images a forward pass")
    optimizer: Literal["adamw", "muon"] = flag("muon", "muon moves weight matrices by Muon and the rest by AdamW")
    learning_rate: float = flag(2e-3, "highest learning rate")
    lr_warmup_steps: int = flag(150, "steps of linear rise to the highest learning rate")
    lr_cooldown_steps: int = flag(1500, "steps of linear fall to zero at the end of the run")
    weight_decay: float = flag(0.05, "decoupled weight decay")
    ema_decay: float = flag(0.998, "decay of the averaged weights, the ones that are kept; 0 for no average")
    mixed_precision: Literal["no", "bf16"] = flag("bf16", "bf16 runs the forward pass under autocast")
    text: Path = flag(Path("runs/emoji"), "folder with the locked text_encoder and tokenizer")
    codec: Path = flag(Path("runs/codec/vae"), "folder of the trained codec")
    width: int = flag(64, "channels at 16 x 16; twice as many at 8 x 8, four times at 4 x 4; a multiple of 16")
    scenes: int = flag(40000, "training scenes")
    recoloured: float = flag(0.35, "weight of scenes of one thing in a named colour")
    pairs: float = flag(0.15, "weight of scenes of two things")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_width(self.width, 16)


def build(config: Config, words: Mapping[str, Sequence[str]], channels: int, sentence_width: int) -> Guide:
    """A new guide of 16 x 16 latents, with self-attention at 8 and 4.

    Args:
        config: gives the width.
        words: the lists of words, by name.
        channels: of the latents.
        sentence_width: of the text encoder's sentences.
    """
    from sfumato.networks.guide import Guide

    return Guide(
        words={name: list(listed) for name, listed in words.items()},
        sentence_width=sentence_width,
        in_channels=channels,
        block_out_channels=(config.width, 2 * config.width, 4 * config.width),
    )


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, to which images without a label add nothing.

    Args:
        logits: (B, words).
        labels: (B,) places of words; ``UNKNOWN`` for none.

    Returns:
        () the sum over labelled images, divided by B; 0 where no image has a label.
    """
    import torch.nn.functional as F

    from sfumato.train.labelled import UNKNOWN

    return F.cross_entropy(logits, labels, ignore_index=UNKNOWN, reduction="sum") / len(labels)


def measure(guide: Guide, data: LabelledSet, level: Level) -> dict[str, float]:
    """How often a guide is right about noisy latents.

    Args:
        guide: in evaluation mode.
        data: scenes that it was not trained on; the noise of each is the same at every level.
        level: shape ().

    Returns:
        Shares in [0, 1]: "LIST top-1", for concepts also top-5, of the scenes with a label; and own captions among the
        nearest one and five of 512.
    """
    import torch

    from sfumato.core.noise import Noise
    from sfumato.core.predict import noised
    from sfumato.recipes.pictures_words import retrieval_at

    x0 = data.latents.float()
    x = noised(x0, Noise(range(len(x0))).like(x0), level)
    with torch.no_grad():
        readings = [guide(part, level) for part in x.split(_OF)]
    shares: dict[str, float] = {}
    for name, labels in data.labels.items():
        logits = torch.cat([reading.logits[name] for reading in readings])
        for count in (1, 5) if name == "concept" else (1,):
            shares[f"{name} top-{count}"] = _right(logits, labels, count)
    for count in (1, 5):
        found = [
            retrieval_at(reading.sentence, own, count)
            for reading, own in zip(readings, data.sentences.split(_OF), strict=True)
        ]
        shares[f"own caption among the nearest {count} of {_OF}"] = sum(found) / len(found)
    return shares


def _right(logits: Tensor, labels: Tensor, count: int) -> float:
    """Share of the labelled rows whose label is among the ``count`` likeliest; NaN without a label."""
    labelled = labels >= 0
    likeliest = logits[labelled].topk(count, dim=1).indices
    return float((likeliest == labels[labelled, None]).any(1).float().mean())


def main(config: Config) -> None:
    """Train, and save the guide as ``output_dir/guide`` with its model card."""
    import torch

    from sfumato.core.predict import noised
    from sfumato.recipes.pictures_words import contrastive_loss
    from sfumato.samplers.schedule import schedule_of
    from sfumato.train.card import write_card
    from sfumato.train.device import device_of
    from sfumato.train.embedded import SCHEDULER
    from sfumato.train.fit import fit
    from sfumato.train.labelled import prepare_labelled, word_lists
    from sfumato.train.locked import TextAndCodec
    from sfumato.train.order import Order
    from sfumato.train.resume import check_start
    from sfumato.train.scenes import SceneStream
    from sfumato.world.sources import open_world

    check_start(config)
    locked, world = TextAndCodec.load(config.text, config.codec), open_world(config.world or None)
    folder, seed = config.output_dir, config.seed
    scenes = SceneStream(world, seed, config.scenes, config.scene_config())
    data, held_out = (prepare_labelled(locked, each, folder) for each in (scenes, scenes.held_out(_HELD_OUT)))
    schedule = schedule_of(SCHEDULER)
    order = Order(config.scenes, config.train_batch_size, seed)
    torch.manual_seed(seed)
    guide = build(config, word_lists(world), data.latents.shape[1], data.sentences.shape[1])

    def loss(module: Any, indices: Tensor, noise: Noise) -> dict[str, Tensor]:
        x0 = data.latents[indices].to(device_of(module), torch.float32)
        level = schedule.draw(len(indices), noise)
        reading = module(noised(x0, noise.like(x0), level), level)
        scale = module.logit_scale.exp()
        right = {name: labels[indices].to(x0.device) for name, labels in data.labels.items()}
        losses = {
            "sentence": contrastive_loss(reading.sentence, data.sentences[indices].to(x0), scale),
            **{name: label_loss(reading.logits[name], labels) for name, labels in right.items()},
        }
        return {"loss": torch.stack([*losses.values()]).sum(), **losses, "scale": scale.detach()}

    report = fit(guide, loss, order.indices, config)
    guide.cpu()
    levels = [schedule.at_ratio(torch.tensor(ratio)) if ratio else schedule.end for ratio in _RATIOS]
    shares = [measure(guide, held_out, level) for level in levels]
    at = f"held-out scenes at sigma/alpha {', '.join(f'{ratio:g}' for ratio in _RATIOS)}"
    scores = {f"{name}, {at}": ", ".join(f"{each[name]:.3f}" for each in shares) for name in shares[0]}
    guide.half().save_pretrained(folder / "guide", max_shard_size="14MB")
    write_card(folder / "guide", "guide", config, report, scores, data=data.key)
