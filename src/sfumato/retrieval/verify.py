"""Whether a memory is what was written, and what was meant.

Opening a memory believes its files; this does not. Of a memory that was built and not changed since, a damaged part or
index is made again by the same `sfumato memory build` once it is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sfumato.core.image import PictureError, open_picture
from sfumato.durable import digest_of_file
from sfumato.retrieval.entry import Entry, id_of
from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.index import open_index, unit
from sfumato.retrieval.memory import Memory, MemoryFacts, read_facts
from sfumato.retrieval.part import Part

__all__ = ["verify"]

_ITSELF = 0.999
_SHOWN = 5


def verify(folder: Path, *, sample: int = 1000, advance: Callable[[int], object] = lambda units: None) -> list[str]:
    """Find all that is wrong with a memory.

    Every part is compared with its hashes, its entries with their ids and boxes, and the index with its hash, whatever
    they weigh. Of ``sample`` rows, spread evenly, the thumbnails are opened and the vectors are searched for: each must
    find itself, or a copy of itself.

    Args:
        folder: of the memory.
        sample: rows, >= 1.
        advance: told of each part and, at last, of the index.

    Returns:
        a sentence for each fault; none if all is well.
    """
    try:
        facts = read_facts(folder)
    except RetrievalError as error:
        return [str(error)]
    faults: list[str] = []
    ids: list[NDArray[np.uint64]] = []
    for name, count in facts.parts:
        faults += _part_faults(folder / "parts" / name, count, facts, ids)
        advance(1)
    faults += [*_doubles(ids), *_index_faults(folder, facts)]
    if not faults and facts.entries:
        memory = Memory.open(folder)
        rows = _sampled(memory, sample)
        faults += [*_thumbnail_faults(memory, rows), *_search_faults(memory, rows)]
    advance(1)
    return faults


def _part_faults(place: Path, count: int, facts: MemoryFacts, ids: list[NDArray[np.uint64]]) -> Iterator[str]:
    """What is wrong with one part; the ids of its entries are appended to ``ids``."""
    try:
        part = Part.open(place)
        if (part.count, part.width) != (count, facts.encoder.width):
            yield f"the part {place.name} has {part.count} entries of width {part.width}, memory.json says otherwise"
        if fault := part.fault():
            yield fault
            return
        if len(part.fault_list) != part.faults:
            yield f"the part {place.name} names {len(part.fault_list)} faults, not {part.faults}"
        entries = part.entries(range(part.count))
    except (OSError, ValueError, TypeError) as error:
        yield str(error) if isinstance(error, RetrievalError) else f"the part {place.name} is damaged ({error})"
        return
    found = [(entry.id, _entry_fault(entry)) for entry in entries]
    yield from (f"the part {place.name} has an entry {name[:40]!r} {fault}" for name, fault in found if fault)
    ids.append(np.array([int(name, 16) for name, fault in found if not fault], np.uint64))
    if not np.any(part.vectors, axis=1).all():
        yield f"the part {place.name} has an embedding of length 0"


def _entry_fault(entry: Entry) -> str | None:
    left, top, right, bottom = entry.box
    if entry.id != id_of(entry.source, entry.digest, entry.box):
        return "whose id does not follow from its picture"
    if not (0 <= left < right and 0 <= top < bottom):
        return f"whose box {entry.box} is none"
    return None


def _doubles(ids: list[NDArray[np.uint64]]) -> Iterator[str]:
    numbers, times = np.unique(np.concatenate([np.zeros(0, np.uint64), *ids]), return_counts=True)
    for number, count in zip(numbers[times > 1][:_SHOWN].tolist(), times[times > 1].tolist(), strict=False):
        yield f"the id {number:016x} belongs to {count} entries"
    if (times > 1).sum() > _SHOWN:
        yield f"{int((times > 1).sum()) - _SHOWN} more ids belong to several entries"


def _sampled(memory: Memory, sample: int) -> list[int]:
    """Rows spread evenly, the first and the last among them."""
    return sorted(set(np.linspace(0, len(memory) - 1, min(sample, len(memory))).round().astype(int).tolist()))


def _thumbnail_faults(memory: Memory, rows: list[int]) -> Iterator[str]:
    for entry in memory.entries(rows):
        try:
            open_picture(entry.thumbnail)
        except PictureError as error:
            yield f"the thumbnail of the entry {entry.id} does not open ({str(error).removeprefix('picture: ')})"


def _index_faults(folder: Path, facts: MemoryFacts) -> Iterator[str]:
    """What is wrong with the index as a file."""
    index = facts.index
    if index is None:
        yield "the memory has no index; `sfumato memory build` goes on with it"
    elif (index.entries, index.width) != (facts.entries, facts.encoder.width):
        yield f"the index is of {index.entries} entries of width {index.width}, and the memory is not"
    else:
        try:
            open_index(folder, index)
        except RetrievalError as error:
            yield str(error)
            return
        found = digest_of_file(folder / index.file)
        if found != index.digest:
            yield f"the index {index.file} is not what was written"


def _search_faults(memory: Memory, rows: list[int]) -> Iterator[str]:
    """Rows that the index does not find; an approximate one may miss as many as its recall admits."""
    try:
        wanted = unit(memory.vectors(torch.tensor(rows)))
        nearest = memory.index.search(wanted, 1)[0][:, 0]
        found = unit(memory.vectors(nearest))
    except (RetrievalError, IndexError) as error:
        yield str(error)
        return
    lost = [row for row, cosine in zip(rows, (wanted * found).sum(1).tolist(), strict=True) if cosine < _ITSELF]
    if len(lost) > (1 - memory.index.facts.recall) * len(rows):
        yield f"the index does not find {len(lost)} of {len(rows)} rows by their own vectors, first {lost[0]}"
