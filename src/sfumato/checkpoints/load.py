"""Loading checkpoints in diffusers' folder layout: Stable Diffusion 1.x and 2.x, SDXL, and the embedded model.

    model_index.json     which part is of which class
    unet/  vae/          config.json, diffusion_pytorch_model*.safetensors
    text_encoder*/       config.json, model*.safetensors
    tokenizer*/          vocabulary
    scheduler/           scheduler_config.json
    guide/               config.json, diffusion_pytorch_model*.safetensors; ours, and no part of model_index.json
    neighbours.json      how it takes vectors of pictures in; ours, see ``neighbours``

All go through one code path. Parts that sampling does not need (safety checker, picture encoder) are left alone.
Nothing needs the network; see ``sfumato.checkpoints.safety`` for what is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import nn

from sfumato.checkpoints.neighbours import load_neighbour_tokens
from sfumato.checkpoints.parts import Parts
from sfumato.checkpoints.safety import CheckpointError, read_json
from sfumato.checkpoints.weights import Header, fill, read_headers
from sfumato.core.codec import LatentCodec
from sfumato.core.model import DenoisingModel
from sfumato.encoders.image import PictureEncoder
from sfumato.encoders.text import TextEncoder, TokenEncoder
from sfumato.networks.guide import Guide
from sfumato.networks.unet import UNetNetwork
from sfumato.samplers.schedule import prediction_of, schedule_of

__all__ = ["EMBEDDED", "Parts", "folder_of", "load", "load_guide", "load_pictures", "load_text"]

EMBEDDED: Mapping[str, Path] = MappingProxyType({"emoji": Path(__file__).parent / "emoji"})
"""Checkpoints that come with the package, by name."""


def folder_of(name_or_path: str | Path) -> Path:
    """The folder of a checkpoint.

    Args:
        name_or_path: the name of an embedded one, "emoji", or a folder.

    Raises:
        CheckpointError: there is no such folder.
    """
    folder = EMBEDDED.get(str(name_or_path), Path(name_or_path))
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise CheckpointError(f"{folder.name} is a file; a checkpoint is a folder with a model_index.json")
    hint = f"the embedded ones are {', '.join(EMBEDDED)}"
    if str(name_or_path).count("/") == 1 and not str(name_or_path).startswith((".", "/", "~")):
        hint = "if that is the name of a model on a hub, download its folder first and give the folder's path"
    raise CheckpointError(f"there is no folder {str(name_or_path)!r}; {hint}")


def load(name_or_path: str | Path, dtype: torch.dtype | None = None) -> Parts:
    """Load a checkpoint.

    Args:
        name_or_path: "emoji", the embedded checkpoint; or a folder in diffusers' layout.
        dtype: of the weights, floating-point; None: float32, whatever the files hold. The codec stays float32 in place
            of float16 when the checkpoint says that it overflows.

    Returns:
        its parts, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: no such checkpoint, or one that is broken, unsafe or of an unknown kind.
    """
    folder = folder_of(name_or_path)
    index = read_json(folder / "model_index.json")
    if index.get("_class_name") == "Rarm":
        raise CheckpointError(
            f"the model {folder.name} draws codes and denoises nothing: 'sfumato generate' takes it, and in Python "
            "sfumato.checkpoints.rarm.load_rarm"
        )
    scheduler = read_json(_part(folder, index, "scheduler") / "scheduler_config.json")
    try:
        schedule, prediction = schedule_of(scheduler), prediction_of(scheduler)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the scheduler settings cannot be used: {error}") from error
    wanted = dtype or torch.float32
    unet = _module(folder, index, "unet", wanted)
    vae = _module(folder, index, "vae", wanted)
    _check_scale(vae.config)
    codec = LatentCodec(vae.float() if wanted == torch.float16 and vae.config.force_upcast else vae)
    return Parts(
        model=DenoisingModel(_network(unet, prediction), schedule),
        codec=codec,
        text=_text(folder, index, wanted),
        scheduler=MappingProxyType(scheduler),
        size=_size(unet.config.sample_size, codec.factor),
        name=str(name_or_path) if str(name_or_path) in EMBEDDED else folder.name,
        neighbours=load_neighbour_tokens(folder),
    )


def load_text(name_or_path: str | Path, dtype: torch.dtype | None = None) -> TextEncoder:
    """Load a checkpoint's text encoder alone.

    Args:
        name_or_path: as for :func:`load`.
        dtype: of the weights; None: float32.

    Raises:
        CheckpointError: no such checkpoint, or a part that is broken, unsafe or of an unknown kind.
    """
    folder = folder_of(name_or_path)
    return _text(folder, read_json(folder / "model_index.json"), dtype or torch.float32)


def load_pictures(name_or_path: str | Path, dtype: torch.dtype | None = None) -> PictureEncoder | None:
    """Load the picture encoder that belongs to a checkpoint's text encoder.

    Args:
        name_or_path: as for :func:`load`.
        dtype: of the weights; None: float32.

    Returns:
        the encoder, in evaluation mode; None if the checkpoint has no part ``pictures``.

    Raises:
        CheckpointError: no such checkpoint, or a part that is broken, unsafe or of an unknown kind.
    """
    folder = folder_of(name_or_path)
    index = read_json(folder / "model_index.json")
    if _class_of(index, "pictures") is None:
        return None
    return PictureEncoder(_module(folder, index, "pictures", dtype or torch.float32))


def load_guide(name_or_path: str | Path, dtype: torch.dtype | None = None) -> Guide | None:
    """Load the guide that belongs to a checkpoint's codec and text encoder.

    It is found by its folder: of a part in model_index.json that its pipeline does not know, diffusers warns.

    Args:
        name_or_path: as for :func:`load`.
        dtype: of the weights; None: float32.

    Returns:
        the guide, locked and in evaluation mode; None if the checkpoint has no folder ``guide``.

    Raises:
        CheckpointError: no such checkpoint, or a guide that is broken, unsafe or of an unknown kind.
    """
    path = folder_of(name_or_path) / "guide"
    if not path.is_dir():
        return None
    kind = read_json(path / "config.json").get("_class_name")
    return _filled(path, kind, dtype or torch.float32).requires_grad_(False)


@dataclass(frozen=True)
class _Kind:
    """Where the class of a part is, what its weight files are called, and how it is built from its settings."""

    module: str
    stem: str
    build: Callable[[Any, dict[str, Any], Header], nn.Module]


def _diffusers(kind: Any, config: dict[str, Any], header: Header) -> nn.Module:
    return kind.from_config(config)


def _clip(kind: Any, config: dict[str, Any], header: Header) -> nn.Module:
    return kind(_plain(kind.config_class.from_dict(config)))


def _bert(kind: Any, config: dict[str, Any], header: Header) -> nn.Module:
    settings = _plain(kind.config_class.from_dict(config))
    return kind(settings, add_pooling_layer=any("pooler." in name for name in header))


def _plain(settings: Any) -> Any:
    """Settings with torch's own attention: a file may name another, even one whose code would be fetched."""
    settings._attn_implementation = "sdpa"
    return settings


_DIFFUSERS, _TRANSFORMERS = "diffusion_pytorch_model", "model"
_KINDS: Mapping[str, _Kind] = {
    "UNet2DConditionModel": _Kind("diffusers.models.unets.unet_2d_condition", _DIFFUSERS, _diffusers),
    "AutoencoderKL": _Kind("diffusers.models.autoencoders.autoencoder_kl", _DIFFUSERS, _diffusers),
    "CLIPTextModel": _Kind("transformers.models.clip.modeling_clip", _TRANSFORMERS, _clip),
    "CLIPTextModelWithProjection": _Kind("transformers.models.clip.modeling_clip", _TRANSFORMERS, _clip),
    "CLIPVisionModelWithProjection": _Kind("transformers.models.clip.modeling_clip", _TRANSFORMERS, _clip),
    "BertModel": _Kind("transformers.models.bert.modeling_bert", _TRANSFORMERS, _bert),
    "Guide": _Kind("sfumato.networks.guide", _DIFFUSERS, _diffusers),
}
_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection", "BertModel"),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
    "pictures": ("CLIPVisionModelWithProjection",),
    "guide": ("Guide",),
}


def _class_of(index: Mapping[str, Any], part: str) -> str | None:
    """The class of a part; None if the index has no such part or says that it is empty."""
    entry = index.get(part)
    listed = cast(list[Any], entry) if isinstance(entry, list) else []
    return listed[1] if len(listed) == 2 and isinstance(listed[1], str) else None


def _part(folder: Path, index: Mapping[str, Any], part: str) -> Path:
    if _class_of(index, part) is None:
        raise CheckpointError(f"model_index.json has no {part}, which a text-to-image checkpoint needs")
    if not (folder / part).is_dir():
        raise CheckpointError(f"the part {part}, which model_index.json lists, is missing")
    return folder / part


def _module(folder: Path, index: Mapping[str, Any], part: str, dtype: torch.dtype) -> Any:
    return _filled(_part(folder, index, part), _class_of(index, part), dtype)


def _filled(path: Path, kind: object, dtype: torch.dtype) -> Any:
    """The part in a folder, named as the folder is, of a class that it may have."""
    part = path.name
    if not isinstance(kind, str) or kind not in _ALLOWED[part]:
        raise CheckpointError(f"{part} is of the class {kind!r}; known are {', '.join(_ALLOWED[part])}")
    config = read_json(path / "config.json")
    header = read_headers(path, _KINDS[kind].stem)

    def build() -> nn.Module:
        return _KINDS[kind].build(getattr(import_module(_KINDS[kind].module), kind), config, header)

    return fill(build, config, header, dtype, part, kind)


def _network(unet: Any, prediction: Any) -> UNetNetwork:
    try:
        return UNetNetwork(unet, prediction)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _text(folder: Path, index: Mapping[str, Any], dtype: torch.dtype) -> TextEncoder:
    encoders = [_token_encoder(folder, index, "", dtype)]
    if _class_of(index, "text_encoder_2"):
        encoders.append(_token_encoder(folder, index, "_2", dtype))
    return TextEncoder(tuple(encoders), zero_null=len(encoders) > 1 and _zeros(index))


def _zeros(index: Mapping[str, Any]) -> bool:
    return bool(index.get("force_zeros_for_empty_prompt", True))


def _token_encoder(folder: Path, index: Mapping[str, Any], suffix: str, dtype: torch.dtype) -> TokenEncoder:
    pair = bool(_class_of(index, "text_encoder_2"))
    kind = _class_of(index, f"text_encoder{suffix}")
    return TokenEncoder(
        tokenizer=_tokenizer(_part(folder, index, f"tokenizer{suffix}"), kind == "BertModel"),
        module=_module(folder, index, f"text_encoder{suffix}", dtype),
        layer="penultimate" if pair else "last",
        whole_length=kind != "BertModel",
        pooled=pair and kind == "CLIPTextModelWithProjection",
    )


def _tokenizer(folder: Path, bert: bool) -> Any:
    from transformers.models.bert.tokenization_bert import BertTokenizer
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    kind: Any = BertTokenizer if bert else CLIPTokenizer
    vocabularies = ("tokenizer.json", "vocab.txt" if bert else "vocab.json")
    if not any((folder / name).is_file() for name in vocabularies):
        raise CheckpointError(f"{folder.name} has no vocabulary: {' and '.join(vocabularies)} are missing")
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises plain exceptions
        raise CheckpointError(f"{folder.name} cannot be read: {error}") from error


def _check_scale(config: Any) -> None:
    scale, shift = config.scaling_factor, 0.0 if config.shift_factor is None else config.shift_factor
    if any(type(each) not in (int, float) or not math.isfinite(each) for each in (scale, shift)) or scale <= 0:
        raise CheckpointError(f"vae/config.json scales no latents: scaling_factor {scale!r}, shift_factor {shift!r}")


def _size(sample: Any, factor: int) -> tuple[int, int]:
    sides = cast(list[Any], sample if isinstance(sample, list) else [sample, sample])
    if [type(side) for side in sides] != [int, int] or min(sides) < 1:
        raise CheckpointError(f"unet/config.json gives no size: sample_size is {sample!r}")
    return (sides[0] * factor, sides[1] * factor)
