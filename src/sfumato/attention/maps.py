"""Attention maps, recorded: where each text token is looked at from.

    map = mean over passes, layers and heads of softmax(Q K^T / sqrt(d)), one (h, w) picture a token

The recorder changes nothing. It is the one edit with a memory: made by a flow for one run, attached to a branch, read
and thrown away; never stored on a model or shared between runs.
Combines with: everything; put it last, so that it sees the maps that the edits before it have made.
Forwards per step: 1, as part of its branch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.core.attention import AttentionEdit, Site
from sfumato.core.image import resize

__all__ = ["MapRecorder"]


class MapRecorder(AttentionEdit):
    """Averages the cross-attention maps of its branch.

    Args:
        largest: layers on a grid with a longer side than this, in latent pixels, are not recorded; >= 1.

    Raises:
        ValueError: largest below 1.

    Paper: What the DAAM: Interpreting Stable Diffusion Using Cross Attention (Tang et al., 2022), arXiv:2210.04885,
        section 3.
    Differs from the paper: a mean over layers instead of a sum, and resizing is bilinear, so that maps stay in [0, 1].
    """

    def __init__(self, largest: int = 32) -> None:
        if largest < 1:
            raise ValueError(f"largest must be at least 1, got {largest}")
        self.largest = largest
        self._sums: dict[tuple[int, int], Tensor] = {}
        self._counts: dict[tuple[int, int], int] = {}

    def applies(self, site: Site) -> bool:
        """Whether this is a cross-attention layer on a grid that is small enough."""
        return site.kind == "cross" and max(site.grid) <= self.largest

    def weights(self, weights: Tensor, site: Site) -> Tensor:
        """Note the maps (B, H, Q, K) and return them as they are."""
        pictures = weights.detach().mean(dim=1).transpose(1, 2).unflatten(2, site.grid)
        former = self._sums.get(site.grid)
        self._sums[site.grid] = pictures if former is None else former + pictures
        self._counts[site.grid] = self._counts.get(site.grid, 0) + 1
        return weights

    def maps(self, height: int, width: int) -> Tensor:
        """The mean maps so far.

        Args:
            height: of the maps, in pixels.
            width: of the maps, in pixels.

        Returns:
            (B, K, height, width), one map a token, >= 0; over tokens they sum to 1 at each pixel.

        Raises:
            ValueError: nothing has been recorded.
        """
        if not self._sums:
            raise ValueError("no attention map has been recorded yet; attach the recorder to a branch and sample")
        total = torch.stack([resize(maps, height, width) for maps in self._sums.values()]).sum(dim=0)
        return total / sum(self._counts.values())

    def clear(self) -> None:
        """Forget everything recorded."""
        self._sums.clear()
        self._counts.clear()
