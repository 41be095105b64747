"""How many of the true nearest an approximate index finds, measured on rows of the memory itself.

    recall@k = mean over queries of |found k nearest and true k nearest| / k

The queries are drawn by a seed, their own rows do not count, and the truth is computed exactly over all rows, block by
block. Rows as near as the k-th, such as further copies of a picture, are as good as it.

Papers: Product Quantization for Nearest Neighbor Search (Jegou et al., 2011), section V: recall; Probable Inference,
    the Law of Succession, and Statistical Inference (Wilson, 1927): its interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from sfumato.retrieval.units import Stream

__all__ = ["EQUAL", "Recall", "Truth", "fewest_probes", "truth_of"]

_TIED = 50
EQUAL = 1e-6
"""Cosines that differ by less are equal: copies of a vector come out with others in their last bits."""
_Z = 1.959964


@dataclass(frozen=True)
class Recall:
    """A measured recall.

    Args:
        share: of the true ``count`` nearest that were found, in [0, 1].
        low: lower bound of the 95 % interval.
        high: upper bound.
        count: k.
        queries: that it was measured on.
    """

    share: float
    low: float
    high: float
    count: int
    queries: int


@dataclass(frozen=True, eq=False)
class Truth:
    """What an exact search finds.

    Args:
        queries: (Q, D), length 1.
        rows: (Q,) of the queries themselves; they rise.
        nearest: (Q, K) rows as near as the ``count``-th or nearer, without the query's own; -1 where there is none.
        count: k <= K.
    """

    queries: NDArray[np.float32]
    rows: NDArray[np.int64]
    nearest: NDArray[np.int64]
    count: int

    def recall(self, search: Callable[[NDArray[np.float32], int], NDArray[np.int64]]) -> Recall:
        """The recall of a search with its interval.

        The interval is Wilson's with each query as one trial. It is too wide rather than too narrow: shares in [0, 1]
        vary at most as much as a coin of the same mean.

        Args:
            search: queries (Q, D) of length 1, k -> rows (Q, k), the nearest first.
        """
        found = search(self.queries, self.count + 1)
        found = _without(self.rows, found, found)[:, : self.count]
        right = (found[:, :, None] == self.nearest[:, None, :]).any(2) & (found >= 0)
        queries, share = len(found), float(right.mean())
        low, high = _wilson(share, queries)
        return Recall(share, low, high, self.count, queries)


def truth_of(stream: Stream, *, count: int = 10, queries: int = 1000, seed: int = 0) -> Truth:
    """Draw queries among the rows and search for them exactly, with the memory of a block at a time.

    Args:
        stream: N vectors, N > count.
        count: k >= 1.
        queries: how many; a quarter of N if that is less, so that lists can be learned from the others.
        seed: of the draw, >= 0.

    Raises:
        ValueError: too few rows, or numbers out of range.
        RetrievalError: as in :meth:`Stream.units`.
    """
    if not 1 <= count < stream.entries or queries < 1:
        raise ValueError(f"cannot measure recall@{count} on {queries} queries and {stream.entries} rows")
    most = max(stream.entries // 4, 1)
    own = np.sort(np.random.default_rng(seed).choice(stream.entries, min(queries, most), replace=False))
    asked, kept = stream.rows(own), count + 1 + _TIED
    rows = np.full((len(own), kept), -1, np.int64)
    cosines = np.full((len(own), kept), -np.inf, np.float32)
    for first, units in stream.units():
        near, places = faiss.knn(asked, units, min(kept, len(units)), metric=faiss.METRIC_INNER_PRODUCT)
        near, near_rows = np.hstack((cosines, near)), np.hstack((rows, places + first))
        best = np.argsort(-near, axis=1, kind="stable")[:, :kept]
        cosines, rows = np.take_along_axis(near, best, 1), np.take_along_axis(near_rows, best, 1)
    rows, cosines = _without(own, rows, rows), _without(own, rows, cosines)
    near_enough = cosines >= cosines[:, count - 1 : count] - EQUAL
    return Truth(asked, own, np.where(near_enough, rows, -1), count)


def fewest_probes(recall_at: Callable[[int], Recall], lists: int, wanted: float) -> tuple[int, Recall] | None:
    """The smallest number of lists that must be looked into, found by doubling and then halving.

    Args:
        recall_at: number of lists -> recall; more lists find more.
        lists: all of them.
        wanted: recall, in (0, 1].

    Returns:
        the number with its recall; None if even all lists do not suffice.
    """
    short, enough = 0, 1
    while (found := recall_at(enough)).share < wanted:
        if enough == lists:
            return None
        short, enough = enough, min(2 * enough, lists)
    while enough - short > 1:
        middle = (short + enough) // 2
        tried = recall_at(middle)
        if tried.share < wanted:
            short = middle
        else:
            enough, found = middle, tried
    return enough, found


def _without(own: NDArray[np.int64], rows: NDArray[np.int64], values: NDArray[Any]) -> NDArray[Any]:
    """Values (Q, K) of rows (Q, K) without that of the query's own row: (Q, K - 1), the last if it is not there."""
    others = np.argsort(rows == own[:, None], axis=1, kind="stable")[:, :-1]
    return np.take_along_axis(values, others, 1)


def _wilson(share: float, count: int) -> tuple[float, float]:
    scale = 1 + _Z * _Z / count
    centre = share + _Z * _Z / (2 * count)
    reach = _Z * math.sqrt(share * (1 - share) / count + _Z * _Z / (4 * count * count))
    return max((centre - reach) / scale, 0.0), min((centre + reach) / scale, 1.0)
