"""Checkpoints of the embedded kind: their network, their levels, the parts round it, and how they are saved."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from sfumato.checkpoints.load import folder_of, load
from sfumato.checkpoints.neighbours import save_neighbour_tokens, save_training_vectors
from sfumato.checkpoints.parts import Parts
from sfumato.checkpoints.save import save
from sfumato.core.model import DenoisingModel
from sfumato.encoders.joint import NeighbourTokens
from sfumato.networks.unet import UNetNetwork
from sfumato.samplers.schedule import prediction_of, schedule_of
from sfumato.train.card import CARD, former_runs, write_card
from sfumato.train.config import FitConfig
from sfumato.train.fit import FitReport
from sfumato.train.locked import Locked

__all__ = ["SCHEDULER", "Shipped", "begin_unet", "build_unet", "keep_encoders", "parts_around", "ship"]

SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "set_alpha_to_one": True,
    "clip_sample": False,
    "steps_offset": 0,
}
"""Written beside the weights; diffusers and we read the levels from it."""


@dataclass(frozen=True, eq=False)
class Shipped:
    """What a checkpoint says of its training beside its weights.

    Args:
        recipe: name of the recipe.
        data: hash of the training data.
        tokens: how it takes neighbours in.
        vectors: (N, D) embeddings of its training pictures, of which a sample is kept.
        scores: name -> figure, measured on held-out scenes.
        former: the runs whose weights it began with, as :func:`sfumato.train.card.former_runs` tells them.
    """

    recipe: str
    data: str
    tokens: NeighbourTokens
    vectors: Tensor
    scores: Mapping[str, str]
    former: Sequence[Mapping[str, Any]] = ()


def build_unet(width: int, channels: int, context: int) -> nn.Module:
    """A new ``UNet2DConditionModel`` on 16 x 16 latents, with self- and cross-attention at 8 and 4.

    Args:
        width: channels at 16 x 16; three times as many at 8 x 8, six times at 4 x 4; a multiple of 8.
        channels: of the latents.
        context: width of a context token.
    """
    widths = (width, 3 * width, 6 * width)
    settings: dict[str, Any] = {
        "sample_size": 16,
        "in_channels": channels,
        "out_channels": channels,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": widths,
        "layers_per_block": 1,
        "cross_attention_dim": context,
        "attention_head_dim": tuple(map(_heads, widths)),  # diffusers' name for the number of heads
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**settings)


def begin_unet(locked: Locked, width: int, initial: str = "") -> tuple[Any, list[dict[str, Any]]]:
    """The U-Net that a recipe trains, which fits the locked parts: a new one, or with the weights of a checkpoint.

    Args:
        locked: its codec says how many channels latents have, its picture encoder how wide a context token is.
        width: as in :func:`build_unet`.
        initial: a checkpoint, "emoji" or a folder; empty for new weights.

    Returns:
        the U-Net, and the runs that made its weights, as :func:`sfumato.train.card.former_runs` tells them.

    Raises:
        ValueError: the checkpoint's U-Net is another network.
        CheckpointError: there is no such checkpoint, or it cannot be read.
    """
    unet = build_unet(width, locked.codec.shape(64, 64)[0], locked.pictures.width)
    if not initial:
        return unet, []
    begun = load(initial)
    other = begun.network.unet
    sizes, others = ({name: value.shape for name, value in each.state_dict().items()} for each in (unet, other))
    if sizes != others:
        raise ValueError(
            f"initial: the U-Net of {initial} is not one of width {width} for this codec and these encoders"
        )
    apart = [name for name, value in _settings(unet).items() if _settings(other)[name] != value]
    if apart or begun.network.prediction != prediction_of(SCHEDULER):
        said = ", ".join(apart) or "prediction_type"
        raise ValueError(f"initial: the U-Net of {initial} computes in another way than this recipe's: {said}")
    unet.load_state_dict(other.state_dict())
    return unet, former_runs(folder_of(initial))


def _settings(unet: Any) -> dict[str, str]:
    """What a U-Net computes by, apart from its weights, in the words of its config.json."""
    own = {name: value for name, value in unet.config.items() if not name.startswith("_")}
    return {name: json.dumps(value) for name, value in own.items() if name != "sample_size"}


def _heads(channels: int) -> int:
    """The most heads that divide the channels into equal parts of at least 32."""
    return next(heads for heads in range(max(1, channels // 32), 0, -1) if channels % heads == 0)


def parts_around(unet: Any, locked: Locked, tokens: NeighbourTokens) -> Parts:
    """A whole checkpoint from a U-Net, the locked parts, and how neighbours are taken in."""
    model = DenoisingModel(UNetNetwork(unet, prediction_of(SCHEDULER)), schedule_of(SCHEDULER))
    return Parts(model, locked.codec, locked.text, SCHEDULER, (64, 64), "emoji", tokens)


def ship(config: FitConfig, target: Path, parts: Parts, locked: Locked, report: FitReport, told: Shipped) -> Path:
    """Save the checkpoint in half precision and files of at most 15 MB, with the picture encoder and the cards.

    Args:
        config: of the recipe.
        target: its folder; a former one is replaced.
        parts: what was trained.
        locked: has the picture encoder, and knows where the cards of the locked parts are.
        report: of the training.
        told: what it says of itself.
    """
    shutil.rmtree(target, ignore_errors=True)
    save(parts, target, dtype=torch.float16, shard_size="14MB")
    locked.pictures.module.half().save_pretrained(target / "pictures", max_shard_size="14MB")
    for part, folder in (("vae", locked.codec_folder), ("pictures", locked.pictures_folder)):
        for card in (each for each in CARD if (folder / each).is_file()):
            shutil.copy(folder / card, target / part)
    index = json.loads((target / "model_index.json").read_text())
    index["pictures"] = ["transformers", "CLIPVisionModelWithProjection"]
    (target / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    save_neighbour_tokens(target, told.tokens)
    save_training_vectors(target, told.vectors)
    write_card(target, told.recipe, config, report, told.scores, data=told.data, former=told.former)
    return target


def keep_encoders(base: Path, target: Path) -> None:
    """Put the text and picture encoders of one checkpoint, as they are, into another that was trained on them.

    Their files are then the same, and with them the fingerprint by which memories know their encoder.
    """
    for part in ("text_encoder", "tokenizer", "pictures"):
        shutil.rmtree(target / part, ignore_errors=True)
        shutil.copytree(base / part, target / part)
