"""The neighbours of training pictures in a memory, computed once, with what must not be among them left out.

    N(x) = the k nearest entries y of D with  digest(y) != digest(x)  and  cos(x, y) <= near

A picture that is its own neighbour teaches a model to copy one embedding, so copies and near-duplicates are passed
over, and a memory that shares pictures with the training set is refused unless that is asked for.

Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.2: neighbours are
    precomputed, and D and X are disjoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.memory import Found

__all__ = ["Searched", "check_disjoint", "neighbours_of"]


class Searched(Protocol):
    """What is needed of a memory here."""

    def __len__(self) -> int:
        """Number of entries."""
        ...

    def search(self, queries: Tensor, count: int) -> Found:
        """The ``count`` nearest entries to each of the queries (B, D)."""
        ...

    def digests(self) -> list[str]:
        """The digest of the picture behind each entry."""
        ...


def check_disjoint(memory: Searched, digests: Sequence[str]) -> None:
    """See that a memory has none of the pictures of a training set.

    Args:
        memory: the database D.
        digests: of the training set's picture files (``entry.digest_of``).

    Raises:
        RetrievalError: it has; the sentence says how many, and what to do.
    """
    there = set(memory.digests()) & set(digests)
    if there:
        raise RetrievalError(
            f"{len(there)} of the {len(set(digests))} training pictures are in the memory as well (such as "
            f"{min(there)}), and a model that finds its own picture learns to copy; build the memory from others (of "
            "the emoji world: of another style), take them out by `sfumato memory remove`, or train without them"
        )


def neighbours_of(
    memory: Searched,
    vectors: Tensor,
    count: int,
    *,
    digests: Sequence[str] | None = None,
    near: float = 0.9995,
    batch: int = 4096,
) -> Tensor:
    """The nearest entries of each picture, without copies and near-duplicates of it.

    Args:
        memory: the database D.
        vectors: (N, D) embeddings of the pictures, of any length but 0.
        count: k, how many each; store more than are used in training.
        digests: of the N picture files, whose copies are left out; None: none are known.
        near: cosine above which an entry is a near-duplicate, in (0, 1]; 1 leaves none out.
        batch: pictures searched at a time.

    Returns:
        (N, k) int64 rows, the nearest first.

    Raises:
        ValueError: another number of digests than vectors, or ``near`` out of range.
        RetrievalError: some picture has fewer than k neighbours left.

    Paper: Blattmann et al. (2022), arXiv:2204.11824, section 3.2: 20 are stored and 4 used.
    """
    if digests is not None and len(digests) != len(vectors):
        raise ValueError(f"there are {len(vectors)} vectors and {len(digests)} digests; give one for each")
    if not 0 < near <= 1:
        raise ValueError(f"near must lie in (0, 1], got {near}")
    copies = _Copies(memory, digests)
    parts = [
        _filtered(memory, vectors[start : start + batch], count, near, copies.of(start, batch))
        for start in range(0, len(vectors), batch)
    ]
    return torch.cat(parts)


def _filtered(memory: Searched, queries: Tensor, count: int, near: float, copies: list[set[int]]) -> Tensor:
    """The first ``count`` that are allowed, from as many candidates as that takes."""
    wanted = min(len(memory), count + 8)
    while True:
        found = memory.search(queries, wanted)
        allowed = found.cosines <= near
        for row, own in enumerate(copies):
            if own:
                allowed[row] &= ~torch.isin(found.rows[row], torch.tensor(sorted(own)))
        if bool((allowed.sum(1) >= count).all()):
            # a stable sort puts what is allowed first, in its order
            first = (~allowed).to(torch.int8).argsort(dim=1, stable=True)[:, :count]
            return found.rows.gather(1, first)
        if wanted == len(memory):
            fewest = int(allowed.sum(1).min())
            raise RetrievalError(
                f"a picture has only {fewest} neighbours in the memory that are no copies of it, and {count} are "
                "wanted; build a larger memory, or ask for fewer"
            )
        wanted = min(len(memory), 4 * wanted)


class _Copies:
    """Which rows of a memory are copies of which pictures."""

    def __init__(self, memory: Searched, digests: Sequence[str] | None) -> None:
        self.digests = digests
        self.rows: dict[str, set[int]] = {}
        wanted = set(digests or ())
        for row, digest in enumerate(memory.digests() if wanted else ()):
            if digest in wanted:
                self.rows.setdefault(digest, set()).add(row)

    def of(self, start: int, count: int) -> list[set[int]]:
        """The rows that are copies of each of ``count`` pictures from ``start`` on."""
        return [self.rows.get(digest, set()) for digest in (self.digests or ())[start : start + count]]
