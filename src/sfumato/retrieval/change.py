"""Changing a memory that is there: more pictures, fewer entries; and all of it as one table.

Parts are never edited. A change writes new parts beside the old, then the index, and counts from the moment at which
memory.json is renamed: what was stopped before has left the former memory, what was stopped after it the new one.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from sfumato.retrieval.build import Report, plan_of, renew, report_of
from sfumato.retrieval.corpus import Corpus
from sfumato.retrieval.embed import Maker, make_part
from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.memory import Memory, MemoryFacts, read_facts
from sfumato.retrieval.part import COLUMNS, Part, write_part
from sfumato.retrieval.plan import ADDING, changing, missing, number_of, read_plan, sweep, write_plan

__all__ = ["add", "export", "remove"]

_BLOCK = 1024


def add(
    folder: Path,
    corpus: Corpus,
    maker: Maker,
    *,
    advance: Callable[[int], object] = lambda units: None,
    say: Callable[[str], object] = lambda text: None,
) -> Report:
    """Add the pictures of a corpus, or go on with that; what is there already is left out and counted.

    Args:
        folder: of the memory.
        corpus: where the pictures come from.
        maker: how they become entries; with the encoder and the patches of the memory.
        advance: told of pictures that are done.
        say: given a sentence for each stage.

    Raises:
        RetrievalError: there is no memory, it is of another encoder or cut in another way, is being changed by another
            process, or cannot be written.
        ValueError: the encoder gives something else than (B, D).
    """
    begun, facts = time.perf_counter(), read_facts(folder)
    with changing(folder):
        facts = read_facts(folder)
        _check_same(folder, facts, maker)
        first = 1 + max(number_of(name) for name, _ in facts.parts)
        plan = plan_of(corpus, maker, _recall(folder, facts), first)
        present = [name for name, _ in facts.parts]
        going_on = read_plan(folder, ADDING) == plan
        sweep(folder, present + (plan.names if going_on else []), facts.index.file if facts.index else None)
        write_plan(folder, plan, ADDING)
        known, pictures = _Ids(Memory.open(folder)), 0
        for number in missing(folder, plan):
            made = make_part(corpus, corpus.slices[number], maker, known, advance)
            write_part(folder / "parts", plan.names[number], made.vectors, made.entries, made.faults)
            pictures += made.pictures
        parts = [(name, Part.open(folder / "parts" / name).count) for name in plan.names]
        if any(count for _, count in parts):
            corpora = tuple(dict.fromkeys((*facts.corpora, plan.corpus)))
            facts = renew(folder, replace(facts, corpora=corpora, parts=(*facts.parts, *parts)), plan.recall, say)
        report = report_of(folder, facts, plan.names, pictures, time.perf_counter() - begun)
        sweep(folder, [name for name, _ in facts.parts], facts.index.file if facts.index else None)
        return report


def remove(folder: Path, ids: Collection[str], *, say: Callable[[str], object] = lambda text: None) -> MemoryFacts:
    """Remove entries.

    Args:
        folder: of the memory.
        ids: of the entries.
        say: given a sentence for each stage.

    Returns:
        what memory.json says now.

    Raises:
        RetrievalError: an id is unknown, or nothing would be left, and then nothing is changed; there is no memory, it
            is being changed by another process, or cannot be written.
    """
    read_facts(folder)
    with changing(folder):
        memory = Memory.open(folder)
        facts, gone = memory.facts, set(ids)
        memory.find(sorted(gone))
        if len(gone) == len(memory):
            raise RetrievalError(f"all {len(gone)} entries of {folder} would be removed; delete the folder instead")
        parts = tuple(_without(part, gone) for part in memory.parts)
        return renew(folder, replace(facts, parts=parts), _recall(folder, facts), say)


def export(memory: Memory, file: Path) -> None:
    """Write a memory as one parquet file, whole or not at all.

    Columns: id, source, digest, box (4 x int32), caption, thumbnail (WebP), embedding (D x float16); the encoder and
    the patches are in the file's metadata under "sfumato".

    Args:
        memory: what to write.
        file: its place; a former one is replaced.

    Raises:
        RetrievalError: a part is damaged, or the file cannot be written.
    """
    schema = _schema(memory)
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=file.parent) as place:
            fresh = Path(place) / file.name
            with pq.ParquetWriter(fresh, schema, compression="zstd") as writer:
                for part in memory.parts:
                    for start in range(0, part.count, _BLOCK):
                        writer.write_batch(_batch(part, start, schema))
            with fresh.open("rb") as written:
                os.fsync(written.fileno())
            fresh.replace(file)
    except OSError as error:
        raise RetrievalError(f"cannot write {file} ({error.strerror or error}); choose another place") from error


class _Ids:
    """The ids of a memory, eight bytes each."""

    def __init__(self, memory: Memory) -> None:
        found = [np.array([int(name, 16) for name in part.column("id")], np.uint64) for part in memory.parts]
        self._sorted = np.sort(np.concatenate(found))

    def __contains__(self, name: str) -> bool:
        number = np.uint64(int(name, 16))
        place = int(np.searchsorted(self._sorted, number))
        return place < len(self._sorted) and bool(self._sorted[place] == number)


def _check_same(folder: Path, facts: MemoryFacts, maker: Maker) -> None:
    if facts.encoder != maker.facts:
        raise RetrievalError(
            f"the memory {folder} is of the encoder {facts.encoder.name} ({facts.encoder.fingerprint}), not of "
            f"{maker.facts.name} ({maker.facts.fingerprint}); add with that one, or build another memory"
        )
    if facts.patches != maker.patches.name:
        raise RetrievalError(
            f"the memory {folder} is cut as {facts.patches!r}, not as {maker.patches.name!r}; add with the former"
        )


def _recall(folder: Path, facts: MemoryFacts) -> float:
    """What was asked of the index when the memory was built; without its plan, what the index has."""
    plan = read_plan(folder)
    if plan is not None:
        return plan.recall
    return facts.index.recall if facts.index else 1.0


def _without(part: Part, gone: set[str]) -> tuple[str, int]:
    """The name and number of entries of a part that has none of those that are to go."""
    lost = set(part.find(sorted(gone)).values())
    if not lost:
        return part.folder.name, part.count
    rows = [row for row in range(part.count) if row not in lost]
    number, _, times = part.folder.name.partition("-")
    name = f"{number}-{int(times or 0) + 1}"
    vectors = torch.from_numpy(np.array(part.vectors[rows]))
    return name, write_part(part.folder.parent, name, vectors, part.entries(rows), part.fault_list).count


def _schema(memory: Memory) -> pa.Schema:
    columns = [*COLUMNS, ("embedding", pa.list_(pa.float16(), memory.width))]
    said = {"encoder": asdict(memory.facts.encoder), "patches": memory.facts.patches, "corpora": memory.facts.corpora}
    return pa.schema(columns, {"sfumato": json.dumps(said)})


def _batch(part: Part, start: int, schema: pa.Schema) -> pa.RecordBatch:
    rows = range(start, min(start + _BLOCK, part.count))
    entries = [asdict(entry) for entry in part.entries(rows)]
    columns = [pa.array([entry[field.name] for entry in entries], field.type) for field in list(schema)[:-1]]
    flat = pa.array(np.array(part.vectors[rows.start : rows.stop]).ravel(), pa.float16())
    return pa.record_batch([*columns, pa.FixedSizeListArray.from_arrays(flat, part.width)], schema=schema)
