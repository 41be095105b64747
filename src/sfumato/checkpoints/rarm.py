"""Loading the autoregressive twin: the folder that ``sfumato train rarm`` leaves.

    model_index.json             which part is of which class, as in diffusers' layout
    rarm/   vq/                  config.json, diffusion_pytorch_model*.safetensors: the network, the codec of its codes
    encoder/                     what embeds pictures and words as in its training, see ``joint``
    neighbours.json              how it takes vectors of pictures in, see ``neighbours``
    training_vectors.safetensors a sample of its training pictures, see ``neighbours``

The parts and neighbours.json are read here. Nothing needs the network; see ``sfumato.checkpoints.safety`` for what is
refused.

Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.2.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfumato.checkpoints.neighbours import load_neighbour_tokens, save_neighbour_tokens
from sfumato.checkpoints.safety import CheckpointError, read_json
from sfumato.checkpoints.weights import fill, read_headers
from sfumato.encoders.joint import NeighbourTokens
from sfumato.networks.codes import CodeCodec, VQModel
from sfumato.networks.rarm import Rarm

__all__ = ["RarmParts", "load_rarm", "save_rarm"]

_INDEX = {"_class_name": "Rarm", "rarm": ["sfumato", "Rarm"], "vq": ["diffusers", "VQModel"]}
_AS_THEY_ARE = NeighbourTokens(normalised=False, alone=True)


@dataclass(frozen=True, eq=False)
class RarmParts:
    """A network, the codec of its codes, and how it takes vectors of pictures in.

    Args:
        rarm: the network.
        codec: between pictures and codes.
        neighbours: how it takes vectors of pictures as its context; as they are by default.

    Raises:
        ValueError: the network is of other codes than the codec's.
    """

    rarm: Rarm
    codec: CodeCodec
    neighbours: NeighbourTokens = _AS_THEY_ARE

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its pictures, in pixels."""
        side = self.codec.side * self.codec.factor
        return side, side

    def __post_init__(self) -> None:
        wanted, found = (self.codec.count, self.codec.side**2), (self.rarm.codes, self.rarm.length)
        if wanted != found:
            raise ValueError(
                f"the network draws {found[1]} of {found[0]} codes, and the codec has {wanted[1]} of {wanted[0]}: "
                "they were not trained together"
            )


def load_rarm(folder: str | Path, dtype: torch.dtype | None = None) -> RarmParts:
    """Load a checkpoint of ``sfumato train rarm``.

    Args:
        folder: that holds ``rarm``, ``vq`` and, unless vectors are taken as they are, neighbours.json.
        dtype: of the network's weights; None: float32. The codec's are always float32.

    Returns:
        its parts, locked and in evaluation mode, on the CPU.

    Raises:
        CheckpointError: a part that is missing, broken, unsafe or of another kind; or they do not belong together.
    """
    network = _part(Path(folder) / "rarm", Rarm, dtype or torch.float32)
    vq = _part(Path(folder) / "vq", VQModel, torch.float32)
    side = vq.config.sample_size
    if type(side) is not int or side < 1:
        raise CheckpointError(f"vq/config.json gives no size of pictures: sample_size is {side!r}")
    try:
        return RarmParts(network, CodeCodec(vq), load_neighbour_tokens(Path(folder)) or _AS_THEY_ARE)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def save_rarm(parts: RarmParts, folder: Path) -> None:
    """Write what :func:`load_rarm` reads into a folder, which is made if missing."""
    parts.rarm.save_pretrained(folder / "rarm", max_shard_size="14MB")
    parts.codec.vq.save_pretrained(folder / "vq", max_shard_size="14MB")
    save_neighbour_tokens(folder, parts.neighbours)
    (folder / "model_index.json").write_text(json.dumps(_INDEX, indent=2) + "\n", encoding="utf-8")


def _part(path: Path, kind: Any, dtype: torch.dtype) -> Any:
    name = kind.__name__
    if not path.is_dir():
        raise CheckpointError(f"there is no folder {path.name} in {path.parent.name}; 'sfumato train rarm' makes both")
    config = read_json(path / "config.json")
    if config.get("_class_name") != name:
        raise CheckpointError(f"{path.name} is of the class {config.get('_class_name')!r}; known is {name}")

    header = read_headers(path, "diffusion_pytorch_model")
    module = fill(lambda: kind.from_config(config), config, header, dtype, path.name, name)
    return module.requires_grad_(False)
