"""Contexts of a many-context denoiser: typed tokens of text and of pictures, each kind dropped by itself.

The context of an image is its text tokens followed by picture tokens. In training each image draws one of four forms:

| form     | text tokens | picture tokens                               |
|----------|-------------|----------------------------------------------|
| text     | caption     | none                                         |
| pictures | null        | its own vector, or those of 1 to k neighbours |
| both     | caption     | as above                                     |
| none     | null        | none                                         |

so one denoiser serves text-to-image, variations, retrieval, and guidance from any of the forms to any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from sfumato.core.condition import Condition
from sfumato.core.noise import Noise
from sfumato.encoders.image import picture_tokens
from sfumato.encoders.text import TextEncoder

__all__ = ["CaptionStates", "Contexts", "Forms", "encode_captions", "nearest"]


@dataclass(frozen=True, eq=False)
class CaptionStates:
    """Token states of N captions, each different caption held once.

    Args:
        states: (U, L, D) float16, zeros after each caption's end.
        lengths: (U,) int64, valid tokens.
        rows: (N,) int64, the row of each caption.
        null: (M, D), the states of "".
    """

    states: Tensor
    lengths: Tensor
    rows: Tensor
    null: Tensor


def encode_captions(text: TextEncoder, captions: Sequence[str], batch: int = 128) -> CaptionStates:
    """Encode captions, shortest first so that little is padded.

    Args:
        text: the locked text encoder.
        captions: N texts.
        batch: texts a forward pass.
    """
    unique = sorted(set(captions), key=lambda caption: (len(caption), caption))
    number = {caption: row for row, caption in enumerate(unique)}
    parts: list[Tensor] = []
    lengths: list[Tensor] = []
    with torch.no_grad():
        for start in tqdm(range(0, len(unique), batch), desc="captions", disable=None, leave=False):
            condition = text(unique[start : start + batch]).condition
            assert condition.tokens is not None
            count, length, _ = condition.tokens.shape
            mask = condition.token_mask
            lengths.append(torch.full((count,), length) if mask is None else mask.sum(1))
            valid = condition.tokens if mask is None else condition.tokens * mask[..., None]
            parts.append(valid.half())
        null = text.null(1).tokens
    assert null is not None
    states = parts[0].new_zeros(len(unique), max(part.shape[1] for part in parts), null.shape[-1])
    for start, part in zip(range(0, len(unique), batch), parts, strict=True):
        states[start : start + len(part), : part.shape[1]] = part
    return CaptionStates(states, torch.cat(lengths), torch.tensor([number[caption] for caption in captions]), null[0])


@dataclass(frozen=True)
class Forms:
    """Shares of the four forms of a context; what is left over is "none".

    Args:
        text: share of images with their caption alone, in [0, 1].
        pictures: share with picture tokens alone, in [0, 1].
        both: share with both, in [0, 1].

    Raises:
        ValueError: a negative share, or more than 1 in all.
    """

    text: float = 0.68
    pictures: float = 0.1
    both: float = 0.1

    def __post_init__(self) -> None:
        if min(self.text, self.pictures, self.both) < 0 or self.text + self.pictures + self.both > 1:
            raise ValueError("the shares of text, pictures and both must not be negative, nor more than 1 in all")

    @property
    def any(self) -> float:
        """The share of images that have any context."""
        return self.text + self.pictures + self.both


@dataclass(frozen=True, eq=False)
class Contexts:
    """All contexts of a training set.

    Args:
        captions: of its N pictures.
        vectors: (N, D) unit vectors of its pictures.
        neighbours: (N, k) int64, each picture's nearest others.
        forms: shares of the forms.
    """

    captions: CaptionStates
    vectors: Tensor
    neighbours: Tensor
    forms: Forms

    def condition(self, indices: Tensor, noise: Noise) -> Condition:
        """Draw the contexts of a batch.

        Args:
            indices: (B,) int64 in [0, N).
            noise: one seed an image, which draws its form and its neighbours.

        Returns:
            tokens (B, L, D) float32 and their mask; L is what this batch needs.
        """
        form, own, many = noise.uniform((len(indices), 3)).unbind(1)
        forms = self.forms
        has_text = (form < forms.text) | ((form >= forms.text + forms.pictures) & (form < forms.any))
        has_pictures = (form >= forms.text) & (form < forms.any)
        text, text_mask = self._text(indices, has_text)
        pictures, picture_mask = self._pictures(indices, has_pictures, own < 0.5, many)
        return Condition(tokens=torch.cat([text, pictures], 1), token_mask=torch.cat([text_mask, picture_mask], 1))

    def _text(self, indices: Tensor, has_text: Tensor) -> tuple[Tensor, Tensor]:
        captions, null = self.captions, self.captions.null
        rows = captions.rows[indices]
        lengths = torch.where(has_text, captions.lengths[rows], len(null))
        longest = max(int(lengths.max()), len(null))
        states = captions.states[rows, :longest].float()
        blank = torch.zeros_like(states)
        blank[:, : len(null)] = null
        return torch.where(has_text[:, None, None], states, blank), torch.arange(longest) < lengths[:, None]

    def _pictures(self, indices: Tensor, has: Tensor, own: Tensor, many: Tensor) -> tuple[Tensor, Tensor]:
        size = self.neighbours.shape[1]
        lengths = torch.where(own, 1, 1 + (many * size).long()) * has
        chosen = self.neighbours[indices].clone()
        chosen[own, 0] = indices[own]
        longest = int(lengths.max())
        return picture_tokens(self.vectors[chosen[:, :longest]]), torch.arange(longest) < lengths[:, None]


def nearest(vectors: Tensor, count: int, batch: int = 1024) -> Tensor:
    """Each vector's nearest others by cosine, copies of itself left out.

    Args:
        vectors: (N, D), unit.
        count: how many, below N.
        batch: rows at a time.

    Returns:
        (N, count) int64, the nearest first.
    """
    found: list[Tensor] = []
    for start in range(0, len(vectors), batch):
        cosine = vectors[start : start + batch] @ vectors.T
        cosine[cosine > 1 - 1e-5] = -1
        found.append(cosine.topk(count, dim=1).indices)
    return torch.cat(found)
