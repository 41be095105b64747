"""What a checkpoint says of neighbours: how it takes vectors of pictures in, and which ones it was trained on.

neighbours.json              normalised, scale, alone: ``NeighbourTokens``; without it a checkpoint with the part
                             ``pictures`` takes them as the embedded one does, and any other takes none
training_vectors.safetensors "vectors" (M, D): embeddings of a sample of its training pictures, by which the
                             proposal p_D is found for any memory
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sfumato.checkpoints.safety import CheckpointError, read_header, read_json
from sfumato.encoders.joint import NeighbourTokens, embedded_tokens

__all__ = ["load_neighbour_tokens", "load_training_vectors", "save_neighbour_tokens", "save_training_vectors"]

_TOKENS, _VECTORS = "neighbours.json", "training_vectors.safetensors"
_SAMPLE = 2048


def load_neighbour_tokens(folder: Path) -> NeighbourTokens | None:
    """How a checkpoint takes vectors of pictures as context tokens.

    Args:
        folder: of the checkpoint.

    Returns:
        what its neighbours.json says; without one, what the embedded model does if there is a part ``pictures``, else
        None: it takes none.

    Raises:
        CheckpointError: settings that are broken.
    """
    if not (folder / _TOKENS).is_file():
        return _as_embedded(folder)
    table = read_json(folder / _TOKENS)
    kinds = {"normalised": (bool,), "scale": (int, float), "alone": (bool,)}
    if set(table) != set(kinds) or any(type(table[name]) not in kind for name, kind in kinds.items()):
        names = ", ".join(field.name for field in fields(NeighbourTokens))
        raise CheckpointError(f"{_TOKENS} must say {names}, true or false and a number, and nothing else")
    try:
        return NeighbourTokens(**table)
    except ValueError as error:
        raise CheckpointError(f"{_TOKENS} cannot be used: {error}") from error


def save_neighbour_tokens(folder: Path, tokens: NeighbourTokens) -> None:
    """Write neighbours.json into a checkpoint's folder, in place of a former one."""
    (folder / _TOKENS).write_text(json.dumps(asdict(tokens), indent=2) + "\n", encoding="utf-8")


def load_training_vectors(folder: Path) -> Tensor | None:
    """Embeddings of a sample of a checkpoint's training pictures.

    Args:
        folder: of the checkpoint.

    Returns:
        (M, D) float32; None if it brings none.

    Raises:
        CheckpointError: a file that is broken or holds something else.
    """
    if not (folder / _VECTORS).is_file():
        return None
    header = read_header(folder / _VECTORS)
    if set(header) != {"vectors"} or len(header["vectors"].shape) != 2 or 0 in header["vectors"].shape:
        raise CheckpointError(f"{_VECTORS} must hold one tensor, vectors (M, D), and nothing else")
    vectors = load_file(folder / _VECTORS)["vectors"].float()
    if not bool(vectors.isfinite().all()) or not bool(vectors.any(dim=1).all()):
        raise CheckpointError(f"{_VECTORS} holds vectors of length 0, or numbers that are not finite")
    return vectors


def save_training_vectors(folder: Path, vectors: Tensor) -> None:
    """Keep a fixed random sample of at most 2048 of a training set's embeddings (N, D) beside a checkpoint."""
    chosen = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))[:_SAMPLE]
    save_file({"vectors": vectors[chosen].half().contiguous()}, folder / _VECTORS)


def _as_embedded(folder: Path) -> NeighbourTokens | None:
    settings = folder / "pictures" / "config.json"
    if not settings.is_file():
        return None
    width = read_json(settings).get("projection_dim")
    if type(width) is not int or width < 1:
        raise CheckpointError("pictures/config.json gives no projection_dim, the width of its vectors")
    return embedded_tokens(width)
