"""Paint-with-words: say where in the picture a phrase shall be, by raising its attention there.

In each cross-attention layer, before softmax, with S the scaled scores and A (Q, L) how far position i is painted for
token j, times the painting's weight:

    S + strength * log(1 + ratio) * max(S) * A

ratio is sigma / alpha, the sigma of the paper, so that paint acts at noisy levels, where places are decided, and fades
at clean ones. The factor max(S) brings paint to the scale of a layer's scores. It is positive in trained layers; in one
where it were not, paint would repel. The mask is averaged over each cell of a layer's grid, so that the painted area is
the same in all layers.

Combines with: any mix, for other branches are not painted; any other edit, in the order given.
Forwards per step: 1, as part of its branch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.core.attention import AttentionEdit, Site
from sfumato.core.image import area, check_masks
from sfumato.encoders.text import EncodedText, TextEncoder, one_each

__all__ = ["PaintWithWords", "Painted", "Painting"]

_LARGEST_RATIO = 80.0
"""EDM's largest sigma: paths that begin at alpha = 0 begin with an infinite ratio."""


@dataclass(frozen=True, eq=False)
class Painted:
    """A phrase and where it shall be.

    Args:
        phrase: whole words of the prompt, for all pictures or one a picture; all their tokens at all their places are
            painted.
        mask: (1 or B, 1, H, W) in [0, 1], of any size; 1 where the phrase shall be.
        weight: of this phrase, times the strength of all; below 0 it is kept away.

    Raises:
        ValueError: a mask of another shape or range, or a weight that is no finite number.
    """

    phrase: str | tuple[str, ...]
    mask: Tensor
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_masks(self.mask, f"{self.phrase!r}")
        if not math.isfinite(self.weight):
            raise ValueError(f"the weight of {self.phrase!r} must be a finite number, got {self.weight}")


@dataclass(frozen=True, eq=False)
class PaintWithWords:
    """Makes the edit that paints the phrases of encoded prompts.

    Forwards per call: none.

    Args:
        painted: phrases with their masks, all of one size; where two overlap on a token, they add up.
        strength: w' of the paper, >= 0; 0 changes nothing, 0.1 to 1 are of use. Where a token's state knows the whole
            prompt, as with BERT-like encoders, paint whole phrases, "a red apple" rather than "apple".
        over: what the largest score is taken of: "image", each image by itself, or "batch", the whole tensor, as the
            public port does.

    Raises:
        ValueError: nothing painted, masks of different sizes, or a strength out of range.

    Paper: eDiff-I: Text-to-Image Diffusion Models with an Ensemble of Expert Denoisers (Balaji et al., 2022),
        arXiv:2211.01324, the section on paint-with-words.
    Differs from the paper: the largest score is each image's own, over its tokens without padding, so that no image
        depends on its neighbours; sigma / alpha counts as at most 80, since some schedules begin at an infinite one.
    """

    painted: tuple[Painted, ...]
    strength: float = 0.4
    over: Literal["image", "batch"] = "image"

    def __post_init__(self) -> None:
        sizes = sorted({tuple(each.mask.shape[-2:]) for each in self.painted})
        if len(sizes) != 1:
            raise ValueError(f"needs one or more painted phrases with masks of one size, got sizes {sizes}")
        if not 0 <= self.strength < math.inf:
            raise ValueError(f"strength must be at least 0, got {self.strength}")

    def __call__(self, encoder: TextEncoder, text: EncodedText) -> Painting:
        """The edit for the branch of B texts.

        Args:
            encoder: not used.
            text: with every phrase in every text.

        Raises:
            ValueError: a phrase is missing in a text, or a mask is for another number of images.
        """
        count, length = len(text.texts), len(text.spans[0])
        weights = torch.zeros(count, len(self.painted), length)
        for index, each in enumerate(self.painted):
            if len(each.mask) not in (1, count):
                raise ValueError(
                    f"{each.phrase!r} has {len(each.mask)} masks for {count} prompts; give one, or one each"
                )
            for image, phrase in enumerate(one_each(each.phrase, count, f"the painted phrase {each.phrase!r}")):
                weights[image, index, text.find_all(phrase, image)] = each.weight
        masks = torch.cat([each.mask.float().expand(count, -1, -1, -1) for each in self.painted], dim=1)
        device = text.condition.tokens.device if text.condition.tokens is not None else masks.device
        return Painting(masks.to(device), weights.to(device), text.condition.token_mask, self.strength, self.over)


@dataclass(frozen=True, eq=False)
class Painting(AttentionEdit):
    """Adds paint to the scores of cross-attention.

    Args:
        masks: (B, P, H, W) in [0, 1], for P phrases.
        weights: (B, P, L), the weight of a phrase at its tokens, 0 elsewhere.
        valid: (B, L) bool, False at padding, which has no part in the largest score; None: none is padded.
        strength: w' of the paper.
        over: what the largest score is taken of.
    """

    masks: Tensor
    weights_of_tokens: Tensor
    valid: Tensor | None = None
    strength: float = 0.4
    over: Literal["image", "batch"] = "image"

    def applies(self, site: Site) -> bool:
        """Whether this is a cross-attention layer."""
        return site.kind == "cross"

    def scores(self, scores: Tensor, site: Site, ratio: Tensor) -> Tensor:
        """The scores (B, H, Q, K) with paint on the first L columns."""
        shares = area(self.masks, *site.grid).flatten(2)
        paint = torch.einsum("bpq,bpl->bql", shares, self.weights_of_tokens).to(scores)
        factor = self.strength * torch.log1p(ratio.clamp(max=_LARGEST_RATIO)) * self._largest(scores)
        return scores + F.pad(factor * paint[:, None], (0, scores.shape[-1] - paint.shape[-1]))

    def _largest(self, scores: Tensor) -> Tensor:
        if self.over == "batch":
            return scores.max()
        own = scores[..., : self.weights_of_tokens.shape[-1]]
        if self.valid is not None:
            own = own.masked_fill(~self.valid[:, None, None, :], float("-inf"))
        return own.amax(dim=(1, 2, 3), keepdim=True)
