"""The proposal: which entry of a memory an unconditional picture starts from.

A retrieval-augmented model without a query draws one: an entry y of D, whose neighbours (itself the first) become the
context. With xi_k(x, D) the k nearest entries of a training picture x of X,

    p_D(y) = |{x in X : y in xi_k(x, D)}| / (k |X|)                 sums to 1 over D

    top-m:  the share m of D with the largest p_D, renormalised      small m: typical; large m: diverse

Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.3.
Differs from the released code: it draws uniformly from the top-m list, and takes m as a share of the entries that were
used at all; here, as in the paper, draws follow p_D and m is a share of D. ``weighted=False`` draws uniformly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.noise import Noise

__all__ = ["Proposal", "propose"]


@dataclass(frozen=True, eq=False)
class Proposal:
    """A distribution over some entries of a memory.

    Args:
        rows: (M,) int64, different, the likeliest first.
        shares: (M,) float64, > 0, summing to 1.
    """

    rows: Tensor
    shares: Tensor

    def draw(self, noise: Noise) -> Tensor:
        """One entry an image, (B,) int64: a function of each image's seed alone.

        Args:
            noise: one seed an image.
        """
        ladder = self.shares.cumsum(0)
        drawn = noise.uniform((len(noise.seeds),)) * ladder[-1]
        return self.rows[torch.searchsorted(ladder, drawn, right=True).clamp(max=len(self.rows) - 1)]


def propose(neighbours: Tensor, entries: int, share: float = 1.0, *, weighted: bool = True) -> Proposal:
    """The proposal that a training set makes of a memory.

    Args:
        neighbours: (|X|, k) int64, the rows of xi_k(x, D) of each training picture.
        entries: |D|, number of entries of the memory.
        share: m in (0, 1], the share of D that is kept; at least one entry is.
        weighted: whether draws follow p_D; otherwise all kept entries are alike.

    Returns:
        the kept entries; with ``weighted`` without those that no training picture is near to.

    Raises:
        ValueError: no neighbours, one that the memory does not have, or a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of the memory that is kept must lie in (0, 1], got {share}")
    if neighbours.ndim != 2 or not neighbours.numel():
        raise ValueError(f"needs the neighbours (|X|, k) of training pictures, got shape {tuple(neighbours.shape)}")
    if int(neighbours.min()) < 0 or int(neighbours.max()) >= entries:
        raise ValueError(f"the neighbours are rows of another memory: this one has {entries} entries")
    used = torch.bincount(neighbours.flatten(), minlength=entries)
    order = used.argsort(descending=True, stable=True)[: math.ceil(share * entries - 1e-9)]
    if not weighted:
        return Proposal(order, torch.full((len(order),), 1 / len(order), dtype=torch.float64))
    order = order[used[order] > 0]
    return Proposal(order, used[order].double() / used[order].sum())
