"""What cross-attention attends to: the branch's own context changed, and further ones beside it, each by itself.

    O = share_0 softmax(Q K^T / sqrt(d)) V + sum over i of share_i softmax(Q K_i^T / sqrt(d)) V_i,   all shares sum to 1

The keys and values of the N further contexts are put after the branch's own, and one softmax runs over all of them. It
gives exp(s) / Z with one Z; divided by its sum over a context, Z cancels, and what is left is that context's own
softmax. So each part of the map is divided by its own sum and multiplied by its share. Before the softmax each
context's scores are moved until its largest is the branch's largest, which cancels in the same way and keeps every sum
away from 0.

Combines with: any edit; put ``Contexts`` before edits of maps, so that they see the mixed ones, in which the first K
columns are still those of the branch's own tokens and sum to share_0. One such edit a branch: it takes the last columns
for its own.
Forwards per step: 1, as part of its branch; a map more a context in each layer.

Papers: those of ``structure`` (Feng et al., 2022, arXiv:2212.05032) and ``regions`` (Gu et al., 2023,
    arXiv:2305.18292), which mix contexts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.core.attention import AttentionEdit, Site
from sfumato.core.image import area
from sfumato.core.level import Level

__all__ = ["AddedStates", "Contexts"]


@dataclass(frozen=True, eq=False)
class AddedStates(AttentionEdit):
    """Adds to what a branch attends to, in all cross-attention, which stays fused.

    Args:
        keys: added to what keys are made of, (B, L, D); None: nothing.
        values: added to what values are made of, (B, L, D); None: nothing.
    """

    keys: Tensor | None = None
    values: Tensor | None = None

    def active(self, level: Level) -> bool:
        """Whether anything is added."""
        return self.keys is not None or self.values is not None

    def applies(self, site: Site) -> bool:
        """Whether this is a cross-attention layer."""
        return site.kind == "cross"

    def context(self, keys: Tensor, values: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        """Keys and values (B, K, D), the first L of them changed."""
        return _plus(keys, self.keys), _plus(values, self.values)


@dataclass(frozen=True, eq=False)
class Contexts(AttentionEdit):
    """N further contexts beside the branch's own; not active where N = 0.

    Args:
        keys: what keys are made of, (B, N, L, D).
        values: what values are made of, (B, N, L, D).
        valid: (B, N, L) bool, True where a token is valid; a context that an image does not have is False throughout.
        shares: (B, N + 1, H, W), >= 0, the branch's own context first; over contexts they sum to 1 at each position.
            Averaged by area to each layer's grid; H = W = 1 is the same share everywhere.
        own: what is added to the branch's own context.

    Raises:
        ValueError: shapes that do not go together, or shares that do not sum to 1.
    """

    keys: Tensor
    values: Tensor
    valid: Tensor
    shares: Tensor
    own: AddedStates = AddedStates()
    grows = True

    def __post_init__(self) -> None:
        images, contexts = self.keys.shape[:2]
        shapes = (self.values.shape, self.valid.shape, self.shares.shape[:2])
        if shapes != (self.keys.shape, self.keys.shape[:3], (images, contexts + 1)) or self.shares.ndim != 4:
            raise ValueError(
                "needs keys and values (B, N, L, D), valid (B, N, L) and shares (B, N + 1, H, W), got "
                f"{tuple(self.keys.shape)}, {', '.join(str(tuple(shape)) for shape in shapes)}"
            )
        if not (self.shares.sum(dim=1) - 1).abs().max() < 1e-4 or self.shares.min() < 0:
            raise ValueError("the shares of contexts must be at least 0 and sum to 1 at each position")

    def active(self, level: Level) -> bool:
        """Whether there is a further context."""
        return self.keys.shape[1] > 0

    def applies(self, site: Site) -> bool:
        """Whether this is a cross-attention layer."""
        return site.kind == "cross"

    def context(self, keys: Tensor, values: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        """Keys and values (B, K, D) with those of the further contexts after them, (B, K + N L, D)."""
        keys, values = self.own.context(keys, values, site)
        return _followed(keys, self.keys), _followed(values, self.values)

    def scores(self, scores: Tensor, site: Site, ratio: Tensor) -> Tensor:
        """Scores (B, H, Q, K + N L): padding masked, and each further context moved to the same largest score."""
        own, further = self._parts(scores)
        valid, lowest = self.valid[:, None, None].to(scores.device), torch.finfo(scores.dtype).min
        peaks = torch.where(valid, further, lowest).amax(dim=-1, keepdim=True)
        moved = further + (own.amax(dim=-1)[..., None, None] - peaks).detach()
        return torch.cat([own, torch.where(valid, moved, lowest).flatten(-2)], dim=-1)

    def weights(self, weights: Tensor, site: Site) -> Tensor:
        """Maps (B, H, Q, K + N L): each context's divided by their sum and multiplied by its share."""
        own, further = self._parts(weights)
        shares = area(self.shares.to(weights), *site.grid)
        shares = shares.flatten(2).transpose(1, 2)[:, None, ..., None]
        mixed = (shares[..., 1:, :] * _normal(further)).flatten(-2)
        return torch.cat([shares[..., 0, :] * _normal(own), mixed], dim=-1)

    def _parts(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        """The branch's own columns (B, H, Q, K), and those of the further contexts (B, H, Q, N, L)."""
        count, length = self.keys.shape[1:3]
        own, further = columns.tensor_split([columns.shape[-1] - count * length], dim=-1)
        return own, further.unflatten(-1, (count, length))


def _plus(states: Tensor, change: Tensor | None) -> Tensor:
    if change is None:
        return states
    return states + F.pad(change.to(states), (0, 0, 0, states.shape[1] - change.shape[1]))


def _followed(own: Tensor, further: Tensor) -> Tensor:
    return torch.cat([own, further.flatten(1, 2).to(own)], dim=1)


def _normal(weights: Tensor) -> Tensor:
    """The weights divided by their sum; zeros, which a context that an image does not have is given, stay zeros."""
    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
