"""Loading what embeds pictures and words in one space.

    a checkpoint of ours     with the part ``pictures``, see ``load``; "emoji" is one
    a CLIP                   config.json, model*.safetensors, vocabulary, preprocessor_config.json, as transformers
                             writes ``CLIPModel`` and ``CLIPProcessor``

Nothing needs the network; see ``sfumato.checkpoints.safety`` for what is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, cast

import torch

from sfumato.checkpoints.load import folder_of, load_pictures, load_text
from sfumato.checkpoints.safety import CheckpointError, read_json
from sfumato.checkpoints.weights import Header, fill, read_headers
from sfumato.durable import digest_of_file
from sfumato.encoders.clip import ClipPair, ClipPixels, of_clip
from sfumato.encoders.joint import JointEncoder, of_minilm

__all__ = ["load_joint"]

_INDEX = "model_index.json"
_VOCABULARIES = ("tokenizer.json", "vocab.json")
_SETTINGS = (
    *("config.json", "processor_config.json", "preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "vocab.txt"),
)


def load_joint(name_or_path: str | Path, dtype: torch.dtype | None = None) -> JointEncoder:
    """Load an encoder of pictures and words.

    Its fingerprint is a hash of all that is read of it, weights as a whole, and of nothing else: another place, another
    U-Net or another model card leave it as it is.

    Args:
        name_or_path: "emoji"; a checkpoint's folder with the part ``pictures``; or the folder of a CLIP.
        dtype: of the weights; None: float32.

    Returns:
        the encoder, locked and in evaluation mode, on the CPU.

    Raises:
        CheckpointError: no such folder, one that is neither, or one that is broken, unsafe or of an unknown kind.
    """
    folder = folder_of(name_or_path)
    if not (folder / _INDEX).is_file():
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"{folder.resolve().name} embeds no pictures and words: it has neither the {_INDEX} of a checkpoint "
                "nor the config.json of a CLIP"
            )
        return _clip(folder.resolve(), dtype or torch.float32)
    return _checkpoint(name_or_path, folder.resolve(), dtype)


def _checkpoint(name_or_path: str | Path, folder: Path, dtype: torch.dtype | None) -> JointEncoder:
    pictures = load_pictures(name_or_path, dtype)
    if pictures is None:
        raise CheckpointError(f"the checkpoint {folder.name} has no part pictures; give the folder of a CLIP instead")
    text = load_text(name_or_path, dtype)
    for module in (pictures.module, *(encoder.module for encoder in text.encoders)):
        module.requires_grad_(False)
    modules = [folder / name for name in ("pictures", "text_encoder", "text_encoder_2") if (folder / name).is_dir()]
    weights = [file for part in modules for file in _weights(read_headers(part, "model"))]
    settings = [file for part in (*modules, folder / "tokenizer", folder / "tokenizer_2") for file in _settings(part)]
    try:
        return of_minilm(text, pictures, folder.name, _fingerprint(folder, [*weights, *settings]))
    except ValueError as error:
        raise CheckpointError(f"the parts of {folder.name} do not belong together: {error}") from error


def _clip(folder: Path, dtype: torch.dtype) -> JointEncoder:
    config = read_json(folder / "config.json")
    if config.get("model_type") != "clip":
        raise CheckpointError(f"{folder.name} is of the kind {config.get('model_type')!r}; known is 'clip'")
    header = read_headers(folder, "model")
    module = _filled(folder, config, header, dtype)
    pixels = _pixels(folder, module.config.vision_config.image_size)
    tokenizer = _tokenizer(folder)
    try:
        pair = ClipPair(module.requires_grad_(False), tokenizer, pixels)
    except Exception as error:  # tokenizers raises plain exceptions
        raise CheckpointError(f"the parts of {folder.name} do not belong together: {_said(error)}") from error
    return of_clip(pair, folder.name, _fingerprint(folder, [*_weights(header), *_settings(folder)]))


def _filled(folder: Path, config: dict[str, Any], header: Header, dtype: torch.dtype) -> Any:
    from transformers.models.clip.configuration_clip import CLIPConfig
    from transformers.models.clip.modeling_clip import CLIPModel

    def build() -> Any:
        settings: Any = CLIPConfig.from_dict(config)
        settings._attn_implementation = "sdpa"  # a file may name another, even one to be fetched
        return CLIPModel(settings)

    return fill(build, config, header, dtype, folder.name, "CLIP")


def _tokenizer(folder: Path) -> Any:
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise CheckpointError(f"{folder.name} has no vocabulary: {' and '.join(_VOCABULARIES)} are missing")
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises plain exceptions
        raise CheckpointError(f"the tokenizer of {folder.name} cannot be read: {_said(error)}") from error


def _pixels(folder: Path, side: int) -> ClipPixels:
    """What a folder says of its pictures; what it does not say is as CLIP's are."""
    table, clips = _processor(folder), ClipPixels(side, side)
    if not table.get("do_normalize", True):
        table = {**table, "image_mean": [0, 0, 0], "image_std": [1, 1, 1]}
    try:
        return ClipPixels(
            side=_square(table.get("crop_size", side)),
            edge=_edge(table.get("size", side), side),
            mean=_colour(table.get("image_mean", clips.mean)),
            std=_colour(table.get("image_std", clips.std)),
            kind=_filter(table.get("resample", 3)),
        )
    except (ValueError, OverflowError) as error:
        raise CheckpointError(f"the settings of {folder.name} for pictures cannot be used: {error}") from error


def _processor(folder: Path) -> dict[str, Any]:
    """The settings for pictures; as in transformers, those among the processor's count before those by themselves."""
    whole, own = folder / "processor_config.json", folder / "preprocessor_config.json"
    nested = read_json(whole).get("image_processor") if whole.is_file() else None
    if isinstance(nested, dict):
        return cast(dict[str, Any], nested)
    return read_json(own) if own.is_file() else {}


def _edge(size: Any, side: int) -> int | None:
    """Length of the shorter side after resizing; None: pressed into the network's square."""
    if isinstance(size, dict) and "shortest_edge" not in size:
        if _square(cast(object, size)) != side:
            raise ValueError(f"pictures are pressed to the size {size}, and the network sees {side}")
        return None
    return _square(cast(dict[str, Any], size)["shortest_edge"] if isinstance(size, dict) else size)


def _square(size: Any) -> int:
    table = cast(dict[str, Any], size) if isinstance(size, dict) else {"height": size, "width": size}
    height, width = table.get("height"), table.get("width")
    if type(height) is not int or height != width:
        raise ValueError(f"{size} is no size of a square")
    return height


def _colour(values: Any) -> tuple[float, float, float]:
    listed = cast(list[Any], values if isinstance(values, (list, tuple)) else [])
    if [type(value) in (int, float) for value in listed] != [True] * 3:
        raise ValueError(f"{values} is no value for each of red, green and blue")
    red, green, blue = map(float, listed)
    return red, green, blue


def _filter(resample: Any) -> Literal["bilinear", "bicubic"]:
    """By Pillow's numbers, of which only these can be differentiated."""
    if resample not in (2, 3):
        raise ValueError(f"pictures are resized by the filter {resample}; known are 2 (bilinear) and 3 (bicubic)")
    return "bilinear" if resample == 2 else "bicubic"


def _said(error: Exception) -> str:
    """What a library says of a fault, in one line: some say it in many, with a trace of the stack."""
    return " ".join(str(error).split())[:300]


def _weights(header: Header) -> set[Path]:
    return {path for path, _ in header.values()}


def _settings(folder: Path) -> list[Path]:
    return [folder / name for name in _SETTINGS if (folder / name).is_file()]


def _fingerprint(folder: Path, files: Iterable[Path]) -> str:
    """16 hexadecimal digits over the names of files in their folder and all that is in them."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{digest_of_file(file)}\0".encode())
    return digest.hexdigest()[:16]
