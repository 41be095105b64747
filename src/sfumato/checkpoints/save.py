"""Writing parts as a folder that diffusers opens, whole or not at all."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sfumato.checkpoints.parts import Parts
from sfumato.core.codec import LatentCodec
from sfumato.durable import sync

__all__ = ["save"]


def save(parts: Parts, folder: str | Path, *, dtype: torch.dtype | None = None, shard_size: str = "5GB") -> Path:
    """Write a checkpoint in diffusers' layout, safetensors only.

    Everything is written to a temporary folder beside the target, synced, renamed and synced again, so that the folder
    is either there and whole or not there, and is on the disk when this returns.

    Args:
        parts: what to write; not changed.
        folder: must not exist yet.
        dtype: of the weights in the files; None: as they are.
        shard_size: largest size of a weight file, such as "15MB".

    Returns:
        the folder.

    Raises:
        FileExistsError: the folder exists.
        ValueError: the parts have no autoencoder (a model of pixels): the layout of diffusers has no place for that.
    """
    if not isinstance(parts.codec, LatentCodec):
        raise ValueError(
            "these parts make pixels without an autoencoder, which diffusers' text-to-image layout has no place for; "
            "save the network alone with parts.network.unet.save_pretrained(FOLDER)"
        )
    target = Path(folder)
    if target.exists():
        raise FileExistsError(f"{target} exists; a checkpoint is never written over another")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write(parts, unfinished, dtype, shard_size)
        unfinished.chmod(0o755)
        for path in (*unfinished.rglob("*"), unfinished):
            sync(path)
        unfinished.rename(target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return target


def _write(parts: Parts, folder: Path, dtype: torch.dtype | None, shard_size: str) -> None:
    for name, module in _modules(parts).items():
        cast = module if dtype is None else copy.deepcopy(module).to(dtype)
        cast.save_pretrained(folder / name, safe_serialization=True, max_shard_size=shard_size)
    for name, tokenizer in _tokenizers(parts).items():
        tokenizer.save_pretrained(folder / name)
    (folder / "scheduler").mkdir()
    _write_json(folder / "scheduler" / "scheduler_config.json", dict(parts.scheduler))
    _write_json(folder / "model_index.json", _index(parts))


def _modules(parts: Parts) -> dict[str, Any]:
    encoders = {f"text_encoder{_suffix(i)}": encoder.module for i, encoder in enumerate(parts.text.encoders)}
    assert isinstance(parts.codec, LatentCodec)  # `save` refused the others
    return {"unet": parts.network.unet, "vae": parts.codec.vae, **encoders}


def _tokenizers(parts: Parts) -> dict[str, Any]:
    return {f"tokenizer{_suffix(i)}": encoder.tokenizer for i, encoder in enumerate(parts.text.encoders)}


def _suffix(index: int) -> str:
    return f"_{index + 1}" if index else ""


def _index(parts: Parts) -> dict[str, Any]:
    import diffusers

    modules = {
        name: ["diffusers" if name in ("unet", "vae") else "transformers", type(value).__name__]
        for name, value in (_modules(parts) | _tokenizers(parts)).items()
    }
    return {
        "_diffusers_version": diffusers.__version__,
        **modules,
        "scheduler": ["diffusers", parts.scheduler.get("_class_name", "DDIMScheduler")],
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        **(_sd() if len(parts.text.encoders) == 1 else _sdxl(parts.text.zero_null)),
    }


def _sd() -> dict[str, Any]:
    return {
        "_class_name": "StableDiffusionPipeline",
        "safety_checker": [None, None],
        "requires_safety_checker": False,
    }


def _sdxl(zero_null: bool) -> dict[str, Any]:
    return {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": zero_null}


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
