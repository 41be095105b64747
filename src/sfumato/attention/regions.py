"""Regions: a prompt of its own for each part of the picture, bound in cross-attention.

At each position of each cross-attention layer, with region r's mask m_r there and its prompt's keys and values,

    O = (1 - share sum_r m_r) softmax(Q K^T / sqrt(d)) V + share sum_r m_r softmax(Q K_r^T / sqrt(d)) V_r

Masks are averaged by area to the layer's grid, which keeps their size; where regions overlap, their masks are divided
by their sum if it is above 1. Self-attention and convolutions see the whole picture: parts fit each other, and a
region's prompt can be felt beyond it. That prompt is understood as one of a whole picture, of which the region is cut
out; for half of a pair, "two blue birds" may serve better than "a blue bird". The other way is to mix whole estimates
of several prompts, as MultiDiffusion does (Bar-Tal et al., 2023, arXiv:2302.08113).

Combines with: any mix and any edit but another of further contexts (see ``contexts``); put it first, so that edits of
the prompt's own tokens see the mixed maps.
Forwards per step: 1, as part of its branch; a map more a region in each layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.attention.contexts import Contexts
from sfumato.core.attention import AttentionEdit
from sfumato.core.image import check_masks
from sfumato.encoders.text import EncodedText, TextEncoder, one_each

__all__ = ["Region", "Regions"]


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the picture, and what is wanted there.

    Args:
        prompt: for all pictures, or one a picture.
        mask: (1 or B, 1, H, W) in [0, 1], of any resolution; 1 where the prompt holds.

    Raises:
        ValueError: a mask of another shape or range.
    """

    prompt: str | tuple[str, ...]
    mask: Tensor

    def __post_init__(self) -> None:
        check_masks(self.mask, f"the region of {self.prompt!r}")


@dataclass(frozen=True, eq=False)
class Regions:
    """The edit that binds prompts to regions; the branch's prompt holds everywhere with what is left.

    Args:
        regions: one or more, with masks of one resolution.
        share: of a region's prompt where its mask is 1, in [0, 1]; 0 is plain, and at 1 the branch's prompt, which may
            be what holds the parts together, is not heard there.

    Raises:
        ValueError: no regions, masks of different resolutions, or a share out of range.

    Paper: Mix-of-Show: Decentralized Low-Rank Adaptation for Multi-Concept Customization of Diffusion Models (Gu et
        al., 2023), arXiv:2305.18292, regionally controllable sampling.
    Differs from the paper: masks may be soft and of any form, and the share may be below 1, where their code has 1;
        Training-free Regional Prompting for Diffusion Transformers (Chen et al., 2024), arXiv:2411.02395, does that
        too. Users know the method as regional prompting or attention couple.
    """

    regions: tuple[Region, ...]
    share: float = 0.8

    def __post_init__(self) -> None:
        if not self.regions:
            raise ValueError("regions need at least one region; leave the edit out for none")
        sizes = sorted({tuple(each.mask.shape[-2:]) for each in self.regions})
        if len(sizes) > 1:
            raise ValueError(f"the masks of regions must have one resolution, got {sizes}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"the share of regions must lie in [0, 1], got {self.share}")

    def __call__(self, encoder: TextEncoder, text: EncodedText) -> AttentionEdit:
        """The edit for a branch of B pictures.

        Args:
            encoder: that encoded them; encodes the regions' prompts, in one call.
            text: the branch's prompts.

        Returns:
            an edit of all cross-attention; not active with share 0.

        Raises:
            ValueError: prompts or masks of a region for another number of pictures.
        """
        count, every = len(text.texts), 0 if self.share == 0 else len(self.regions)
        prompts = [_prompts(region, count) for region in self.regions]
        different = list(dict.fromkeys(prompt for each in prompts for prompt in each))
        numbers = torch.tensor([[different.index(each[image]) for each in prompts] for image in range(count)])
        condition = encoder(different).condition
        if condition.tokens is None:
            raise ValueError("regions need a text encoder that gives tokens")
        tokens = condition.tokens[numbers][:, :every]
        valid = condition.token_mask
        return Contexts(
            keys=tokens,
            values=tokens,
            valid=tokens.new_ones(tokens.shape[:3], dtype=torch.bool) if valid is None else valid[numbers][:, :every],
            shares=self._shares(count).to(tokens)[:, : every + 1],
        )

    def _shares(self, count: int) -> Tensor:
        """Shares of the prompt and the regions, (count, N + 1, H, W)."""
        masks = torch.cat([each.mask.float().expand(count, -1, -1, -1) for each in self.regions], dim=1)
        masks = self.share * masks / masks.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.cat([(1 - masks.sum(dim=1, keepdim=True)).clamp(min=0), masks], dim=1)


def _prompts(region: Region, count: int) -> tuple[str, ...]:
    if len(region.mask) not in (1, count):
        raise ValueError(f"a region has {len(region.mask)} masks for {count} pictures; give one, or one a picture")
    return one_each(region.prompt, count, "a region")
