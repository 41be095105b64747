"""Pictures and words as vectors of one space, and how a network takes such vectors in.

A memory's pictures and the queries to it are embedded by one encoder: the embedded one, whose words are MiniLM's
sentences, or a CLIP. Which vectors a network wants as context is another matter, and differs between published ones:
the paper's are trained on CLIP's vectors as they are, those of latent-diffusion's 768 x 768 demo on unit vectors.

Paper: Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021), arXiv:2103.00020;
    Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.encoders.image import PictureEncoder, sentences
from sfumato.encoders.text import TextEncoder

__all__ = ["JointEncoder", "NeighbourTokens", "check_texts", "embedded_tokens", "of_minilm"]

_LARGEST_SCALE = 1e4


@dataclass(frozen=True, eq=False)
class JointEncoder:
    """Pictures and words as vectors of one space.

    Args:
        name: "emoji", or the name of its folder; never a path.
        fingerprint: 16 hexadecimal digits over its weights and settings.
        width: length D of a vector.
        side: pictures are given to its network at side x side pixels.
        normalised: whether its vectors have length 1 by themselves.
        pictures: (B, 3, H, W) in [-1, 1] to (B, D) float32; differentiable.
        words: B texts to (B, D) float32; what is too long is cut; ValueError for no texts.
    """

    name: str
    fingerprint: str
    width: int
    side: int
    normalised: bool
    pictures: Callable[[Tensor], Tensor] = field(repr=False)
    words: Callable[[Sequence[str]], Tensor] = field(repr=False)


def of_minilm(text: TextEncoder, pictures: PictureEncoder, name: str, fingerprint: str) -> JointEncoder:
    """The encoder of a checkpoint that brings a picture encoder for its text encoder's sentences.

    Args:
        text: whose sentences the words are.
        pictures: trained to place a picture where its caption is.
        name: of the checkpoint.
        fingerprint: 16 hexadecimal digits.

    Returns:
        an encoder to unit vectors.

    Raises:
        ValueError: sentences of another width than the pictures' vectors.
    """
    width = sum(encoder.module.config.hidden_size for encoder in text.encoders)
    if width != pictures.width:
        raise ValueError(f"its words have vectors of length {width} and its pictures of length {pictures.width}")
    side = pictures.module.config.image_size
    return JointEncoder(name, fingerprint, width, side, True, pictures, partial(_sentences, text))


@dataclass(frozen=True)
class NeighbourTokens:
    """How a checkpoint takes vectors of pictures as context tokens.

        token = scale * v / |v|    normalised
        token = scale * v          otherwise

    Args:
        normalised: whether vectors are brought to length 1 first.
        scale: in (0, 10000].
        alone: whether the context has no text tokens at all, as in the paper.

    Raises:
        ValueError: a scale out of range.

    Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.2.
    """

    normalised: bool = True
    scale: float = 1.0
    alone: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.scale <= _LARGEST_SCALE:
            raise ValueError(f"the scale of neighbours must lie in (0, {_LARGEST_SCALE:g}], got {self.scale}")

    def __call__(self, vectors: Tensor) -> Tensor:
        """Vectors (..., D) of an encoder as tokens (..., D); a vector of zeros stays one."""
        return self.scale * (F.normalize(vectors, dim=-1) if self.normalised else vectors)

    def null(self, vectors: Tensor) -> Tensor:
        """The tokens of no pictures: zeros, as many as there are vectors (..., D)."""
        return torch.zeros_like(vectors)


def embedded_tokens(width: int) -> NeighbourTokens:
    """How the embedded checkpoint takes vectors of ``width`` D in: beside text, at length sqrt(D) / 2.

    It is what ``picture_tokens`` makes of unit vectors.
    """
    return NeighbourTokens(normalised=True, scale=width**0.5 / 2)


def _sentences(text: TextEncoder, texts: Sequence[str]) -> Tensor:
    check_texts(texts)
    return sentences(text, texts)


def check_texts(texts: Sequence[str]) -> None:
    """See that there are texts.

    Raises:
        ValueError: one string, or none.
    """
    if isinstance(texts, str) or not texts:
        raise ValueError("expected a list of one or more texts")
