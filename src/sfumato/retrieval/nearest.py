"""The search of an index: the nearest rows of each query, equally near ones in the order of their rows."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from sfumato.retrieval.merge import lists_of
from sfumato.retrieval.recall import EQUAL

__all__ = ["nearest"]

_QUERIES = 4096
_TIED = (1, 32, 1024)


def nearest(index: Any, asked: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The rows with the largest cosines, equal ones (to ``EQUAL``) in the order of the rows.

    Of rows that share the k-th place faiss keeps any. One more than k is searched for, which shows whether there are
    such, and for the few queries that have them so many more as ``_TIED`` says, until all of them are found.

    Args:
        index: of faiss, under the inner product.
        asked: queries (B, D) of length 1.
        count: k, at most the index' rows.

    Returns:
        Rows (B, k) and cosines (B, k) in [-1, 1].
    """
    rows, cosines = np.empty((len(asked), count), np.int64), np.empty((len(asked), count), np.float32)
    left: Any = slice(None)
    for more in _TIED:
        wide = min(count + more, index.ntotal)
        found, near = _searched(index, asked[left], count, wide)
        cut = _order(found, near, count)
        rows[left], cosines[left] = found[:, :count], near[:, :count]
        left = np.arange(len(asked))[left][cut]
        if wide == index.ntotal or not len(left):
            break
    return rows, cosines


def _searched(
    index: Any, asked: NDArray[np.float32], count: int, wide: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Rows (B, wide) and cosines (B, wide), the largest first; the first ``count`` are there."""
    rows, cosines = np.empty((len(asked), wide), np.int64), np.empty((len(asked), wide), np.float32)
    for start in range(0, len(asked), _QUERIES):
        part = slice(start, start + _QUERIES)
        cosines[part], rows[part] = index.search(asked[part], wide)
    short = (rows[:, :count] < 0).any(1)
    if short.any():  # the lists that were looked into hold fewer
        cosines[short], rows[short] = index.search(asked[short], wide, params=_everywhere(index))
    np.clip(cosines, -1, 1, out=cosines, where=rows >= 0)
    return rows, cosines


def _order(rows: NDArray[np.int64], cosines: NDArray[np.float32], count: int) -> NDArray[np.bool_]:
    """Put equal cosines (B, wide), the largest first, in the order of their rows, in place.

    Returns:
        (B,) whether those that share the place ``count`` go on to the end, so that further ones may be missing.
    """
    cut = np.zeros(len(rows), bool)
    some = np.flatnonzero((cosines[:, :-1] - cosines[:, 1:] <= EQUAL).any(1))
    if len(some):
        near = cosines[some]
        groups, largest = np.zeros(near.shape, np.int64), near[:, 0].copy()
        for place in range(1, near.shape[1]):
            less = near[:, place] < largest - EQUAL
            largest[less] = near[less, place]
            groups[:, place] = groups[:, place - 1] + less
        order = np.lexsort((rows[some], groups))
        rows[some], cosines[some] = (np.take_along_axis(each, order, 1) for each in (rows[some], near))
        cut[some] = groups[:, -1] == groups[:, count - 1]
    return cut


def _everywhere(index: Any) -> Any:
    """Parameters of a search that looks into all lists."""
    lists: Any = lists_of(index)
    every = faiss.SearchParametersIVF(nprobe=lists.nlist)  # pyright: ignore[reportCallIssue]
    if not isinstance(index, faiss.IndexRefine):
        return every
    named = {"k_factor": index.k_factor, "base_index_params": every}
    return faiss.IndexRefineSearchParameters(**named)
