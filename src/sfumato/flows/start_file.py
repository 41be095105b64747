"""The file of an inversion: the start and the tuned nulls of one picture, as safetensors, read as untrusted input."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from sfumato.checkpoints.safety import CheckpointError, read_header
from sfumato.flows.invert import Inverted

__all__ = ["read_start", "start_bytes"]

_LARGEST = 256_000_000


def start_bytes(inverted: Inverted) -> bytes:
    """A safetensors file with "start" (1, C, h, w) and, if there are any, "nulls" (S, L, D), one a step; float32.

    Its metadata say the number of steps, if that is known.
    """
    tensors = {"start": inverted.start}
    if inverted.nulls is not None:
        tensors["nulls"] = torch.cat(list(inverted.nulls))
    told = None if inverted.steps is None else {"steps": str(inverted.steps)}
    return save({name: value.detach().cpu().float().contiguous() for name, value in tensors.items()}, told)


def read_start(path: Path) -> Inverted:
    """Read such a file from an untrusted source.

    Raises:
        CheckpointError: no such file, another kind of file, or one whose tensors are not those of an inversion.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    if path.stat().st_size > _LARGEST:
        raise CheckpointError(f"{path.name} is larger than an inversion can be ({path.stat().st_size} bytes)")
    sizes = {name: len(info.shape) for name, info in read_header(path).items()}
    if sizes.get("start") != 4 or not set(sizes) <= {"start", "nulls"} or sizes.get("nulls", 3) != 3:
        raise CheckpointError(f"{path.name} holds no inversion; `sfumato invert` writes one")
    tensors = {name: _finite(path, value) for name, value in load_file(path).items()}
    nulls = tensors.get("nulls")
    return Inverted(tensors["start"], None if nulls is None else tuple(nulls.split(1)), _steps(path))


def _steps(path: Path) -> int | None:
    """What the metadata say, as far as it can be a number of steps."""
    with safe_open(path, "pt") as file:  # pyright: ignore[reportUnknownVariableType]
        told = str((file.metadata() or {}).get("steps", ""))  # pyright: ignore
    return int(told) if re.fullmatch(r"[1-9][0-9]{0,4}", told) else None


def _finite(path: Path, value: Tensor) -> Tensor:
    if not value.is_floating_point() or not bool(value.isfinite().all()):
        raise CheckpointError(f"{path.name} holds values that are no finite numbers")
    return value.float()
