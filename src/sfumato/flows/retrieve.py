"""Retrieval: from a query and a memory to the pictures in a context.

    query q:         the embedding of a text or of a picture; or, unasked, of an entry drawn from the proposal p_D
    neighbours:      xi_k(q, D), the k entries with the largest cosines to q
    context C:       q alone | the k neighbours | q and the first k - 1 of them

A class is asked for by a text such as "An image of a dog.", or by a pool: k entries drawn for each picture from the l
nearest. What is drawn belongs to the seed of a picture.

Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, sections 3.2 and 3.3.
Forwards per step: none; an unasked query belongs to itself, as its own first neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sfumato.core.noise import Noise
from sfumato.retrieval.memory import Memory
from sfumato.retrieval.proposal import propose

__all__ = ["Fill", "Recall", "Recalled", "Unasked", "recall", "unasked"]

Fill = Literal["query", "neighbours", "both"]


@dataclass(frozen=True)
class Recall:
    """How a context is filled.

    Args:
        count: k >= 1, pictures in the context.
        fill: "query": q alone; "neighbours": k of the memory; "both": q and k - 1 of the memory.
        pool: l >= k: k are drawn for each picture from the l nearest; 0: the k nearest are taken.

    Raises:
        ValueError: a number out of range, or another fill.
    """

    count: int = 4
    fill: Fill = "neighbours"
    pool: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"a context needs at least one picture, got {self.count}")
        if self.fill not in ("query", "neighbours", "both"):
            raise ValueError(f'a context is filled by "query", "neighbours" or "both", got {self.fill!r}')
        if self.pool and self.pool < self.count:
            raise ValueError(f"{self.count} neighbours cannot be drawn from a pool of {self.pool}; make it larger")

    @property
    def entries(self) -> int:
        """How many entries of the memory are in a context: k, k - 1 or none."""
        return {"query": 0, "neighbours": self.count, "both": self.count - 1}[self.fill]


@dataclass(frozen=True)
class Unasked:
    """The proposal that pictures without a query start from.

    Args:
        share: m in (0, 1]: the share of the memory that the training pictures are nearest to.
        weighted: whether draws follow p_D; otherwise all entries of that share are alike.
        neighbours: k of p_D, how many neighbours of a training picture count as used; that of the context as a rule.
    """

    share: float = 1.0
    weighted: bool = True
    neighbours: int = 4


@dataclass(frozen=True, eq=False)
class Recalled:
    """What is in the contexts of B pictures.

    Args:
        rows: (B, n) int64, the entries of the memory; n may be 0.
        cosines: (B, n) float32, theirs to the query.
        vectors: (B, k, D) float32, the context: the query if it is in it, then the entries.
    """

    rows: Tensor
    cosines: Tensor
    vectors: Tensor


def recall(memory: Memory, queries: Tensor, how: Recall, noise: Noise) -> Recalled:
    """Fill the contexts of B pictures.

    Args:
        memory: the database D.
        queries: (B, D), from the encoder that the memory was made with.
        how: the context is filled.
        noise: one seed a picture, used with a pool only.

    Raises:
        ValueError: more neighbours than the memory has, or queries that do not fit it.
    """
    if len(queries) != len(noise.seeds):
        raise ValueError(f"there are {len(queries)} queries and {len(noise.seeds)} seeds; give one of each a picture")
    queries = queries.detach().cpu().float()
    if not how.entries:
        return Recalled(torch.empty(len(queries), 0, dtype=torch.int64), torch.empty(len(queries), 0), queries[:, None])
    found = memory.search(queries, max(how.pool, how.entries))
    rows, cosines = found.rows, found.cosines
    if how.pool:
        chosen = noise.fork("pool").uniform(rows.shape).argsort(1)[:, : how.entries].sort(1).values
        rows, cosines = rows.gather(1, chosen), cosines.gather(1, chosen)
    vectors = memory.vectors(rows)
    return Recalled(rows, cosines, torch.cat([queries[:, None], vectors], 1) if how.fill == "both" else vectors)


def unasked(memory: Memory, training: Tensor, proposal: Unasked, noise: Noise) -> Tensor:
    """Queries for pictures that nobody described: embeddings of entries drawn from the proposal.

    Args:
        memory: the database D.
        training: (M, D) embeddings of training pictures, or of a sample of them.
        proposal: how entries are drawn.
        noise: one seed a picture.

    Returns:
        (B, D) float32.

    Raises:
        ValueError: a share out of range, or more neighbours than the memory has.

    Paper: Blattmann et al. (2022), arXiv:2204.11824, section 3.3.
    """
    near = memory.search(training, min(proposal.neighbours, len(memory))).rows
    drawn = propose(near, len(memory), proposal.share, weighted=proposal.weighted).draw(noise.fork("proposal"))
    return memory.vectors(drawn)
