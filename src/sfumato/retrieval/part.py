"""One part of a memory on disk: some hundred entries and their embeddings, there as a whole or not at all.

    NAME/vectors.npy     (n, D) float16, as the encoder gave them; memory-mapped
    NAME/entries.arrow   (id, source, digest, box, caption, thumbnail), one record batch; memory-mapped
    NAME/faults.json     pictures that were passed over
    NAME/part.json       how many, and SHA-256 of the others

A part is written into a temporary folder, synced, and renamed; whoever finds its folder finds all of it.
"""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.durable import digest_of_file, sync
from sfumato.retrieval.entry import Entry
from sfumato.retrieval.fault import BROKEN, Fault, RetrievalError

__all__ = ["COLUMNS", "Part", "blocks_of", "write_part"]

COLUMNS: list[tuple[str, Any]] = [
    ("id", pa.string()),
    ("source", pa.string()),
    ("digest", pa.string()),
    ("box", pa.list_(pa.int32(), 4)),
    ("caption", pa.string()),
    ("thumbnail", pa.binary()),
]
"""The fields of an entry, as Arrow's types."""

_SCHEMA = pa.schema(COLUMNS)
_VECTORS, _ENTRIES, _FAULTS, _FACTS = "vectors.npy", "entries.arrow", "faults.json", "part.json"
_LARGEST_FACTS, _LONGEST_HEADER = 1_000_000, 4096


@dataclass(frozen=True, eq=False)
class Part:
    """A part that is there.

    Args:
        folder: that holds it.
        count: entries n, >= 0.
        faults: pictures that were passed over.
        width: length D of an embedding.
        hashes: SHA-256 of its files by name.
    """

    folder: Path
    count: int
    faults: int
    width: int
    hashes: dict[str, str]

    @staticmethod
    def open(folder: Path) -> Part:
        """Read what a part says of itself; its files are mapped when they are first asked for.

        Raises:
            RetrievalError: there is no such part, or its facts cannot be read.
        """
        try:
            if (folder / _FACTS).stat().st_size > _LARGEST_FACTS:
                raise ValueError("its facts are larger than facts can be")
            facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
            count, faults, width = (int(facts[name]) for name in ("count", "faults", "width"))
            hashes = {str(name): str(value) for name, value in facts["hashes"].items()}
        except BROKEN as error:
            raise RetrievalError(f"the part {folder.name} is missing or damaged ({error})") from error
        if set(hashes) != {_VECTORS, _ENTRIES, _FAULTS} or min(count, faults) < 0 or width < 1:
            raise RetrievalError(f"the part {folder.name} is damaged (its facts are not those of a part)")
        return Part(folder, count, faults, width, hashes)

    @cached_property
    def vectors(self) -> NDArray[np.float16]:
        """The embeddings (n, D), mapped.

        Raises:
            RetrievalError: they are missing or of another shape.
        """
        try:
            vectors = _mapped(self.folder / _VECTORS)
        except (OSError, ValueError, EOFError) as error:
            raise RetrievalError(f"the part {self.folder.name} is damaged ({error})") from error
        if vectors.shape != (self.count, self.width) or vectors.dtype != np.float16:
            raise RetrievalError(f"the part {self.folder.name} is damaged (its vectors have the shape {vectors.shape})")
        return vectors

    def entries(self, rows: Sequence[int]) -> list[Entry]:
        """Some of its entries.

        Args:
            rows: in [0, n).

        Raises:
            RetrievalError: the file is missing or damaged.
        """
        found = cast("list[dict[str, Any]]", self._table.take(pa.array(rows, pa.int64())).to_pylist())
        return [_entry(row) for row in found]

    def column(self, name: str) -> list[Any]:
        """All values of one field of :class:`Entry`, in order."""
        return self._table.column(name).to_pylist()

    def find(self, ids: Sequence[str]) -> dict[str, int]:
        """The rows in [0, n) of those of some entries that this part has, by their ids."""
        column = self._table.column("id")
        mask = pc.is_in(column, value_set=pa.array(ids, pa.string()))  # pyright: ignore
        rows = np.flatnonzero(mask.to_numpy(zero_copy_only=False)).tolist()
        return {str(column[row]): row for row in rows}

    @property
    def fault_list(self) -> list[Fault]:
        """The pictures that were passed over."""
        return [Fault(**each) for each in json.loads((self.folder / _FAULTS).read_text(encoding="utf-8"))]

    @cached_property
    def _table(self) -> pa.Table:
        try:
            table = pa.ipc.open_file(pa.memory_map(str(self.folder / _ENTRIES))).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise RetrievalError(f"the part {self.folder.name} is damaged ({error})") from error
        if not table.schema.equals(_SCHEMA) or table.num_rows != self.count:
            raise RetrievalError(f"the part {self.folder.name} is damaged (its entries are not {self.count} of ours)")
        return table

    def fault(self) -> str | None:
        """What is wrong with its files, in one sentence; None if they are what was written."""
        for name, wanted in self.hashes.items():
            file = self.folder / name
            if not file.is_file():
                return f"the part {self.folder.name} has no {name}"
            if digest_of_file(file) != wanted:
                return f"the part {self.folder.name} is damaged: {name} is not what was written"
        try:
            self._table.validate(full=True)
            shape = self.vectors.shape
        except (RetrievalError, pa.ArrowInvalid) as error:
            return str(error)
        return None if np.isfinite(self.vectors).all() else f"the part {self.folder.name} has infinite vectors {shape}"


def blocks_of(parts: Iterable[Part], most: int = 65536) -> Iterator[Tensor]:
    """The embeddings of parts in the order of their rows, in blocks of at most ``most``: (n, D) float32."""
    for part in parts:
        for start in range(0, part.count, most):
            yield torch.from_numpy(np.array(part.vectors[start : start + most], np.float32))


def write_part(parts: Path, name: str, vectors: Tensor, entries: Sequence[Entry], faults: Sequence[Fault] = ()) -> Part:
    """Write a part, whole or not at all; the same arguments give the same bytes.

    Args:
        parts: folder of the parts; made if needed.
        name: of the new part; a former one of that name is replaced.
        vectors: (n, D) embeddings, finite, kept as float16.
        entries: of the n vectors.
        faults: pictures that were passed over on the way.

    Raises:
        ValueError: another number of vectors than entries, or vectors that float16 cannot hold.
    """
    half = vectors.detach().cpu().half().numpy()
    if half.ndim != 2 or len(half) != len(entries) or not np.isfinite(half).all():
        raise ValueError(f"{len(entries)} entries need as many finite vectors, got shape {tuple(vectors.shape)}")
    parts.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".writing-", dir=parts))
    try:
        np.save(fresh / _VECTORS, half, allow_pickle=False)
        _write_entries(fresh / _ENTRIES, entries)
        (fresh / _FAULTS).write_text(json.dumps([asdict(each) for each in faults], indent=1), encoding="utf-8")
        hashes = {file: digest_of_file(fresh / file) for file in (_VECTORS, _ENTRIES, _FAULTS)}
        facts = {"count": len(entries), "faults": len(faults), "width": half.shape[1], "hashes": hashes}
        (fresh / _FACTS).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        fresh.chmod(0o755)
        for file in (*fresh.iterdir(), fresh):
            sync(file)
        shutil.rmtree(parts / name, ignore_errors=True)
        fresh.rename(parts / name)
        sync(parts)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Part.open(parts / name)


def _mapped(file: Path) -> NDArray[Any]:
    """An array file, mapped; NumPy's own way keeps it open, and a memory may have more parts than a process files."""
    with pa.memory_map(str(file)) as stream:
        content = stream.read_buffer()
    head = io.BytesIO(content.slice(0, min(len(content), _LONGEST_HEADER)).to_pybytes())
    if np.lib.format.read_magic(head) != (1, 0):
        raise ValueError(f"{file.name} is of another version")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(head)
    if by_columns or dtype.hasobject:
        raise ValueError(f"{file.name} holds something else than rows of numbers")
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(content, dtype, count, offset=head.tell()).reshape(shape)


def _entry(row: dict[str, Any]) -> Entry:
    left, top, right, bottom = row.pop("box")
    return Entry(box=(left, top, right, bottom), **row)


def _write_entries(path: Path, entries: Sequence[Entry]) -> None:
    rows = [asdict(entry) for entry in entries]
    columns = [pa.array([row[name] for row in rows], kind) for name, kind in COLUMNS]
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
