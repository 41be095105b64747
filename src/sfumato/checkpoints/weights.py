"""Weights of one part: finding their files, comparing their headers with the module, filling it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn

from sfumato.checkpoints.bounds import bounded, check_settings
from sfumato.checkpoints.safety import CheckpointError, TensorInfo, read_header, read_json, sibling

__all__ = ["Header", "fill", "read_headers"]

Header = Mapping[str, tuple[Path, TensorInfo]]
"""Tensors of a part by the name in its files: the file that holds each, and what its header says."""

_RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0", "gamma": "weight", "beta": "bias"}
_PREFIXES = ("text_model.", "bert.")
_NEEDLESS = ("position_ids",)
_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


def read_headers(folder: Path, stem: str) -> Header:
    """Find a part's weights, whole, in shards, or in half precision (the "fp16" variant), and check all headers.

    Args:
        folder: of the part.
        stem: name of the files, "diffusion_pytorch_model" or "model".

    Raises:
        CheckpointError: no weights in safetensors, or a file that is broken, unsafe or missing.
    """
    tensors: dict[str, tuple[Path, TensorInfo]] = {}
    for path in _files(folder, stem):
        for name, info in read_header(path).items():
            if name in tensors:
                raise CheckpointError(f"{folder.name} holds tensor {name!r} in two shards")
            tensors[name] = (path, info)
    return tensors


def fill(
    build: Callable[[], nn.Module], config: Mapping[str, Any], header: Header, dtype: torch.dtype, part: str, kind: str
) -> Any:
    """Build a module without allocating weights, and give it those of the files.

    Args:
        build: makes the module.
        config: the settings that it is made from.
        header: of the files.
        dtype: that floating-point weights take.
        part: its name for messages.
        kind: likewise, what it is.

    Returns:
        the module, in evaluation mode.

    Raises:
        CheckpointError: settings that no module can be built from, or one that is larger than the files; missing,
            unexpected or wrong-shaped tensors, or whole numbers in the place of others; nothing is allocated then.
    """
    module = _built(build, config, header, f"{part}/config.json describes no {kind}")
    expected = module.state_dict()
    names = {name: _current(name, expected) for name in header if name.rpartition(".")[2] not in _NEEDLESS}
    _compare(expected, {names[name]: header[name][1] for name in names}, part)
    state = {names[name]: value for name, value in _read(header, names)}
    floats = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    module.load_state_dict(floats, assign=True)
    return module.eval()


def _built(build: Callable[[], nn.Module], config: Mapping[str, Any], header: Header, wrong: str) -> nn.Module:
    """The module, its parameters without memory; its buffers, which are made from its settings, have their values."""
    numbers = sum(math.prod(info.shape) for _, info in header.values())
    try:
        check_settings(config, numbers)
        with bounded(len(header), numbers):
            return build()
    except Exception as error:  # the libraries raise whatever a wrong setting leads to
        said = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{wrong} that can be built: {said}") from error


def _files(folder: Path, stem: str) -> Iterable[Path]:
    for variant in ("", ".fp16"):
        whole = folder / f"{stem}{variant}.safetensors"
        if whole.is_file():
            return [whole]
        index = folder / f"{stem}.safetensors.index{variant}.json"
        if index.is_file():
            return _shards(index)
    pickles = [path.name for path in sorted(folder.glob(f"{stem}*.bin"))]
    hint = f" ({pickles[0]} is a pickle, which can run code and is never opened)" if pickles else ""
    raise CheckpointError(f"{folder.name} has no weights: {stem}.safetensors is missing{hint}")


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index.parent.name}/{index.name} has no weight_map")
    named = cast(dict[str, object], weight_map).values()
    return list(dict.fromkeys(sibling(index, name) for name in named))


def _current(name: str, expected: Mapping[str, object]) -> str:
    """Today's name of a tensor that older files of diffusers and transformers call otherwise."""
    if name in expected:
        return name
    renamed = ".".join(_RENAMED.get(word, word) for word in name.split("."))
    candidates = [renamed, *(renamed.removeprefix(prefix) for prefix in _PREFIXES), *(p + renamed for p in _PREFIXES)]
    return next((candidate for candidate in candidates if candidate in expected), name)


def _compare(expected: Mapping[str, Tensor], found: Mapping[str, TensorInfo], part: str) -> None:
    missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing:
        raise CheckpointError(f"{part} lacks {_some(missing)}, which its config.json asks for")
    if unexpected:
        raise CheckpointError(f"{part} holds {_some(unexpected)}, which its config.json does not know")
    wrong = [name for name, value in expected.items() if found[name].shape != tuple(value.shape)]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{part} holds {_some(wrong)} in another shape than its config.json asks for: "
            f"{list(found[name].shape)} instead of {list(expected[name].shape)}"
        )
    other = [name for name, value in expected.items() if (found[name].dtype in _FLOATS) != value.is_floating_point()]
    if other:
        kind = "floating-point" if expected[other[0]].is_floating_point() else "whole"
        raise CheckpointError(
            f"{part} holds {_some(other)} as {found[other[0]].dtype}, where {kind} numbers belong; quantised weights "
            "cannot be read, so take those from which they were made"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 1} more tensors" if len(names) > 1 else ""
    return f"{names[0]!r}{more}"


def _read(header: Header, names: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
    for path in dict.fromkeys(path for path, _ in header.values()):
        opened: Any = safe_open(path, framework="pt")
        with opened as file:
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                if name in names:
                    yield name, file.get_tensor(name)
