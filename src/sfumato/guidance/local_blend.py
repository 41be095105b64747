"""Local blend: a rewrite differs from its source only where the changed words are looked at from.

After each step, with M_w the sum of the attention maps of the chosen words over the steps so far:

    m = (pooled M_w > threshold * its largest value),   of the source or of the rewrite
    x_rewrite <- x_rewrite where m, x_source elsewhere

Pooling is the largest value of 3 x 3 positions. The maps are asked for, not kept here: a recorder on the branch has
them. Words to be kept may be named too: their own area, not pooled, is taken out of m.

Combines with: ``attention.prompt_to_prompt``, or images that share their noise alone; other after-step edits, of which
this should be the last.
Forwards per step: 0 of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.core.level import Level

__all__ = ["LocalBlend", "check_blend"]


def check_blend(start: float, threshold: float) -> None:
    """See that a blend begins at a share of the path and that its threshold is a share of the largest value.

    Raises:
        ValueError: it does not, or it is not.
    """
    if not 0 <= start <= 1 or not 0 <= threshold < 1:
        raise ValueError(f"a blend needs start in [0, 1] and threshold in [0, 1), got {start} and {threshold}")


@dataclass(frozen=True, eq=False)
class LocalBlend:
    """An after-step edit that puts the source back outside the area of words.

    Args:
        maps: gives the attention maps so far, (B, K, h, w), >= 0; any scale.
        pairs: sources and their rewrites, numbers of images; the other images are left alone.
        words: for each of B images, the tokens whose area may change, numbers below K; none for no area.
        keep: for each of B images, the tokens whose area may not change; empty for nothing to be kept.
        start: share of the path after which it acts, in [0, 1].
        threshold: share of a map's largest value above which a position belongs to the area, in [0, 1).

    Raises:
        ValueError: a setting out of range, or another number of lists in words and keep.

    Paper: Prompt-to-Prompt Image Editing with Cross Attention Control (Hertz et al., 2022), arXiv:2208.01626, section
        3.2, "local editing"; the start and the words to be kept: Null-text Inversion for Editing Real Images using
        Guided Diffusion Models (Mokady et al., 2022), arXiv:2211.09794, the authors' code.
    Differs from the paper: the authors' code stores maps that are edited after it has stored them; here they are those
        that ``maps`` gives.
    """

    maps: Callable[[], Tensor]
    pairs: tuple[tuple[int, int], ...]
    words: Sequence[Sequence[int]]
    keep: Sequence[Sequence[int]] = ()
    start: float = 0.2
    threshold: float = 0.3

    def __post_init__(self) -> None:
        check_blend(self.start, self.threshold)
        if self.keep and len(self.keep) != len(self.words):
            raise ValueError(f"words are given for {len(self.words)} images and those to be kept for {len(self.keep)}")

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        """x (B, C, h, w) at a level, the rewrites being their sources outside the area, bit for bit."""
        if level.progress is not None and level.progress <= self.start:
            return x
        sources, rewrites = [source for source, _ in self.pairs], [rewrite for _, rewrite in self.pairs]
        maps, size = self.maps(), (x.shape[-2], x.shape[-1])
        area = self._area(F.max_pool2d(_sums(maps, self.words), 3, stride=1, padding=1), size)
        changed = area[sources] | area[rewrites]
        if self.keep:
            kept = self._area(_sums(maps, self.keep), size)
            changed = changed & ~(kept[sources] | kept[rewrites])
        blended = x.clone()
        blended[rewrites] = torch.where(changed.to(x.device), x[rewrites], x[sources])
        return blended

    def _area(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, 1, h, w) to (B, 1, *size) bool; each image by its own largest value."""
        large = F.interpolate(maps, size, mode="nearest")
        return large > self.threshold * large.amax(dim=(-2, -1), keepdim=True)


def _sums(maps: Tensor, tokens: Sequence[Sequence[int]]) -> Tensor:
    """The sum over an image's tokens, (B, 1, h, w)."""
    return torch.stack([maps[image, list(chosen)].sum(dim=0, keepdim=True) for image, chosen in enumerate(tokens)])
