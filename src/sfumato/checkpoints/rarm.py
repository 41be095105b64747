"""Loading the autoregressive twin: the folder that ``sfumato train rarm`` leaves.

    rarm/   vq/                  config.json, diffusion_pytorch_model*.safetensors: the network, the codec of its codes
    encoder/                     what embeds pictures and words as in its training, see ``joint``
    neighbours.json              how it takes vectors of pictures in, see ``neighbours``
    training_vectors.safetensors a sample of its training pictures, see ``neighbours``

The first two are read here. Nothing needs the network; see ``sfumato.checkpoints.safety`` for what is refused.

Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfumato.checkpoints.safety import CheckpointError, read_json
from sfumato.checkpoints.weights import fill, read_headers
from sfumato.networks.codes import CodeCodec, VQModel
from sfumato.networks.rarm import Rarm

__all__ = ["RarmParts", "load_rarm"]


@dataclass(frozen=True, eq=False)
class RarmParts:
    """A network and the codec of its codes.

    Args:
        rarm: the network.
        codec: between pictures and codes.

    Raises:
        ValueError: the network is of other codes than the codec's.
    """

    rarm: Rarm
    codec: CodeCodec

    def __post_init__(self) -> None:
        wanted, found = (self.codec.count, self.codec.side**2), (self.rarm.codes, self.rarm.length)
        if wanted != found:
            raise ValueError(
                f"the network draws {found[1]} of {found[0]} codes, and the codec has {wanted[1]} of {wanted[0]}: "
                "they were not trained together"
            )


def load_rarm(folder: str | Path, dtype: torch.dtype | None = None) -> RarmParts:
    """Load what ``sfumato train rarm`` leaves in its folder: ``rarm`` and ``vq``.

    Args:
        folder: that holds both; other parts in it are left alone.
        dtype: of the network's weights; None: float32. The codec's are always float32.

    Returns:
        both parts, locked and in evaluation mode, on the CPU.

    Raises:
        CheckpointError: a part that is missing, broken, unsafe or of another kind; or they do not belong together.
    """
    network = _part(Path(folder) / "rarm", Rarm, dtype or torch.float32)
    vq = _part(Path(folder) / "vq", VQModel, torch.float32)
    try:
        return RarmParts(network, CodeCodec(vq))
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _part(path: Path, kind: Any, dtype: torch.dtype) -> Any:
    name = kind.__name__
    if not path.is_dir():
        raise CheckpointError(f"there is no folder {path.name} in {path.parent.name}; 'sfumato train rarm' makes both")
    config = read_json(path / "config.json")
    if config.get("_class_name") != name:
        raise CheckpointError(f"{path.name} is of the class {config.get('_class_name')!r}; known is {name}")

    def build() -> Any:
        try:
            return kind.from_config(config)
        except Exception as error:  # the libraries raise whatever a wrong setting leads to
            raise CheckpointError(f"{path.name}/config.json describes no {name} that can be built: {error}") from error

    return fill(build, read_headers(path, "diffusion_pytorch_model"), dtype, path.name).requires_grad_(False)
