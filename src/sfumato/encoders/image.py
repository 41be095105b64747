"""Pictures as vectors in the space of the text encoder's sentences: the CLIP of the emoji world.

The picture encoder is trained to place a picture where the locked text encoder places its caption (locked-image tuning
with the sides exchanged), so one cosine compares pictures with pictures, pictures with texts, and texts with texts.

Paper: Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021), arXiv:2103.00020;
    LiT: Zero-Shot Transfer with Locked-image text Tuning (Zhai et al., 2022), arXiv:2111.07991.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.core.condition import Condition
from sfumato.core.image import resize
from sfumato.encoders.text import TextEncoder

__all__ = ["PictureEncoder", "picture_tokens", "sentence", "sentences"]


@dataclass(frozen=True, eq=False)
class PictureEncoder:
    """Pictures to unit vectors; differentiable.

    Args:
        module: ``CLIPVisionModelWithProjection``, trained on pictures in [-1, 1].
    """

    module: Any

    @property
    def width(self) -> int:
        """Length D of a vector."""
        return self.module.config.projection_dim

    def __call__(self, images: Tensor) -> Tensor:
        """Encode pictures.

        Args:
            images: (B, 3, H, W) in [-1, 1]; resized to the encoder's size.

        Returns:
            (B, D) float32, each of length 1.
        """
        side = self.module.config.image_size
        if images.shape[-2:] != (side, side):
            images = resize(images, side, side, "bicubic")
        return F.normalize(self.module(images.to(self.module.dtype)).image_embeds.float(), dim=-1)


def sentence(condition: Condition) -> Tensor:
    """One unit vector a text: the mean of its valid token states, as MiniLM's sentences are defined.

    Args:
        condition: tokens (B, L, D), with their mask if lengths differ.

    Returns:
        (B, D) float32, each of length 1.

    Raises:
        ValueError: the condition has no tokens.

    Paper: Sentence-BERT (Reimers and Gurevych, 2019), arXiv:1908.10084, section 3 (mean pooling).
    """
    if condition.tokens is None:
        raise ValueError("a sentence needs tokens")
    if condition.token_mask is None:
        return F.normalize(condition.tokens.float().mean(1), dim=-1)
    mask = condition.token_mask[..., None].float()
    return F.normalize((condition.tokens.float() * mask).sum(1) / mask.sum(1), dim=-1)


def sentences(text: TextEncoder, texts: Sequence[str], batch: int = 256) -> Tensor:
    """Unit vectors (N, D) of N texts, encoded ``batch`` at a time."""
    with torch.no_grad():
        parts = [sentence(text(texts[start : start + batch]).condition) for start in range(0, len(texts), batch)]
    return torch.cat(parts)


def picture_tokens(vectors: Tensor) -> Tensor:
    """Unit vectors (..., D) as context tokens: scaled to length sqrt(D) / 2, about that of MiniLM's token states."""
    return vectors * (vectors.shape[-1] ** 0.5 / 2)
