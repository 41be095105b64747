"""StructureDiffusion: what a phrase means by itself is pasted into what the prompt means.

A text encoder lets words take on each other's colours: in "a red car and a white sheep" the states of "sheep" know of
"red". So each noun phrase c_i of the prompt is also encoded alone, and W_i, a copy of the prompt's states W with the
rows of the phrase's tokens from its own encoding, knows of nothing else there. With n phrases, in all cross-attention,

    average:      O = softmax(Q K^T / sqrt(d)) (V + sum over i of V_i) / (n + 1)
    conjunction:  O = (softmax(Q K^T / sqrt(d)) V + sum over i of softmax(Q K_i^T / sqrt(d)) V_i) / (n + 1)

Values are linear in states, so the average of outputs is attention with the average of states as values: it costs
nothing. Only the phrases' own tokens get other values; and where an encoder reads from left to right, as CLIP's does,
a phrase that begins the prompt is what it was.

Combines with: any mix and any edit; a conjunction with no other edit of further contexts (see ``contexts``).
Forwards per step: 1, as part of its branch; a conjunction makes a map more a phrase in each layer.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.attention.contexts import AddedStates, Contexts
from sfumato.core.attention import AttentionEdit
from sfumato.encoders.text import EncodedText, Span, TextEncoder

__all__ = ["Pasted", "Structure", "Variant", "average", "concepts", "conjunction", "conjunction_compat", "pasted"]

Variant = Literal["average", "conjunction", "conjunction-compat", "conjunction-released"]
"""How phrases enter: see :class:`Structure`."""


@dataclass(frozen=True)
class Structure:
    """The edit that a parser's phrases make, for all cross-attention and all steps.

    Args:
        phrases: from a text to the spans of its phrases, in characters; a parser's, or spans given by hand. The whole
            text and repeated spans are passed over, since the text counts already.
        variant: "average": the phrases' values under the prompt's maps, the paper's default. "conjunction": also their
            own keys, for "A and B", where whole objects vanish. "conjunction-compat": the phrases' keys, all with one
            value, the prompt with all phrases pasted in, inner ones last. "conjunction-released": the same, and that
            state in place of the prompt's key too, as the authors' code computes it by writing where it reads.

    Raises:
        ValueError: an unknown variant.

    Paper: Training-Free Structured Diffusion Guidance for Compositional Text-to-Image Synthesis (Feng et al., 2022),
        arXiv:2212.05032.
    Differs from the paper: tokens are matched by the characters they stand for, not by counting words; what a
        tokenizer divides otherwise, or has cut, keeps the prompt's row. A batch may hold different prompts.
    """

    phrases: Callable[[str], Sequence[Span]]
    variant: Variant = "average"

    def __post_init__(self) -> None:
        known = ("average", "conjunction", "conjunction-compat", "conjunction-released")
        if self.variant not in known:
            raise ValueError(f"the variant of structure must be one of {', '.join(known)}, got {self.variant!r}")

    def __call__(self, encoder: TextEncoder, text: EncodedText) -> AttentionEdit:
        """The edit for a branch of B prompts.

        Args:
            encoder: that encoded them; encodes all their phrases, in one call.
            text: the branch's prompts.

        Returns:
            an edit; not active where no prompt has a phrase.

        Raises:
            ValueError: a span that lies outside its text.
        """
        spans = {each: concepts(each, self.phrases(each)) for each in dict.fromkeys(text.texts)}
        states = pasted(encoder, text, [spans[each] for each in text.texts])
        match self.variant:
            case "average":
                return average(states)
            case "conjunction":
                return conjunction(states)
            case _:
                return conjunction_compat(states, released=self.variant == "conjunction-released")


def concepts(text: str, spans: Sequence[Span]) -> tuple[Span, ...]:
    """The phrases that count: without space around them, each once, longer ones first, the whole text never.

    Args:
        text: a prompt.
        spans: in characters.

    Raises:
        ValueError: a span that lies outside the text, or holds nothing.
    """
    found: set[Span] = set()
    for first, last in spans:
        words = text[first:last] if 0 <= first < last <= len(text) else ""
        if not words.strip():
            raise ValueError(f"a phrase at {(first, last)} is none of the text {text!r} of {len(text)} characters")
        start = first + len(words) - len(words.lstrip())
        stop = start + len(words.strip())
        if re.search(r"\w", text[:start] + text[stop:]):
            found.add((start, stop))
    return tuple(sorted(found, key=lambda span: (span[0] - span[1], span)))


@dataclass(frozen=True, eq=False)
class Pasted:
    """The states of B prompts, and N copies of each with a phrase pasted in.

    Args:
        plain: W (B, L, D).
        valid: (B, L) bool, True where a token is valid.
        copies: W_i (B, N, L, D); copies that an image does not need are W.
        rows: (B, N, L) bool, True for the rows that were pasted.
    """

    plain: Tensor
    valid: Tensor
    copies: Tensor
    rows: Tensor

    @property
    def parts(self) -> Tensor:
        """n + 1, prompt and phrases of each image, (B, 1, 1)."""
        return 1 + self.rows.any(dim=-1).sum(dim=1).to(self.plain)[:, None, None]

    @property
    def whole(self) -> Tensor:
        """The prompt with all phrases pasted in, later ones over earlier ones, (B, L, D)."""
        whole = self.plain
        for copy, rows in zip(self.copies.unbind(1), self.rows.unbind(1), strict=True):
            whole = torch.where(rows[..., None], copy, whole)
        return whole


def pasted(encoder: TextEncoder, text: EncodedText, phrases: Sequence[Sequence[Span]]) -> Pasted:
    """Paste phrases, encoded alone, into the states of their prompts, token by token at the same characters.

    Args:
        encoder: that encoded the prompts.
        text: B prompts; left as it is.
        phrases: for each prompt, spans in characters, with no space around them.

    Returns:
        states (B, L, D) and copies (B, N, L, D), N being the largest number of phrases; a phrase without a token of
        its own in the prompt, as in what was cut, is left out with a warning that names it.

    Raises:
        ValueError: an encoder without tokens.
    """
    plain, valid = _tokens(text), text.condition.token_mask
    valid = plain.new_ones(plain.shape[:2], dtype=torch.bool) if valid is None else valid
    words = [[prompt[first:last] for first, last in spans] for prompt, spans in zip(text.texts, phrases, strict=True)]
    number = {phrase: index for index, phrase in enumerate(dict.fromkeys(phrase for each in words for phrase in each))}
    if not number:
        return Pasted(plain, valid, plain[:, None][:, :0], valid[:, None][:, :0])
    alone = encoder(list(number))
    numbers = torch.zeros(len(words), max(map(len, words)), 1, dtype=torch.long)
    sources = torch.full((*numbers.shape[:2], plain.shape[1]), -1)
    for image, spans in enumerate(phrases):
        for place, (phrase, (first, _)) in enumerate(zip(words[image], spans, strict=True)):
            numbers[image, place] = number[phrase]
            found = _sources(text.spans[image], alone.spans[number[phrase]], first)
            sources[image, place] = torch.tensor(found)
            if max(found) < 0:
                warnings.warn(f"the phrase {phrase!r} has no token in the prompt and is left out", stacklevel=3)
    rows = (sources >= 0).to(plain.device)
    copies = torch.where(rows[..., None], _tokens(alone)[numbers, sources], plain[:, None])
    needed = rows.any(dim=-1).any(dim=0)
    return Pasted(plain, valid, copies[:, needed], rows[:, needed])


def _tokens(text: EncodedText) -> Tensor:
    if text.condition.tokens is None:
        raise ValueError("phrases need a text encoder that gives tokens")
    return text.condition.tokens


def _sources(prompt: Sequence[Span], phrase: Sequence[Span], first: int) -> list[int]:
    """For each token of the prompt, the phrase's token of the same characters, or -1.

    Pieces of one character, of which byte-level tokenizers make several, are taken in order.
    """
    places: dict[Span, list[int]] = {}
    for index, (start, stop) in enumerate(phrase):
        if stop > start:
            places.setdefault((start + first, stop + first), []).append(index)
    return [places[span].pop(0) if places.get(span) else -1 for span in prompt]


def average(states: Pasted) -> AttentionEdit:
    """Values from the mean of the prompt and its copies: V + sum over i of (V_i - V) / (n + 1).

    Args:
        states: B prompts (B, L, D).
    """
    if states.copies.shape[1] == 0:
        return AddedStates()
    return AddedStates(values=(states.copies - states.plain[:, None]).sum(dim=1) / states.parts)


def conjunction(states: Pasted) -> AttentionEdit:
    """The mean of what the prompt and its copies give, each with its own keys and values.

    Args:
        states: B prompts (B, L, D).
    """
    return Contexts(states.copies, states.copies, *_equal_parts(states))


def conjunction_compat(states: Pasted, released: bool = False) -> AttentionEdit:
    """The mean map of the prompt and its copies, on one value: the prompt with all phrases pasted in.

    Args:
        states: B prompts (B, L, D).
        released: that state is the prompt's key too.
    """
    whole = states.whole
    own = AddedStates(keys=whole - states.plain if released else None, values=whole - states.plain)
    return Contexts(states.copies, whole[:, None].expand_as(states.copies), *_equal_parts(states), own=own)


def _equal_parts(states: Pasted) -> tuple[Tensor, Tensor]:
    """Which tokens of the copies are valid (B, N, L), and shares of 1 / (n + 1) for prompt and copies."""
    there = states.rows.any(dim=-1)
    shares = F.pad(there.to(states.plain), (1, 0), value=1.0) / states.parts[..., 0]
    return there[..., None] & states.valid[:, None], shares[..., None, None]
