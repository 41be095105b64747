"""From prompts to what a model is asked: conditions of a picture's size, and the branch with the edits of its words.

Paper: High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv:2112.10752.
Forwards per step: none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sfumato.checkpoints.parts import Parts
from sfumato.core.attention import AttentionEdit
from sfumato.core.branch import Branch
from sfumato.core.condition import Condition
from sfumato.encoders.text import EncodedText, TextEncoder

__all__ = ["EditOfWords", "Prompted", "condition_of", "null_of", "prompted"]

EditOfWords = Callable[[TextEncoder, EncodedText], AttentionEdit]
"""An attention edit that speaks of words, made once the prompts are encoded."""


@dataclass(frozen=True, eq=False)
class Prompted:
    """What is wanted of B pictures.

    Args:
        branch: the condition, with the edits of its attention.
        words: where its tokens come from.
    """

    branch: Branch
    words: EncodedText


def prompted(
    parts: Parts, prompts: Sequence[str], size: tuple[int, int], edits: Sequence[EditOfWords] = ()
) -> Prompted:
    """The branch of B prompts, with edits of their attention.

    Args:
        parts: a loaded checkpoint.
        prompts: one a picture.
        size: height and width of the pictures, in pixels.
        edits: made of the prompts' words, in the order in which each stage runs them.

    Raises:
        ValueError: an edit speaks of words that a prompt does not have.
    """
    words = parts.text(prompts)
    made = tuple(make(parts.text, words) for make in edits)
    return Prompted(Branch(_told_size(parts, words.condition, size), made, "text"), words)


def condition_of(parts: Parts, prompts: Sequence[str], size: tuple[int, int]) -> Condition:
    """The condition of prompts for pictures of a size (height, width), for networks that are told it."""
    return _told_size(parts, parts.text(prompts).condition, size)


def null_of(parts: Parts, count: int, size: tuple[int, int], negative: str = "") -> Condition:
    """The null, or a negative prompt in its place, for ``count`` pictures of a size (height, width)."""
    condition = parts.text([negative]).condition.rows([0] * count) if negative else parts.text.null(count)
    return _told_size(parts, condition, size)


def _told_size(parts: Parts, condition: Condition, size: tuple[int, int]) -> Condition:
    if not parts.network.sized:
        return condition
    height, width = size
    told = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=parts.device)
    return condition.replace(extras={**condition.extras, "size": told.repeat(condition.count or 1, 1)})
