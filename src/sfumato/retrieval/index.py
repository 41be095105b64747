"""The index of a memory: the rows with the largest cosines to a query, exactly or nearly so.

A small memory is searched exactly. For a large one the rows lie in lists and a search looks into some of them: the
fewest by which a wanted share of the nearest is found, which is measured for each index and never assumed.

Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.1: xi_k by cosine.
Differs from the paper: faiss instead of ScaNN, lists chosen by measured recall instead of a fixed twentieth of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor

from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.merge import (
    KINDS,
    add_shard,
    kind_for,
    kind_of,
    lists_of,
    read_shard,
    train_coarse,
    write_shard,
)
from sfumato.retrieval.nearest import nearest
from sfumato.retrieval.recall import Recall, Truth, fewest_probes, truth_of
from sfumato.retrieval.units import Stream, unit

__all__ = ["Fill", "Index", "IndexFacts", "build_index", "finish_index", "open_index", "unit"]

Fill = Callable[[Any, Stream], Any]
"""From an index that knows its lists and a stream to one with its vectors, as ``merge.add_shard``."""

_NAME = re.compile(r"index-[0-9a-f]{16}\.faiss")
_EXACT = Recall(share=1.0, low=1.0, high=1.0, count=0, queries=0)


@dataclass(frozen=True)
class IndexFacts:
    """What is known of an index.

    Args:
        file: name of its file in the memory's folder.
        digest: SHA-256 of that file.
        size: of that file in bytes.
        kind: one of ``merge.KINDS``.
        entries: rows N.
        width: D.
        recall: share of the true ``count`` nearest that it finds, measured; 1 for an exact one.
        low: lower bound of the recall's 95 % interval.
        high: upper bound.
        count: at which recall was measured; 0 for an exact one.
        queries: on how many queries; 0 for an exact one.
        probes: lists that a search looks into; 0 for an exact one.

    Raises:
        TypeError, ValueError: a value of another type, or out of range.
    """

    file: str
    digest: str
    size: int
    kind: str
    entries: int
    width: int
    recall: float
    low: float
    high: float
    count: int
    queries: int
    probes: int

    def __post_init__(self) -> None:
        table: dict[str, Any] = asdict(self)
        texts, shares = ("file", "digest", "kind"), ("recall", "low", "high")
        right = all(isinstance(table.pop(name), str) for name in texts)
        right &= all(0 <= table.pop(name) <= 1 for name in shares)
        right &= all(type(number) is int and number >= 0 for number in table.values())
        if not right:
            raise ValueError("what is said of its index cannot be")


@dataclass(frozen=True, eq=False)
class Index:
    """An index in memory: ``faiss`` holds unit vectors under the inner product, in the order of the rows.

    What is found does not depend on which queries share a call, nor on threads, to within the rounding of cosines.
    """

    faiss: Any
    facts: IndexFacts

    def search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The rows with the largest cosines, the largest first, and of equal ones the smallest row first.

        Equal are cosines within 1e-6 of the largest of them: those of copies of a vector may differ in the last bits.
        So too at the last place, if at most a thousand rows share it; of more, some are found.

        Args:
            queries: (B, D) float32 of length 1.
            count: how many each, k in [1, N]. The recall of the facts holds for their own count.

        Returns:
            rows (B, k) int64 and cosines (B, k) float32 in [-1, 1]; where an index keeps float16, to within 2**-11.

        Raises:
            ValueError: queries of another shape, or count out of range.
        """
        if queries.ndim != 2 or queries.shape[1] != self.facts.width:
            raise ValueError(f"queries must be (B, {self.facts.width}), got shape {tuple(queries.shape)}")
        if not 1 <= count <= self.facts.entries:
            raise ValueError(f"the index has {self.facts.entries} entries; cannot find {count} of them")
        asked = np.ascontiguousarray(queries.detach().cpu().numpy(), np.float32)
        rows, cosines = nearest(self.faiss, asked, count)
        return torch.from_numpy(rows), torch.from_numpy(cosines)


def build_index(
    folder: Path,
    stream: Stream,
    *,
    recall: float = 1.0,
    seed: int = 0,
    kind: str | None = None,
    fill: Fill = add_shard,
) -> IndexFacts:
    """Build, measure and write an index.

    Where even all lists of a kind do not reach the recall, the next finer kind is built; the facts say which it became.
    The same blocks, seed and versions give the same file.

    Args:
        folder: that gets the file, named by its hash.
        stream: all N vectors, N >= 1, in the order of their rows.
        recall: share of the 10 nearest that is to be found, in (0, 1]; 1 gives an exact index.
        seed: of samples, queries and k-means, >= 0.
        kind: to begin with, one of ``merge.KINDS``; None: chosen by size.
        fill: puts the vectors into an index that knows its lists; several machines do it in shards, which they merge.

    Returns:
        the facts for memory.json.

    Raises:
        ValueError: no entries, a recall out of range, or a kind that does not fit.
        RetrievalError: a vector is 0 or not finite, named by its row; or there are other vectors than was said.
        OSError: the file cannot be written.
    """
    if stream.entries < 1 or not 0 < recall <= 1:
        raise ValueError(f"an index needs entries and a recall in (0, 1], got {stream.entries} and {recall}")
    first = kind or kind_for(stream.entries, recall)
    if first not in KINDS or (recall == 1 and first != "exact"):
        raise ValueError(f"an index {first!r} with a recall of {recall:g}: there are {', '.join(KINDS)}; 1 is exact")
    if first != "exact":
        truth = truth_of(stream, seed=seed)
        for each in KINDS[KINDS.index(first) : -1]:
            coarse = train_coarse(stream, each, seed=seed, left_out=truth.rows)
            facts = finish_index(folder, fill(coarse, stream), truth, recall)
            if facts is not None:
                return facts
    return _written(folder, fill(train_coarse(stream, "exact"), stream), _EXACT)


def finish_index(folder: Path, index: Any, truth: Truth, recall: float) -> IndexFacts | None:
    """Choose how many lists a search looks into, measure, and write; for an index that ``merge`` made.

    The recall is that on the queries by which the number of lists was chosen.

    Args:
        folder: that gets the file, named by its hash.
        index: faiss' index with all rows; its number of lists to look into is set. One that is exact is written as
            it is.
        truth: by which it is measured.
        recall: share of the nearest that is to be found, in (0, 1].

    Returns:
        the facts for memory.json; None, and no file, if all lists together find less.

    Raises:
        OSError: the file cannot be written.
    """
    lists = lists_of(index)
    if lists is None:
        return _written(folder, index, _EXACT)

    def recall_at(probes: int) -> Recall:
        lists.nprobe = probes
        return truth.recall(lambda queries, count: nearest(index, queries, count)[0])

    reached = fewest_probes(recall_at, lists.nlist, recall)
    if reached is None:
        return None
    lists.nprobe, measured = reached
    return _written(folder, index, measured)


def open_index(folder: Path, facts: IndexFacts) -> Index:
    """Map an index file into memory.

    Its size and what its header says are compared with the facts; its hash, which takes as long as reading it, is not:
    that is for ``verify``.

    Args:
        folder: that holds the file.
        facts: of the index.

    Raises:
        RetrievalError: the file is missing or damaged, its name leads elsewhere, or it is not the index of the facts.
    """
    if not _NAME.fullmatch(facts.file):
        raise RetrievalError(f"an index cannot be called {facts.file[:40]!r}")
    file = folder / facts.file
    if not file.is_file():
        raise RetrievalError(f"{facts.file} of {folder.name} is missing; `sfumato memory build` makes it again")
    if file.stat().st_size != facts.size:
        raise RetrievalError(f"{facts.file} has {file.stat().st_size} bytes and not {facts.size}; it is damaged")
    index = read_shard(file, mapped=True)
    lists = lists_of(index)
    found = (kind_of(index), index.ntotal, index.d, 0 if lists is None else lists.nprobe)
    said = (facts.kind, facts.entries, facts.width, facts.probes)
    if found != said or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise RetrievalError(f"{facts.file} is not the index of this memory: it is {found} and not {said}")
    return Index(index, facts)


def _written(folder: Path, index: Any, measured: Recall) -> IndexFacts:
    """Write an index under the name of its hash."""
    fresh = folder / ".index"
    digest, size = write_shard(index, fresh)
    file, lists = f"index-{digest[:16]}.faiss", lists_of(index)
    fresh.replace(folder / file)
    return IndexFacts(
        file=file,
        digest=digest,
        size=size,
        kind=kind_of(index),
        entries=index.ntotal,
        width=index.d,
        recall=measured.share,
        low=measured.low,
        high=measured.high,
        count=measured.count,
        queries=measured.queries,
        probes=0 if lists is None else lists.nprobe,
    )
