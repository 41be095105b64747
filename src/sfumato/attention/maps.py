"""Attention maps, recorded: where each text token is looked at from.

    map = mean over passes, layers and heads of softmax(Q K^T / sqrt(d)), one (h, w) picture a token

The recorder changes nothing. It is the one edit with a memory: made by a flow for one run, attached to a branch, read
and thrown away; never stored on a model or shared between runs. ``attention_to`` makes one for each of its calls and
gives maps that can be differentiated.
Combines with: everything; put it last, so that it sees the maps that the edits before it have made.
Forwards per step: 1, as part of its branch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.core.attention import AttentionEdit, Site
from sfumato.core.branch import Branch
from sfumato.core.image import resize
from sfumato.core.level import Level
from sfumato.core.model import Model
from sfumato.encoders.text import EncodedText, one_each

__all__ = ["MapRecorder", "attention_to", "coarse_side", "maps_of_words"]

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SHARPNESS = 100.0


def coarse_side(height: int, width: int) -> int:
    """The longest side of the grids that tell where things are: a quarter of the longer side of x, at least 16.

    16 for Stable Diffusion's 64 x 64 latents, as in the papers' code; 32 for SDXL's 128 x 128, whose only grids with
    attention are 64 x 64 and 32 x 32.

    Args:
        height: of x, in latent pixels.
        width: of x, in latent pixels.

    Returns:
        the side, in latent pixels.
    """
    return max(16, -(-max(height, width) // 4))


class MapRecorder(AttentionEdit):
    """Averages the cross-attention maps of its branch.

    Args:
        largest: layers on a grid with a longer side than this, in latent pixels, are not recorded; >= 1.
        keep_graph: maps keep their history, so that a function of them can be differentiated; for one pass at a time.

    Raises:
        ValueError: largest below 1.

    Paper: What the DAAM: Interpreting Stable Diffusion Using Cross Attention (Tang et al., 2022), arXiv:2210.04885,
        section 3.
    Differs from the paper: a mean over layers instead of a sum, and resizing is bilinear, so that maps stay in [0, 1].
    """

    passive = True

    def __init__(self, largest: int = 32, keep_graph: bool = False) -> None:
        if largest < 1:
            raise ValueError(f"largest must be at least 1, got {largest}")
        self.largest = largest
        self.keep_graph = keep_graph
        self._sums: dict[tuple[int, int], Tensor] = {}
        self._counts: dict[tuple[int, int], int] = {}

    def applies(self, site: Site) -> bool:
        """Whether this is a cross-attention layer on a grid that is small enough."""
        return site.kind == "cross" and max(site.grid) <= self.largest

    def weights(self, weights: Tensor, site: Site) -> Tensor:
        """Note the maps (B, H, Q, K) and return them as they are."""
        kept = weights if self.keep_graph else weights.detach()
        pictures = kept.mean(dim=1).transpose(1, 2).unflatten(2, site.grid)
        former = self._sums.get(site.grid)
        self._sums[site.grid] = pictures if former is None else _added(former, pictures)
        self._counts[site.grid] = self._counts.get(site.grid, 0) + 1
        return weights

    def maps(self, height: int, width: int) -> Tensor:
        """The mean maps so far, of all recorded grids.

        Args:
            height: of the maps, in pixels.
            width: of the maps, in pixels.

        Returns:
            (B, K, height, width), one map a token, >= 0; over tokens they sum to 1 at each pixel. K is the largest
            number of keys of a pass; the tokens of the branch's text come first.

        Raises:
            ValueError: nothing has been recorded.
        """
        self._check()
        total = reduce(_added, [resize(maps, height, width) for maps in self._sums.values()])
        return total / sum(self._counts.values())

    def finest(self) -> Tensor:
        """The mean maps so far of the largest recorded grid alone, as they are.

        Returns:
            (B, K, h, w), as those of :meth:`maps`, h and w being the grid's.

        Raises:
            ValueError: nothing has been recorded.
        """
        self._check()
        grid = max(self._sums, key=lambda grid: grid[0] * grid[1])
        return self._sums[grid] / self._counts[grid]

    def clear(self) -> None:
        """Forget everything recorded."""
        self._sums.clear()
        self._counts.clear()

    def _check(self) -> None:
        if not self._sums:
            raise ValueError("no attention map has been recorded yet; attach the recorder to a branch and sample")


def maps_of_words(maps: Tensor, text: EncodedText, image: int = 0) -> list[tuple[str, Tensor]]:
    """One map a word: the sum over its tokens, the share of a pixel's attention that the word gets.

    Args:
        maps: (B, K, h, w), K >= L, of a recorder on the branch of ``text``.
        text: B encoded texts of L tokens.
        image: which of the B texts.

    Returns:
        each word of the text, in its order, with its map (h, w) in [0, 1]; punctuation, marks, padding and words that
        were cut are left out, so that the maps sum to less than 1.

    Paper: What the DAAM: Interpreting Stable Diffusion Using Cross Attention (Tang et al., 2022), arXiv:2210.04885,
        section 3.
    Differs from the paper: a word of several tokens gets their sum, not their mean, so that words of different lengths
        compare.
    """
    whole, spans = text.texts[image], text.spans[image]
    kept = len(whole) - len(text.cut[image])
    words: list[tuple[str, Tensor]] = []
    for word in _WORD.finditer(whole):
        first, last = word.span()
        tokens = [index for index, (start, end) in enumerate(spans) if max(start, first) < min(end, last)]
        if tokens and last <= kept:
            words.append((word.group(), maps[image, tokens].sum(dim=0)))
    return words


def attention_to(
    model: Model, branch: Branch, text: EncodedText, phrases: Sequence[str | Sequence[str]], largest: int | None = None
) -> Callable[[Tensor, Level], Tensor]:
    """How much each phrase is attended to at each position, as a differentiable function of x.

        attention_s = sum over the phrase's tokens of softmax over the text's own tokens of (100 * map)

    Map is the mean over heads and layers of one grid. Marks and padding are left out of the softmax: the mark of the
    beginning draws most attention and would hide the words.

    Forwards per call: 1, of the branch alone.

    Args:
        model: its weights are left alone.
        branch: of the B texts, with its edits, whose maps are meant; those that only look do not see these passes.
        text: where the branch's tokens come from.
        phrases: S of them, each for all texts or one a text; all places of a phrase count. A phrase of several words
            is satisfied by any of them, so name what is to be seen: "car", not "a red car".
        largest: the finest grid whose longer side is at most this is looked at; None: as :func:`coarse_side` says of
            x, which means Stable Diffusion's 16 x 16, 16 x 24 for its upright pictures, and SDXL's 32 x 32.

    Returns:
        x (B, ...) and its level to (B, S, h, w) in [0, 1], h and w being the grid's.

    Raises:
        ValueError: no phrases, one that is missing in a text, or largest below 1; in the call, no grid is as small.

    Paper: Attend-and-Excite: Attention-Based Semantic Guidance for Text-to-Image Diffusion Models (Chefer et al.,
        2023), arXiv:2301.13826, section 4.
    Differs from the paper: the softmax is over the text's own tokens, as in the authors' code for Stable Diffusion 2;
        their code for 1.4 also lets the mark of the end and the padding but one compete. Several tokens of a phrase
        are one subject, where theirs takes single tokens.
    """
    if largest is not None and largest < 1:
        raise ValueError(f"largest must be at least 1, got {largest}")
    if not phrases:
        raise ValueError("attention to nothing: give at least one phrase of the text")
    length = len(text.spans[0])
    members = torch.zeros(len(text.texts), len(phrases), length)
    for index, given in enumerate(phrases):
        for image, phrase in enumerate(one_each(given, len(text.texts), f"the phrase {given!r}")):
            members[image, index, text.find_all(phrase, image)] = 1.0
    marks = torch.tensor([[span == (0, 0) for span in spans] for spans in text.spans])

    edits = tuple(edit for edit in branch.edits if not edit.passive)

    def attend(x: Tensor, level: Level) -> Tensor:
        recorder = MapRecorder(largest or coarse_side(*x.shape[-2:]), keep_graph=True)
        with torch.enable_grad():
            model(x, level, [replace(branch, edits=(*edits, recorder))])
            maps = recorder.finest()[:, :length]
            hidden = marks.to(maps.device)[:, :, None, None]
            shares = (_SHARPNESS * maps).masked_fill(hidden, float("-inf")).softmax(dim=1)
            return torch.einsum("bkhw,bsk->bshw", shares, members.to(shares))

    return attend


def _added(first: Tensor, second: Tensor) -> Tensor:
    """The sum of maps (B, K, h, w) of passes with different numbers of keys, the missing ones counted as 0."""
    keys = max(first.shape[1], second.shape[1])
    wide = [F.pad(maps, (0, 0, 0, 0, 0, keys - maps.shape[1])) for maps in (first, second)]
    return wide[0] + wide[1]
