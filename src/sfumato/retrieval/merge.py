"""Indexes in the making: trained once, filled in shards wherever their vectors are, and merged.

    coarse = train_coarse(stream, kind)         once, on a sample
    shard = add_shard(coarse, stream_of_some)   anywhere; each for itself
    index = merge_shards(coarse, shards)        in the order of the rows

What is merged is what the same vectors in one shard would have become, byte for byte. ``write_shard`` and
``read_shard`` carry a coarse index and shards between processes.

    exact       float32, every row is compared with the query
    ivf-flat    float32, in lists by the nearest centroid; a search looks into some lists
    ivf-fp16    likewise, float16
    ivf-pq      likewise, a byte for each of up to 64 pieces of a vector; the best are ranked again by float16

Papers: Product Quantization for Nearest Neighbor Search (Jegou et al., 2011): lists and codes; The Faiss library
    (Douze et al., 2024), arXiv:2401.08281, which does the work.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from sfumato.durable import sync
from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.units import Stream

__all__ = [
    "KINDS",
    "add_shard",
    "kind_for",
    "kind_of",
    "lists_of",
    "merge_shards",
    "read_shard",
    "train_coarse",
    "write_shard",
]

KINDS = ("ivf-pq", "ivf-fp16", "ivf-flat", "exact")
"""Kinds of indexes, from the coarsest to the finest."""

_MOST_EXACT, _MOST_FP16 = 100_000, 30_000_000
_LEAST, _MOST_LISTS, _SAMPLE = 1024, 65536, 40
_PIECES, _AGAIN = 64, 16


def kind_for(entries: int, recall: float) -> str:
    """The kind of index for a memory of this size: exact up to 100,000 rows, fp16 up to 30 million, then pq.

    Args:
        entries: rows N.
        recall: that is asked for; 1 is exact whatever the size.
    """
    if recall >= 1 or entries <= _MOST_EXACT:
        return "exact"
    return "ivf-fp16" if entries <= _MOST_FP16 else "ivf-pq"


def train_coarse(stream: Stream, kind: str, *, seed: int = 0, left_out: NDArray[np.int64] | None = None) -> Any:
    """An index without rows that knows its lists: about 4 sqrt(N), the k-means of 40 vectors a list.

    Args:
        stream: all N vectors that will be added, 1,024 or more unless the kind is "exact".
        kind: one of ``KINDS``.
        seed: of the sample and of k-means, >= 0.
        left_out: rows (n,) that are not to be learned from: the queries by which recall will be measured.

    Returns:
        faiss' index; the same stream, seed and versions give the same.

    Raises:
        ValueError: another kind, or too few vectors.
        RetrievalError: as in :meth:`Stream.units`.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no index {kind!r}; there are {', '.join(KINDS)}")
    if kind == "exact":
        return faiss.IndexFlatIP(stream.width)
    if stream.entries < _LEAST:
        raise ValueError(f"an index of lists needs {_LEAST} vectors or more, got {stream.entries}; make an exact one")
    lists = min(round(4 * math.sqrt(stream.entries)), _MOST_LISTS)
    sample = min(_SAMPLE * lists, stream.entries)
    rows = np.random.default_rng(seed).choice(stream.entries, sample, replace=False).astype(np.int64)
    coarse = _untrained(kind, stream.width, lists, seed)
    coarse.train(stream.rows(np.setdiff1d(rows, [] if left_out is None else left_out)))
    return coarse


def add_shard(coarse: Any, stream: Stream) -> Any:
    """A copy of a coarse index with the vectors of a shard in it, as rows 0 to n - 1.

    Args:
        coarse: :func:`train_coarse`; it stays as it is.
        stream: n vectors.

    Raises:
        RetrievalError: as in :meth:`Stream.units`.
    """
    shard = faiss.clone_index(coarse)
    _reserve(shard, stream.entries)
    for _, units in stream.units():
        shard.add(units)
    return shard


def merge_shards(coarse: Any, shards: Iterable[Any]) -> Any:
    """One index of all shards: the rows of each follow those of the one before.

    Args:
        coarse: from which the shards were made; it stays as it is.
        shards: in the order of their rows; read one at a time, and emptied.

    Raises:
        RetrievalError: a shard that was made from another coarse index.
    """
    merged = faiss.clone_index(coarse)
    for number, shard in enumerate(shards):
        if not _same(merged, shard):
            raise RetrievalError(f"shard {number} was made from another coarse index than the one it is merged into")
        _append(merged, shard)
    return merged


def write_shard(index: Any, file: Path) -> tuple[str, int]:
    """Write a coarse index, a shard or a whole index: the file appears whole or not at all.

    Args:
        index: faiss' index.
        file: in place of a former one.

    Returns:
        SHA-256 of the file, and its bytes.

    Raises:
        OSError: it cannot be written.
    """
    fresh, hashed = file.with_name(f".{file.name}.part"), hashlib.sha256()
    try:
        with fresh.open("wb") as stream:

            def write(piece: bytes) -> int:
                hashed.update(piece)
                return stream.write(piece)

            faiss.write_index(index, faiss.PyCallbackIOWriter(write))  # pyright: ignore[reportAttributeAccessIssue]
            stream.flush()
            os.fsync(stream.fileno())
        size = fresh.stat().st_size
        fresh.replace(file)
    finally:
        fresh.unlink(missing_ok=True)
    sync(file.parent)
    return hashed.hexdigest(), size


def read_shard(file: Path, *, mapped: bool = False) -> Any:
    """Read what :func:`write_shard` wrote.

    Args:
        file: faiss' own format; believed, so it must come from where one trusts.
        mapped: leave it on the disk, for searching only.

    Raises:
        RetrievalError: it is missing or damaged.
    """
    try:
        return faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC if mapped else 0)
    except (RuntimeError, MemoryError) as error:
        raise RetrievalError(f"the index {file.name} is missing, damaged or of another version") from error


def lists_of(index: Any) -> Any | None:
    """The part of an index that has lists; None for an exact one."""
    return None if isinstance(index, faiss.IndexFlat) else faiss.try_extract_index_ivf(index)


def kind_of(index: Any) -> str:
    """One of ``KINDS``; the name of its class for an index that was not made here."""
    kinds = {
        faiss.IndexRefine: "ivf-pq",
        faiss.IndexIVFScalarQuantizer: "ivf-fp16",
        faiss.IndexIVFFlat: "ivf-flat",
        faiss.IndexFlat: "exact",
        faiss.IndexFlatIP: "exact",
    }
    return kinds.get(type(index), type(index).__name__)


def _untrained(kind: str, width: int, lists: int, seed: int) -> Any:
    pieces = max(number for number in range(1, min(width, _PIECES) + 1) if width % number == 0)
    codes = {"ivf-flat": "Flat", "ivf-fp16": "SQfp16", "ivf-pq": f"PQ{pieces}np,Refine(SQfp16)"}
    index: Any = faiss.index_factory(width, f"IVF{lists},{codes[kind]}", faiss.METRIC_INNER_PRODUCT)
    ivf: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    training = [ivf.cp]
    if kind == "ivf-fp16":
        ivf.by_residual = False
    elif kind == "ivf-pq":
        index.k_factor = _AGAIN
        training.append(ivf.pq.cp)
    for clustering in training:
        clustering.seed = seed
        clustering.min_points_per_centroid = 1
    return index


def _reserve(index: Any, entries: int) -> None:
    """Room for all rows of an exact index at once, which growth by doubling would take twice."""
    if isinstance(index, faiss.IndexFlat):
        index.codes.resize(entries * index.code_size)
        index.codes.resize(0)


def _same(first: Any, second: Any) -> bool:
    """Whether two indexes are of one kind and have the same lists."""
    lists = [lists_of(index) for index in (first, second)]
    if kind_of(first) != kind_of(second) or first.d != second.d:
        return False
    centroids = [faiss.downcast_index(each.quantizer).reconstruct_n(0, each.nlist) for each in lists if each]
    return not centroids or np.array_equal(*centroids)


def _append(merged: Any, shard: Any) -> None:
    if isinstance(merged, faiss.IndexRefine):
        for name in ("base_index", "refine_index"):
            _append(*(faiss.downcast_index(getattr(each, name)) for each in (merged, shard)))
        merged.ntotal = merged.base_index.ntotal
    else:
        merged.merge_from(shard, merged.ntotal if lists_of(merged) else 0)
