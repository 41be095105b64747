"""How well pictures fit words, in a joint embedding space, in each of the published scalings.

All functions take embeddings of pictures and of words (any norm) and compare row i with row i.
A score made with the encoder that conditioned or guided the pictures is circular: use another one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["clip_score", "clipscore", "cosine", "directional_similarity", "r_precision", "ref_clipscore"]


def cosine(images: Tensor, texts: Tensor) -> Tensor:
    """Cosine of each picture with its own words.

    Args:
        images: (B, D) embeddings.
        texts: (B, D) embeddings.

    Returns:
        (B,) float64 in [-1, 1].

    Raises:
        ValueError: shapes differ.
    """
    if images.shape != texts.shape or images.ndim != 2:
        raise ValueError(f"embeddings must be two (B, D), got {tuple(images.shape)} and {tuple(texts.shape)}")
    return F.cosine_similarity(images.double(), texts.double(), dim=1)


def clip_score(images: Tensor, texts: Tensor) -> float:
    """Mean cosine times 100, floored at 0 after averaging (the scaling of torchmetrics and GLIDE).

        max(100 mean_i cos(image_i, text_i), 0)

    Args:
        images: (B, D) embeddings.
        texts: (B, D) embeddings.

    Returns:
        A value in [0, 100].

    Raises:
        ValueError: shapes differ.
    """
    return max(100 * float(cosine(images, texts).mean()), 0.0)


def clipscore(images: Tensor, texts: Tensor) -> Tensor:
    """CLIPScore of each pair: 2.5 times the cosine, floored at 0 for each pair.

        2.5 max(cos(image, text), 0)

    Args:
        images: (B, D) embeddings.
        texts: (B, D) embeddings; in the paper of "A photo depicts" and the caption.

    Returns:
        (B,) float64 in [0, 2.5].

    Raises:
        ValueError: shapes differ.

    Paper: CLIPScore: A Reference-free Evaluation Metric for Image Captioning (Hessel et al., 2021), arXiv:2104.08718.
    """
    return 2.5 * cosine(images, texts).clamp(min=0)


def ref_clipscore(images: Tensor, texts: Tensor, references: Tensor) -> Tensor:
    """Harmonic mean of CLIPScore and the best agreement of the words with reference words.

        2 a b / (a + b),  a = clipscore(image, text),  b = max_r max(cos(text, reference_r), 0)

    Args:
        images: (B, D) embeddings.
        texts: (B, D) embeddings of the captions that are judged.
        references: (B, R, D) embeddings of R reference captions each.

    Returns:
        (B,) float64, 0 where either part is 0.

    Raises:
        ValueError: shapes differ.

    Paper: CLIPScore: A Reference-free Evaluation Metric for Image Captioning (Hessel et al., 2021), arXiv:2104.08718.
    """
    if references.ndim != 3 or references.shape[0] != len(texts) or references.shape[2] != texts.shape[1]:
        raise ValueError(f"references must be (B, R, D) for texts {tuple(texts.shape)}, got {tuple(references.shape)}")
    own = clipscore(images, texts)
    best = F.cosine_similarity(texts.double()[:, None], references.double(), dim=2).amax(1).clamp(min=0)
    return torch.where(own * best > 0, 2 * own * best / (own + best).clamp(min=1e-300), torch.zeros_like(own))


def r_precision(images: Tensor, texts: Tensor, distractors: Tensor) -> float:
    """Share of pictures whose own words rank first among distractors.

    Args:
        images: (B, D) embeddings.
        texts: (B, D) embeddings of the own captions.
        distractors: (B, K, D) embeddings of other captions; K = 99 in the usual setting.

    Returns:
        A share in [0, 1]; a tie counts as a miss.

    Raises:
        ValueError: shapes differ.
    """
    if distractors.ndim != 3 or distractors.shape[0] != len(images) or distractors.shape[2] != images.shape[1]:
        raise ValueError(
            f"distractors must be (B, K, D) for pictures {tuple(images.shape)}, got {tuple(distractors.shape)}"
        )
    others = F.cosine_similarity(images.double()[:, None], distractors.double(), dim=2).amax(1)
    return float((cosine(images, texts) > others).double().mean())


def directional_similarity(before: Tensor, after: Tensor, words_before: Tensor, words_after: Tensor) -> Tensor:
    """Cosine of the change of the picture with the change of the words.

        cos(f(after) - f(before), g(words_after) - g(words_before)),   f and g of length 1

    Args:
        before: (B, D) embeddings of the pictures before the edit; of any length, as are all four, which are made 1.
        after: (B, D) embeddings after it.
        words_before: (B, D) embeddings of their captions.
        words_after: (B, D) embeddings of the edited captions.

    Returns:
        (B,) float64 in [-1, 1]; 0 where nothing changed.

    Raises:
        ValueError: shapes differ.

    Paper: StyleGAN-NADA: CLIP-Guided Domain Adaptation of Image Generators (Gal et al., 2022), arXiv:2108.00946,
        equation 3. Differs from the paper: the cosine itself, not one minus it; unit vectors.
    """
    if not before.shape == after.shape == words_before.shape == words_after.shape:
        raise ValueError("all four sets of embeddings must have the same shape (B, D)")
    # The encoders' outputs are compared on the unit sphere, so that only directions count.
    unit = [F.normalize(part.double(), dim=1) for part in (before, after, words_before, words_after)]
    return cosine(unit[1] - unit[0], unit[3] - unit[2])
