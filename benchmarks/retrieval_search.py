"""Searching a memory against raw faiss on the same index file; recall, bytes and seconds of its indexes.

Both sides search the same mapped file for the same queries. Ours normalises them, searches, bounds the cosines and
makes tensors; the peer is given unit vectors and does nothing but search.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import torch
from measure import RESULTS, compared, finish, interleaved, machine, peak_of_child
from torch import Tensor

from sfumato.evaluate.intervals import Interval
from sfumato.evaluate.report import PACKAGES, Cell, Report, installed_versions
from sfumato.machine import usable_threads
from sfumato.retrieval.entry import Entry, digest_of, id_of
from sfumato.retrieval.index import build_index, unit
from sfumato.retrieval.memory import EncoderFacts, Memory, MemoryFacts, write_facts
from sfumato.retrieval.part import write_part

PART, CLUSTERS, DIRECTIONS = 4096, 1000, 32
SHORTEST = 0.2
"""Seconds that a timed run takes at least: shorter searches are repeated in it."""


def clustered(count: int, width: int, seed: int) -> Tensor:
    """Vectors (count, width) around 1000 centres, spread in 32 directions that all have in common, and a little in all.

    A function of width and seed; centres and directions of width alone.
    """
    shape, own = np.random.default_rng(width), np.random.default_rng([width, seed])
    centres = shape.standard_normal((CLUSTERS, width), np.float32)
    directions = shape.standard_normal((DIRECTIONS, width), np.float32) / DIRECTIONS**0.5
    chosen = own.integers(CLUSTERS, size=count)
    spread = 0.7 * own.standard_normal((count, DIRECTIONS), np.float32) @ directions
    return torch.from_numpy(centres[chosen] + spread + 0.1 * own.standard_normal((count, width), np.float32))


def entries_of(first: int, count: int) -> Iterator[Entry]:
    """Entries without thumbnails, whose size is that of the pictures and not of the memory."""
    for number in range(first, first + count):
        source, digest, box = f"{number:09d}.jpg", digest_of(number.to_bytes(8, "little")), (0, 0, 256, 256)
        yield Entry(id_of(source, digest, box), source, digest, box, None, b"")


def write_memory(folder: Path, entries: int, width: int) -> None:
    """A memory without an index, in parts of 4096."""
    parts: list[tuple[str, int]] = []
    for number, first in enumerate(range(0, entries, PART)):
        count = min(PART, entries - first)
        write_part(folder / "parts", f"{number:06d}", clustered(count, width, number), [*entries_of(first, count)])
        parts.append((f"{number:06d}", count))
    write_facts(folder, MemoryFacts(EncoderFacts("none", "0", width, 1), "whole", ("clusters",), tuple(parts), None))


def add_index(folder: Path, kind: str, recall: float) -> Memory:
    """The memory with an index of a kind."""
    memory = Memory.open(folder)
    wanted = 1.0 if kind == "exact" else recall
    facts = build_index(folder, memory.stream, recall=wanted, kind=kind)
    write_facts(folder, replace(memory.facts, index=facts))
    return Memory.open(folder)


def side_by_side(memory: Memory, batch: int, count: int, repeats: int) -> list[Interval | float]:
    """Milliseconds a search of ours and of raw faiss, and their ratio."""
    assert memory.facts.index is not None
    raw = faiss.read_index(str(memory.folder / memory.facts.index.file), faiss.IO_FLAG_MMAP_IFC)
    queries = clustered(batch, memory.width, seed=10**9)
    units = unit(queries).numpy()
    same = np.mean(memory.search(queries, count).rows.numpy() == raw.search(units, count)[1])
    if same < 0.999:
        raise RuntimeError(f"ours and raw faiss agree in {same:.4f} of the rows only")
    begun = time.perf_counter()
    raw.search(units, count)
    loops = max(1, round(SHORTEST / (time.perf_counter() - begun)))

    def often(search: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(loops):
                search()

        return run

    ours, theirs = often(lambda: memory.search(queries, count)), often(lambda: raw.search(units, count))
    seconds = interleaved(ours, theirs, repeats)
    return compared(*(1000 * each / loops for each in seconds))


def resident(folder: Path, batch: int, count: int) -> float:
    """MiB that opening the index and searching it add to a process, mapped pages of the file included."""
    memory = Memory.open(folder)
    queries = clustered(batch, memory.width, seed=10**9)
    before = _resident()
    memory.search(queries, count)
    return _resident() - before


def measured(folder: Path, kind: str, options: argparse.Namespace) -> dict[str, list[Cell]]:
    """The rows of one kind of index."""
    begun = time.perf_counter()
    memory = add_index(folder, kind, options.recall)
    seconds, facts = time.perf_counter() - begun, memory.facts.index
    assert facts is not None
    per_million = 1e6 / options.entries
    rows: dict[str, list[Cell]] = {
        f"{kind}, {batch} at a time, milliseconds a batch": [
            *side_by_side(memory, batch, options.count, options.repeats)
        ]
        for batch in options.batches
    }
    words = ["--resident", str(folder), "--count", str(options.count), "--batches", str(max(options.batches))]
    figures: dict[str, Cell] = {
        "recall@10": Interval(facts.recall, facts.low, facts.high, facts.queries),
        "lists looked into": facts.probes,
        "seconds to build": seconds,
        "MiB on disk for a million": facts.size / 2**20 * per_million,
        "MiB resident for a million": peak_of_child(__file__, words) * per_million,
    }
    return rows | {f"{kind}, {name}": [cell, None, None] for name, cell in figures.items()}


def main() -> None:
    """Measure and print."""
    options = _options()
    if options.resident:
        print(resident(Path(options.resident), max(options.batches), options.count))
        return
    threads = options.threads or usable_threads()
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        begun = time.perf_counter()
        write_memory(folder, options.entries, options.width)
        rows: dict[str, list[Cell]] = {"parts, seconds to write": [time.perf_counter() - begun, None, None]}
        for file in ("vectors.npy", "entries.arrow"):
            size = sum(each.stat().st_size for each in folder.glob(f"parts/*/{file}"))
            rows[f"parts, {file}, MiB on disk for a million"] = [size / 2**20 * 1e6 / options.entries, None, None]
        for kind in options.kinds:
            rows |= measured(folder, kind, options)
    finish(_report(options, rows, threads), "retrieval_search", options.write)


def _report(options: argparse.Namespace, rows: dict[str, list[Cell]], threads: int) -> Report:
    words = [word for word in sys.argv[1:] if word != "--write"]
    return Report(
        title=f"Searching a memory of {options.entries:,} entries of width {options.width}",
        command=" ".join(["python benchmarks/retrieval_search.py", *words]),
        count=options.repeats,
        columns=("ours", "raw faiss", "ratio"),
        rows=rows,
        notes=(
            "Both search the same mapped index file for the same queries, medians; raw faiss is given unit vectors.",
            "Runs are interleaved; the interval of the ratio is the sign test's, over pairs.",
            f"Vectors lie around {CLUSTERS} centres, spread in {DIRECTIONS} directions; queries are new ones of them.",
            "Recall is measured on rows left out of the training, against all others; its interval is Wilson's.",
            "Entries have no captions and no thumbnails.",
            f"Resident: what a batch of {max(options.batches)} adds to a new process, with pages of the file.",
        ),
        settings={
            "machine": machine(),
            "threads": threads,
            "neighbours": options.count,
            "recall asked": options.recall,
        },
        versions=installed_versions((*PACKAGES, "faiss-cpu", "pyarrow")),
    )


def _resident() -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 2**10


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--entries", type=int, default=1_000_000, metavar="N", help="of the memory (1000000)")
    parser.add_argument("--width", type=int, default=512, metavar="N", help="of a vector (512)")
    parser.add_argument("--kinds", nargs="+", default=["exact", "ivf-fp16"], help="of indexes (exact ivf-fp16)")
    parser.add_argument("--recall", type=float, default=0.95, metavar="R", help="of the approximate ones (0.95)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256], metavar="N", help="queries (1 32 256)")
    parser.add_argument("--count", type=int, default=10, metavar="N", help="neighbours of a query (10)")
    parser.add_argument("--repeats", type=int, default=21, metavar="N", help="pairs of runs (21)")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU (all cores in reach)")
    parser.add_argument("--folder", metavar="PATH", help="where the temporary memory is made (that of the system)")
    parser.add_argument("--resident", metavar="PATH", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=f"write the table to {RESULTS.name} in docs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
