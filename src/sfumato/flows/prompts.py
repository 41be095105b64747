"""From prompts, and pictures beside them, to what a model is asked: conditions, and the branch with its edits.

The context of a many-context model is its words' tokens followed by a token a picture; that of a retrieval-augmented
model the pictures' tokens alone. A picture's token is its embedding, as the checkpoint takes it in
(``sfumato.encoders.joint.NeighbourTokens``); there is no order among them.

Papers: High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv:2112.10752;
    Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.2.
Forwards per step: none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.checkpoints.parts import Parts
from sfumato.core.attention import AttentionEdit
from sfumato.core.branch import Branch
from sfumato.core.condition import Condition
from sfumato.encoders.joint import NeighbourTokens
from sfumato.encoders.text import EncodedText, TextEncoder

__all__ = ["EditOfWords", "Neighbours", "Prompted", "condition_of", "has_words", "null_of", "prompted"]

EditOfWords = Callable[[TextEncoder, EncodedText], AttentionEdit]
"""An attention edit that speaks of words, made once the prompts are encoded."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Pictures, as vectors, that are in the context beside the words or in place of them.

    Args:
        vectors: (B or 1, k, D) embeddings, k >= 1, as their encoder gave them.
        words: whether the words stay; otherwise the null stands in their place.
        zero_null: whether guidance starts from k tokens of zeros beside the null, which is what a retrieval-augmented
            model has; otherwise from the null alone, which is what a many-context model was trained with.

    Raises:
        ValueError: vectors of another shape.
    """

    vectors: Tensor
    words: bool = True
    zero_null: bool = False

    def __post_init__(self) -> None:
        if self.vectors.ndim != 3 or not self.vectors.shape[1]:
            raise ValueError(f"neighbours must be (B, k, D) with k >= 1, got shape {tuple(self.vectors.shape)}")

    def of(self, count: int) -> Tensor:
        """Their vectors for ``count`` pictures, (count, k, D).

        Raises:
            ValueError: they are those of another number of pictures.
        """
        if len(self.vectors) not in (1, count):
            raise ValueError(f"there are neighbours of {len(self.vectors)} pictures and {count} are made")
        return self.vectors.expand(count, -1, -1)


@dataclass(frozen=True, eq=False)
class Prompted:
    """What is wanted of B pictures.

    Args:
        branch: the condition, with the edits of its attention.
        words: where its tokens come from.
        worded: whether the words are in the condition; False where neighbours stand in their place.
    """

    branch: Branch
    words: EncodedText
    worded: bool = True


def prompted(
    parts: Parts,
    prompts: Sequence[str],
    size: tuple[int, int],
    edits: Sequence[EditOfWords] = (),
    neighbours: Neighbours | None = None,
) -> Prompted:
    """The branch of B prompts, with edits of their attention.

    Args:
        parts: a loaded checkpoint.
        prompts: one a picture.
        size: height and width of the pictures, in pixels.
        edits: made of the prompts' words, in the order in which each stage runs them.
        neighbours: pictures beside or in place of the words.

    Raises:
        ValueError: an edit speaks of words that a prompt does not have, or that the context does not have; or
            neighbours that the checkpoint does not take, or lacks.
    """
    words = parts.text(prompts)
    condition = _beside(parts, words.condition, neighbours)
    worded = has_words(parts, neighbours)
    if edits and not worded:
        raise ValueError("edits speak of words, and the context has neighbours in their place; leave one of them out")
    made = tuple(make(parts.text, words) for make in edits)
    return Prompted(Branch(_told_size(parts, condition, size), made, "text"), words, worded)


def condition_of(
    parts: Parts, prompts: Sequence[str], size: tuple[int, int], neighbours: Neighbours | None = None
) -> Condition:
    """The condition of prompts, with neighbours, for pictures of a size (height, width).

    Raises:
        ValueError: neighbours that the checkpoint does not take, or lacks.
    """
    return _told_size(parts, _beside(parts, parts.text(prompts).condition, neighbours), size)


def null_of(
    parts: Parts, count: int, size: tuple[int, int], negative: str = "", neighbours: Neighbours | None = None
) -> Condition:
    """The null, or a negative prompt in its place, for ``count`` pictures of a size (height, width).

    Args:
        parts: a loaded checkpoint.
        count: pictures.
        size: of them, in pixels.
        negative: a prompt in the null's place; "" for none.
        neighbours: of the branch that guidance goes to; they say what stands for no neighbours.

    Raises:
        ValueError: a negative prompt for a model that takes no words.
    """
    taken = parts.neighbours
    if taken is not None and taken.alone:
        if negative:
            raise ValueError("this model draws from neighbours and knows no words; leave the negative prompt out")
        vectors = _given(neighbours).of(count)
        return _told_size(parts, Condition(tokens=taken.null(vectors).to(parts.device)), size)
    condition = parts.text([negative]).condition.rows([0] * count) if negative else parts.text.null(count)
    if neighbours is not None and neighbours.zero_null:
        condition = _appended(condition, _taking(parts).null(neighbours.of(count)))
    return _told_size(parts, condition, size)


def _beside(parts: Parts, text: Condition, neighbours: Neighbours | None) -> Condition:
    """The context of B texts, (B, L + k, D) or (B, k, D)."""
    taken, count = parts.neighbours, text.count or 0
    if taken is not None and taken.alone:
        return Condition(tokens=taken(_given(neighbours).of(count)).to(parts.device))
    if neighbours is None:
        return text
    tokens = _taking(parts)(neighbours.of(count))
    return _appended(text if neighbours.words else parts.text.null(count), tokens)


def _appended(text: Condition, tokens: Tensor) -> Condition:
    assert text.tokens is not None
    if tokens.shape[-1] != text.tokens.shape[-1]:
        raise ValueError(
            f"the neighbours are vectors of {tokens.shape[-1]} numbers and this model takes {text.tokens.shape[-1]}: "
            "the memory was made with another encoder"
        )
    mask = text.token_mask
    if mask is not None:
        mask = torch.cat([mask, mask.new_ones(tokens.shape[:2])], 1)
    return text.replace(tokens=torch.cat([text.tokens, tokens.to(text.tokens)], 1), token_mask=mask)


def has_words(parts: Parts, neighbours: Neighbours | None) -> bool:
    """Whether words are in the context, beside neighbours or without any."""
    alone = parts.neighbours is not None and parts.neighbours.alone
    return not alone and (neighbours is None or neighbours.words)


def _given(neighbours: Neighbours | None) -> Neighbours:
    if neighbours is None:
        raise ValueError("this model draws from neighbours alone; give it some, from a memory or a picture")
    return neighbours


def _taking(parts: Parts) -> NeighbourTokens:
    if parts.neighbours is None:
        raise ValueError(
            f"the model '{parts.name}' was trained on words alone and takes no neighbours; 'emoji' does, and what "
            "`sfumato train retrieval` makes"
        )
    return parts.neighbours


def _told_size(parts: Parts, condition: Condition, size: tuple[int, int]) -> Condition:
    if not parts.network.sized:
        return condition
    height, width = size
    told = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=parts.device)
    return condition.replace(extras={**condition.extras, "size": told.repeat(condition.count or 1, 1)})
