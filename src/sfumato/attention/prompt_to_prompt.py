"""Prompt-to-prompt: rewrite a prompt and keep the picture, by giving the rewrite the attention maps of its source.

Source and rewrite are images of one branch and walk from the same noise. While a window lasts, the rewrite's maps M*
give way to those of the source, M, moved to the rewrite's tokens by an alignment A (see ``alignment``):

    cross-attention   M_hat = M A where a token is known, M* elsewhere;   then M_hat_j <- c_j M_hat_j
    self-attention    M_hat = M, on small grids

The values stay those of the rewrite, so what changes is what is seen, not where. The source is never edited, nor does
it get a gradient from its rewrites. Edits of different tokens therefore never meet, and a window of its own for a word
is one more :class:`CrossInjection` for the columns of that word.

Combines with: edits of context and scores; edits of maps run before these or after them, in the order given.
Forwards per step: 1, as part of its branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.attention.alignment import Alignment, Pair, check_pairs
from sfumato.core.attention import AttentionEdit, Site
from sfumato.core.level import Level

__all__ = ["CrossInjection", "Reweighting", "SelfInjection", "check_window", "cross_edits"]


def check_window(until: float) -> None:
    """See that a window ends at a share of the path.

    Raises:
        ValueError: it does not.
    """
    if not 0 <= until <= 1:
        raise ValueError(f"a window must end at a share of the path, in [0, 1], got {until}")


@dataclass(frozen=True, eq=False)
class CrossInjection(AttentionEdit):
    """Gives rewrites the cross-attention maps of their sources.

    Args:
        alignment: which token gets whose map; tokens that are not known keep their own.
        until: end of the window, a share of the path in [0, 1]; of S steps, the first ``until * S``, rounded up.

    Raises:
        ValueError: until out of range.

    Paper: Prompt-to-Prompt Image Editing with Cross Attention Control (Hertz et al., 2022), arXiv:2208.01626,
        section 3.2, "word swap" and "adding a new phrase".
    Differs from the paper: the authors' code walks the first int(until * (S + 1)) steps, which are as many or one less.
    """

    alignment: Alignment
    until: float = 0.8

    def __post_init__(self) -> None:
        check_window(self.until)

    def active(self, level: Level) -> bool:
        """Whether the window lasts."""
        return level.progress is None or level.progress < self.until

    def applies(self, site: Site) -> bool:
        """Whether this is cross-attention."""
        return site.kind == "cross"

    def weights(self, weights: Tensor, site: Site) -> Tensor:
        """The maps (B, H, Q, K), those of the rewrites changed."""
        matrix, known = self.alignment.matrix.to(weights), self.alignment.known.to(weights.device)
        sources, rewrites = _images(self.alignment.pairs)
        columns = slice(matrix.shape[-1])
        moved = weights[sources, :, :, columns].detach() @ matrix[:, None]
        edited = weights.clone()
        edited[rewrites, :, :, columns] = moved.where(known[:, None, None], weights[rewrites, :, :, columns])
        return edited


@dataclass(frozen=True)
class SelfInjection(AttentionEdit):
    """Gives rewrites the self-attention maps of their sources, which carry shapes.

    Args:
        pairs: sources and their rewrites.
        until: end of the window, a share of the path in [0, 1]; of S steps, the first ``until * S``, rounded up.
        largest: layers on a grid with a longer side than this, in latent pixels, are left alone; >= 1. 16 as in the
            authors' first notebook, 32 in that of null-text inversion. ``flows.rewrite`` gives a quarter of the longer
            side of the latents, at least 16: SDXL has no grid as small as 16 x 16.

    Raises:
        ValueError: until or largest out of range, or pairs that are no pairs; by the model, where every grid is larger.

    Paper: Prompt-to-Prompt Image Editing with Cross Attention Control (Hertz et al., 2022), arXiv:2208.01626; in the
        authors' code for Stable Diffusion, not in the text.
    Differs from the paper: where until * S is no whole number, its first int(until * S) steps are one less.
    """

    pairs: tuple[Pair, ...]
    until: float = 0.4
    largest: int = 16

    def __post_init__(self) -> None:
        check_window(self.until)
        check_pairs(self.pairs)
        if self.largest < 1:
            raise ValueError(f"largest must be at least 1, got {self.largest}")

    def active(self, level: Level) -> bool:
        """Whether the window lasts."""
        return level.progress is None or level.progress < self.until

    def applies(self, site: Site) -> bool:
        """Whether this is self-attention on a grid that is small enough."""
        return site.kind == "self" and max(site.grid) <= self.largest

    def weights(self, weights: Tensor, site: Site) -> Tensor:
        """The maps (B, H, Q, K), those of the rewrites changed."""
        sources, rewrites = _images(self.pairs)
        edited = weights.clone()
        edited[rewrites] = weights[sources].detach()
        return edited


@dataclass(frozen=True, eq=False)
class Reweighting(AttentionEdit):
    """Multiplies the cross-attention maps of tokens: more than 1 strengthens a word, less weakens it, 0 removes it.

    Maps are not normalised again, so that the attention to other words stays as it is.

    Args:
        factors: c of each token of each image, (B, L), finite; 1 changes nothing. The paper goes from -2 to 2.
        until: end of the window, a share of the path in [0, 1]; of S steps, the first ``until * S``, rounded up.

    Raises:
        ValueError: until out of range, or factors of another shape or infinite.

    Paper: Prompt-to-Prompt Image Editing with Cross Attention Control (Hertz et al., 2022), arXiv:2208.01626,
        section 3.2, "attention re-weighting".
    """

    factors: Tensor
    until: float = 0.8

    def __post_init__(self) -> None:
        check_window(self.until)
        if self.factors.ndim != 2 or not bool(self.factors.isfinite().all()):
            shape = tuple(self.factors.shape)
            raise ValueError(f"factors must be finite numbers (B, L), one a token, got shape {shape}")

    def active(self, level: Level) -> bool:
        """Whether the window lasts."""
        return level.progress is None or level.progress < self.until

    def applies(self, site: Site) -> bool:
        """Whether this is cross-attention."""
        return site.kind == "cross"

    def weights(self, weights: Tensor, site: Site) -> Tensor:
        """The maps (B, H, Q, K), multiplied."""
        more = weights.shape[-1] - self.factors.shape[-1]
        return weights * F.pad(self.factors.to(weights), (0, more), value=1.0)[:, None, None]


def cross_edits(alignment: Alignment, until: Tensor, factors: Tensor) -> tuple[AttentionEdit, ...]:
    """The edits of cross-attention for windows and factors that differ from word to word.

    For each window an injection of its tokens and, where a factor is not 1, a reweighting of them. Columns of different
    windows are disjoint and sources unedited, so the edits together are exactly the edit with a window a token.

    Args:
        alignment: of P rewrites, whose tokens are L each.
        until: end of the window of each token, (B, L), in [0, 1], float64; 0 for none. Rows of sources do not count.
        factors: of each token, (B, L), float32; rows of sources do not count.

    Returns:
        the edits, in the order in which they are to run.

    Raises:
        ValueError: a setting out of range.
    """
    _, rewrites = _images(alignment.pairs)
    edits: list[AttentionEdit] = []
    for end in sorted({float(each) for each in until[rewrites].flatten()} - {0.0}):
        inside = until == end
        edits.append(CrossInjection(alignment.only(inside[rewrites].to(alignment.known.device)), end))
        changed = torch.ones_like(factors)
        changed[rewrites] = factors.where(inside, 1.0)[rewrites]
        if bool((changed != 1).any()):
            edits.append(Reweighting(changed.to(alignment.matrix.device), end))
    return tuple(edits)


def _images(pairs: Sequence[Pair]) -> tuple[list[int], list[int]]:
    return [source for source, _ in pairs], [rewrite for _, rewrite in pairs]
