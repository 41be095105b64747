"""What is read of a checkpoint before anything in it is believed.

A file of weights is judged by its content: its safetensors header is checked as a whole (length, JSON, known dtypes,
shape x dtype = bytes, bytes that neither overlap nor leave gaps nor leave the file) before anything is allocated; that
a config.json asks for no more than its files hold is seen to by ``bounds``. No pickle is ever opened, no code is ever
loaded, and names found in a file never lead out of the checkpoint's folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any, cast

__all__ = ["CheckpointError", "TensorInfo", "read_header", "read_json", "sibling"]

_LARGEST_HEADER = 100_000_000
_LARGEST_JSON = 50_000_000
_LARGEST_COUNT, _MOST_COUNTS = 2**63, 16
_BITS: Mapping[str, int] = MappingProxyType(
    {
        **{"F64": 64, "F32": 32, "F16": 16, "BF16": 16},
        **{"F8_E4M3": 8, "F8_E5M2": 8, "BOOL": 8},
        **{"I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8},
    }
)
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class CheckpointError(ValueError):
    """A checkpoint that is broken, unsafe or of an unknown kind; the message is one sentence for the user."""


@dataclass(frozen=True)
class TensorInfo:
    """What a header says of one tensor.

    Args:
        dtype: safetensors' name, such as "F16".
        shape: sizes, each >= 0.
        start: first byte, counted from the end of the header.
        stop: byte after the last.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        CheckpointError: no such file, too large, or no JSON object.
    """
    if not path.is_file():
        raise CheckpointError(f"{_short(path)} is missing")
    if path.stat().st_size > _LARGEST_JSON:
        raise CheckpointError(f"{_short(path)} is larger than a settings file can be ({path.stat().st_size} bytes)")
    return _json_object(path.read_bytes(), _short(path))


def sibling(path: Path, name: object) -> Path:
    """The file called ``name`` beside ``path``.

    Raises:
        CheckpointError: ``name`` is not a plain file name, so that it could lead elsewhere; or there is no such file.
    """
    if not isinstance(name, str) or not _is_plain(name):
        shown = str(name)[:200]
        raise CheckpointError(f"{_short(path)} names the file {shown!r}, which does not lie in its own folder")
    found = path.parent / name
    if not found.is_file():
        raise CheckpointError(f"{_short(path)} names the file {name!r}, which is missing")
    return found


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Read and check the header of a safetensors file; nothing but the header is read.

    Args:
        path: the file, whatever its suffix.

    Returns:
        the tensors by name.

    Raises:
        CheckpointError: whatever is not as the format demands, or a pickle under this name.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        _check_start(path, start, length, size)
        file.seek(8)
        header = _json_object(file.read(length), f"the header of {_short(path)}")
    told: object = header.pop("__metadata__", {})
    if not isinstance(told, dict) or not all(isinstance(each, str) for each in cast(dict[str, object], told).values()):
        raise CheckpointError(f"the header of {_short(path)} has __metadata__ that are not words by name")
    tensors = {name: _tensor(path, name, entry) for name, entry in header.items()}
    _check_ranges(path, tensors, size - 8 - length)
    return tensors


def _is_plain(name: str) -> bool:
    special = name in ("", ".", "..") or "\0" in name
    return not special and name == PurePosixPath(name).name == PureWindowsPath(name).name


def _check_start(path: Path, start: bytes, length: int, size: int) -> None:
    plausible = len(start) == 9 and length <= _LARGEST_HEADER and start[8:] == b"{"
    if not plausible and start.startswith(_PICKLES):
        raise CheckpointError(
            f"{_short(path)} is a pickle under a safetensors name; pickles can run code and are never opened"
        )
    if len(start) < 9:
        raise CheckpointError(f"{_short(path)} is no safetensors file: it has only {size} bytes")
    if length > min(_LARGEST_HEADER, size - 8):
        raise CheckpointError(
            f"{_short(path)} claims a header of {length} bytes; a file of {size} bytes may have at most "
            f"{min(_LARGEST_HEADER, size - 8)}, so it is broken or cut short"
        )
    if not plausible:
        raise CheckpointError(f"{_short(path)} is no safetensors file: its header is no JSON object")


def _json_object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{what} is no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{what} is no JSON object")
    return cast(dict[str, Any], value)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name occurs twice")
    return value


def _tensor(path: Path, name: str, entry: object) -> TensorInfo:
    fields = cast(dict[str, Any], entry) if isinstance(entry, dict) else {}
    dtype, shape, offsets = fields.get("dtype"), _counts(fields.get("shape")), _counts(fields.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or offsets is None or len(offsets) != 2:
        raise CheckpointError(f"{_short(path)} describes tensor {name!r} without a dtype, shape and byte range")
    if dtype not in _BITS:
        raise CheckpointError(f"{_short(path)} holds tensor {name!r} of the unknown dtype {dtype!r}")
    start, stop = offsets
    wanted = math.prod(shape) * _BITS[dtype] // 8
    if stop - start != wanted:
        raise CheckpointError(
            f"{_short(path)} gives tensor {name!r} {stop - start} bytes, but {dtype} {shape} takes {wanted}"
        )
    return TensorInfo(dtype, tuple(shape), start, stop)


def _counts(values: object) -> list[int] | None:
    """The values, if they are a list of at most 16 whole numbers from 0 to 2**63, which can be multiplied and shown."""
    found = cast(list[object], values) if isinstance(values, list) else [None]
    counts = [value for value in found if type(value) is int and 0 <= value <= _LARGEST_COUNT]
    return counts if len(counts) == len(found) <= _MOST_COUNTS else None


def _check_ranges(path: Path, tensors: Mapping[str, TensorInfo], data: int) -> None:
    reached, before = 0, "the header"
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if tensor.start != reached:
            fault = "overlap" if tensor.start < reached else "leave a gap"
            raise CheckpointError(f"{_short(path)} is broken: the bytes of {before!r} and {name!r} {fault}")
        reached, before = tensor.stop, name
    if reached != data:
        fault = "is cut short" if reached > data else "has bytes that belong to no tensor"
        raise CheckpointError(f"{_short(path)} {fault}: its tensors take {reached} bytes and it holds {data}")


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name
