"""Training checkpoints that are whole or not there.

A checkpoint is written to a temporary folder, synced to disk, given its manifest of hashes, and renamed into place;
only then are older ones pruned. Whoever kills the process at any moment finds the last whole checkpoint untouched.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from safetensors.torch import load_file, save_file
from torch import Tensor

from sfumato.durable import digest_of_file, sync

__all__ = ["Snapshot", "name_at", "newest", "read", "state", "write"]

Snapshot = Mapping[str, Mapping[str, Tensor]]

_PREFIX = "checkpoint-"
_NAME = re.compile(_PREFIX + r"[0-9]{8}")
_MANIFEST = "manifest.json"
_STATE = "state.json"


def write(run: Path, step: int, tensors: Snapshot, state: Mapping[str, Any], keep: int) -> Path:
    """Write one checkpoint and prune the oldest beyond ``keep``.

    Args:
        run: folder of the run; the checkpoint becomes ``run/checkpoint-00000100``.
        step: optimiser steps done.
        tensors: file name without suffix -> tensors of that file.
        state: anything JSON can hold.
        keep: how many checkpoints up to this one stay, >= 1; later ones, which are damaged if the run went on from
            an earlier one, stay until they are reached.

    Returns:
        The checkpoint's folder.
    """
    run.mkdir(parents=True, exist_ok=True)
    final = run / name_at(step)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=run))
    try:
        for name, group in tensors.items():
            save_file({key: _apart(value) for key, value in group.items()}, temporary / f"{name}.safetensors")
        (temporary / _STATE).write_text(json.dumps(dict(state), indent=1))
        hashes = {file.name: digest_of_file(file) for file in sorted(temporary.iterdir())}
        (temporary / _MANIFEST).write_text(json.dumps(hashes, indent=1))
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        if final.exists():
            shutil.rmtree(final)
        temporary.chmod(0o755)
        temporary.rename(final)
        sync(run)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _prune(run, step, keep)
    return final


def name_at(step: int) -> str:
    """The folder name of a step's checkpoint."""
    return f"{_PREFIX}{step:08d}"


def newest(run: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint of a run, and a sentence for each broken one that was passed over."""
    problems: list[str] = []
    for folder in reversed(_checkpoints(run)):
        problem = _problem(folder)
        if problem is None:
            return folder, problems
        problems.append(problem)
    return None, problems


def read(folder: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read a checkpoint back: (tensors by file name, state).

    Raises:
        ValueError: the folder is not a whole checkpoint; the sentence says what is wrong.
    """
    held = state(folder)
    return {file.stem: load_file(file) for file in folder.glob("*.safetensors")}, held


def state(folder: Path) -> dict[str, Any]:
    """The state of a checkpoint without its tensors.

    Raises:
        ValueError: the folder is not a whole checkpoint; the sentence says what is wrong.
    """
    problem = _problem(folder)
    if problem is not None:
        raise ValueError(problem)
    return json.loads((folder / _STATE).read_text())


def _problem(folder: Path) -> str | None:
    try:
        hashes: Any = json.loads((folder / _MANIFEST).read_text())
    except (OSError, ValueError):
        hashes = None
    if not isinstance(hashes, dict) or _STATE not in hashes:
        return f"{folder} is not a whole checkpoint: it has no readable {_MANIFEST}"
    for name, expected in cast("dict[str, object]", hashes).items():
        if Path(name).name != name or not (folder / name).is_file() or digest_of_file(folder / name) != expected:
            return f"{folder} is damaged: {name} is missing or is not what its manifest says"
    return None


def _checkpoints(run: Path) -> list[Path]:
    """The folders of a run that have a checkpoint's name, by step; a copy under another name is its owner's."""
    return sorted(folder for folder in run.glob(f"{_PREFIX}*") if _NAME.fullmatch(folder.name))


def _apart(value: Tensor) -> Tensor:
    """A copy on the CPU, since weights that are tied share their memory, which the format has no word for."""
    return value.detach().to("cpu", copy=True).contiguous()


def _prune(run: Path, step: int, keep: int) -> None:
    for folder in [folder for folder in _checkpoints(run) if folder.name <= name_at(step)][:-keep]:
        shutil.rmtree(folder)
    for leftover in run.glob(".writing-*"):
        shutil.rmtree(leftover, ignore_errors=True)
