"""A memory: pictures as vectors in a folder, searched by cosine.

    memory.json          what made it, its parts in order, its index
    parts/NAME/          embeddings and entries, see ``part``
    index-HASH.faiss     finds the nearest of all of them, see ``index``

The entries of all parts, in their order, are rows 0 to N - 1. What the folder holds is changed by one rename of
memory.json; what that file does not name is not there.

Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.1: the database D
    and the sampling strategy xi_k.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from sfumato.durable import write_synced
from sfumato.retrieval.entry import Entry
from sfumato.retrieval.fault import BROKEN, RetrievalError
from sfumato.retrieval.index import Index, IndexFacts, open_index, unit
from sfumato.retrieval.part import Part, blocks_of
from sfumato.retrieval.units import Stream

__all__ = ["EncoderFacts", "Found", "Memory", "MemoryFacts", "read_facts", "write_facts"]

_FORMAT, _FACTS, _LARGEST_FACTS = 1, "memory.json", 100_000_000


@dataclass(frozen=True)
class EncoderFacts:
    """What embedded the pictures of a memory; queries must come from the same.

    Args:
        name: "emoji", or the name of its folder; never a path.
        fingerprint: hexadecimal digits that tell one encoder from another.
        width: length D of its vectors.
        side: of the pictures that it is given, in pixels.

    Raises:
        ValueError: a field of another type, or a number below 1.
    """

    name: str
    fingerprint: str
    width: int
    side: int

    def __post_init__(self) -> None:
        if [type(value) for value in (self.name, self.fingerprint, self.width, self.side)] != [str, str, int, int]:
            raise ValueError("an encoder has a name, a fingerprint, and whole numbers for width and side")
        if min(self.width, self.side) < 1:
            raise ValueError(f"an encoder cannot have the width {self.width} and the side {self.side}")


@dataclass(frozen=True)
class MemoryFacts:
    """What memory.json says.

    Args:
        encoder: that embedded the pictures.
        patches: how pictures were cut, as ``patches`` writes it: "whole", or the numbers of a multi-crop.
        corpora: name of each corpus that it was made from, in order.
        parts: name and number of entries of each part, in order.
        index: of all rows; None: not made yet.
    """

    encoder: EncoderFacts
    patches: str
    corpora: tuple[str, ...]
    parts: tuple[tuple[str, int], ...]
    index: IndexFacts | None

    @property
    def entries(self) -> int:
        """The number N of entries of all parts."""
        return sum(count for _, count in self.parts)


@dataclass(frozen=True, eq=False)
class Found:
    """The nearest entries to B queries, the nearest first.

    Args:
        rows: (B, k) int64 in [0, N).
        cosines: (B, k) float32 in [-1, 1].
    """

    rows: Tensor
    cosines: Tensor


@dataclass(frozen=True, eq=False)
class Memory:
    """An open memory.

    Args:
        folder: that holds it.
        facts: what it says of itself.
        parts: in their order.
    """

    folder: Path
    facts: MemoryFacts
    parts: tuple[Part, ...]

    @staticmethod
    def open(folder: Path) -> Memory:
        """Open a folder; vectors, entries and index are read when they are first asked for.

        Raises:
            RetrievalError: it holds no memory, or one that is not whole.
        """
        facts = read_facts(folder)
        parts = tuple(Part.open(folder / "parts" / name) for name, _ in facts.parts)
        for part, (name, count) in zip(parts, facts.parts, strict=True):
            if part.count != count or part.width != facts.encoder.width:
                raise RetrievalError(f"the part {name} has {part.count} entries of width {part.width}, not {count}")
        return Memory(folder, facts, parts)

    def __len__(self) -> int:
        return self.facts.entries

    @property
    def width(self) -> int:
        """Length D of an embedding."""
        return self.facts.encoder.width

    @cached_property
    def index(self) -> Index:
        """What finds the nearest.

        Raises:
            RetrievalError: it was not made, is missing, or of another size.
        """
        if self.facts.index is None:
            raise RetrievalError(f"the memory {self.folder.name} has no index; `sfumato memory build` goes on with it")
        return open_index(self.folder, self.facts.index)

    def search(self, queries: Tensor, count: int) -> Found:
        """xi_k(q, D): the entries with the largest cosines to each query.

        Args:
            queries: (B, D), of any length but 0.
            count: how many each, k in [1, N].

        Raises:
            ValueError: queries of another width, of length 0 or not finite; or count out of range.
        """
        if queries.ndim != 2 or queries.shape[1] != self.width:
            raise ValueError(f"queries must be (B, {self.width}), got shape {tuple(queries.shape)}")
        if not 1 <= count <= len(self):
            raise ValueError(f"the memory {self.folder.name} has {len(self)} entries; cannot find {count} of them")
        return Found(*self.index.search(unit(queries), count))

    def vectors(self, rows: Tensor) -> Tensor:
        """Embeddings (..., D) of rows (...), float32, as the encoder gave them.

        Raises:
            IndexError: a row that is not there.
        """
        found = torch.empty(rows.numel(), self.width)
        for place, (number, row) in enumerate(map(self._place, rows.flatten().tolist())):
            found[place] = torch.from_numpy(np.array(self.parts[number].vectors[row], np.float32))
        return found.view(*rows.shape, self.width)

    def entries(self, rows: Sequence[int]) -> list[Entry]:
        """What is known of rows.

        Raises:
            IndexError: a row that is not there.
        """
        places = [self._place(row) for row in rows]
        return [self.parts[number].entries([row])[0] for number, row in places]

    def find(self, ids: Sequence[str]) -> list[int]:
        """The rows of entries by their ids.

        Raises:
            RetrievalError: one of them is not there; the sentence names it.
        """
        wanted, rows = sorted(set(ids)), dict[str, int]()
        for start, part in zip(self._starts, self.parts, strict=False):
            rows |= {name: start + row for name, row in part.find(wanted).items()}
        missing = [name for name in wanted if name not in rows]
        if missing:
            raise RetrievalError(f"the memory {self.folder.name} has no entry {missing[0]}; {len(missing)} are missing")
        return [rows[name] for name in ids]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell what it holds: they follow from its entries and its encoder, in order."""
        digest = hashlib.sha256(self.facts.encoder.fingerprint.encode())
        for part in self.parts:
            digest.update(json.dumps(part.hashes, sort_keys=True).encode())
        return digest.hexdigest()[:16]

    def blocks(self, most: int = 65536) -> Iterator[Tensor]:
        """All embeddings in the order of their rows, in blocks of at most ``most``: (n, D) float32."""
        return blocks_of(self.parts, most)

    @property
    def stream(self) -> Stream:
        """All embeddings, as an index is built from them."""
        return Stream(self.blocks, len(self), self.width)

    def digests(self) -> list[str]:
        """The digest of the picture behind each row, by which copies are known; N of them."""
        return [digest for part in self.parts for digest in part.column("digest")]

    @cached_property
    def _starts(self) -> list[int]:
        return np.cumsum([0, *(part.count for part in self.parts)]).tolist()

    def _place(self, row: int) -> tuple[int, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"the memory {self.folder.name} has no row {row}; it has {len(self)}")
        number = bisect_right(self._starts, row) - 1
        return number, row - self._starts[number]


def read_facts(folder: Path) -> MemoryFacts:
    """Read memory.json.

    Raises:
        RetrievalError: there is none, or it is damaged or of another format.
    """
    file = folder / _FACTS
    if not file.is_file():
        raise RetrievalError(f"{folder} holds no memory: it has no {_FACTS}; `sfumato memory build` makes one")
    try:
        if file.stat().st_size > _LARGEST_FACTS:
            raise ValueError("it is larger than facts can be")
        return _facts(json.loads(file.read_text(encoding="utf-8")))
    except BROKEN as error:
        raise RetrievalError(f"{folder.name}/{_FACTS} is damaged or of another version ({error})") from error


def write_facts(folder: Path, facts: MemoryFacts) -> None:
    """Write memory.json, whole or not at all: from then on the memory is what it says."""
    write_synced(folder / _FACTS, json.dumps({"format": _FORMAT, **asdict(facts)}, indent=1).encode())


def _facts(table: dict[str, Any]) -> MemoryFacts:
    if table["format"] != _FORMAT:
        raise ValueError(f"format {table['format']} instead of {_FORMAT}")
    parts = tuple((_plain(name), int(count)) for name, count in _listed(table["parts"]))
    if len({name for name, _ in parts}) != len(parts):
        raise ValueError("it names a part twice")
    return MemoryFacts(
        encoder=EncoderFacts(**table["encoder"]),
        patches=str(table["patches"]),
        corpora=tuple(str(name) for name in _listed(table["corpora"])),
        parts=parts,
        index=None if table["index"] is None else IndexFacts(**table["index"]),
    )


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{str(value)[:40]!r} is no list")
    return cast("list[Any]", value)


def _plain(name: Any) -> str:
    if not isinstance(name, str) or not name or not set(name) <= set("0123456789abcdefghijklmnopqrstuvwxyz-"):
        raise ValueError(f"a part cannot be called {str(name)[:40]!r}")
    return name
