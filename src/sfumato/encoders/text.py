"""Text to tokens, with the way back from characters to tokens.

Diffusion networks attend to a sequence of token states. Methods that edit attention speak of words ("red hat"), so each
encoding keeps, for every token, the characters it stands for: a word may be several tokens, and punctuation is a token.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import torch
from torch import Tensor

from sfumato.core.condition import Condition

__all__ = ["EncodedText", "Span", "TextEncoder", "TokenEncoder", "one_each"]

Span = tuple[int, int]
"""First character and the one after the last; (0, 0) for padding and the marks of beginning and end."""

_SHOWN = 80


def one_each(text: str | Sequence[str], count: int, what: str) -> tuple[str, ...]:
    """A text for each of ``count`` pictures, given as one for all or as one each.

    Args:
        text: one, or ``count`` of them.
        count: pictures.
        what: it is, for the message.

    Raises:
        ValueError: another number of texts.
    """
    texts = (text,) * count if isinstance(text, str) else tuple(text)
    if len(texts) != count:
        raise ValueError(f"{what} has {len(texts)} texts for {count} pictures; give one, or one a picture")
    return texts


@dataclass(frozen=True, eq=False)
class EncodedText:
    """Token states of B texts, and where each token comes from.

    Args:
        condition: tokens (B, L, D); token_mask (B, L) when lengths differ; vector (B, P) where the encoder has one.
        texts: the B texts.
        spans: for each text, the span of each of its L tokens.
        cut: for each text, what did not fit and was left out; "" for nothing.
    """

    condition: Condition
    texts: tuple[str, ...]
    spans: tuple[tuple[Span, ...], ...]
    cut: tuple[str, ...]

    def find(self, phrase: str, image: int = 0, occurrence: int = 0) -> list[int]:
        """The tokens of a phrase; capitals and the width of spaces do not matter.

        Args:
            phrase: whole words of the text, such as "red hat".
            image: which of the B texts.
            occurrence: which of several places, 0 the first.

        Returns:
            indices into L, ascending; at least one.

        Raises:
            ValueError: the phrase is not there (the nearest ones are named), or lies in what was cut.
        """
        places = self._places(phrase, image)
        if occurrence >= len(places):
            raise ValueError(_not_found(phrase, self.texts[image], len(places)))
        found = self._at(places[occurrence], image)
        if not found:
            raise ValueError(f"{phrase!r} lies in the part of the text that was too long and was cut; shorten the text")
        return found

    def find_all(self, phrase: str, image: int = 0) -> list[int]:
        """The tokens of a phrase at all its places.

        Args:
            phrase: whole words of the text.
            image: which of the B texts.

        Returns:
            indices into L, ascending; at least one. Places in what was cut are left out.

        Raises:
            ValueError: as in :meth:`find`.
        """
        self.find(phrase, image)
        return sorted({token for place in self._places(phrase, image) for token in self._at(place, image)})

    def _places(self, phrase: str, image: int) -> list[Span]:
        """Where a phrase stands, in characters."""
        found = _whole_words(phrase).finditer(self.texts[image]) if phrase.strip() else ()
        return [match.span() for match in found]

    def _at(self, place: Span, image: int) -> list[int]:
        """The tokens of a place; none if part of it was cut."""
        first, last = place
        if last > len(self.texts[image]) - len(self.cut[image]):
            return []
        return [index for index, (start, end) in enumerate(self.spans[image]) if max(start, first) < min(end, last)]


@dataclass(frozen=True)
class _Row:
    """The tokens of one text: their ids and spans, marks included, and what of the text is not among them."""

    ids: tuple[int, ...]
    spans: tuple[Span, ...]
    cut: str = ""

    def padded(self, length: int, pad: int) -> _Row:
        more = length - len(self.ids)
        return _Row(self.ids + (pad,) * more, self.spans + ((0, 0),) * more, self.cut)


@dataclass(frozen=True, eq=False)
class TokenEncoder:
    """One tokenizer with its transformer.

    Args:
        tokenizer: a fast tokenizer of transformers, which knows character offsets.
        module: ``CLIPTextModel``, ``CLIPTextModelWithProjection`` or ``BertModel``.
        layer: "last": the last states, as Stable Diffusion uses; "penultimate": those before the last layer, as SDXL.
        whole_length: pad to the longest possible length, unmasked, as CLIP's networks were trained; False: pad to the
            longest text of the call, masked.
        pooled: also give the projected vector of the whole text.
    """

    tokenizer: Any
    module: Any
    layer: Literal["last", "penultimate"] = "last"
    whole_length: bool = True
    pooled: bool = False

    def __post_init__(self) -> None:
        self._rows([""])  # now, not in a thread: switches off what the tokenizer's file may have switched on

    @property
    def longest(self) -> int:
        """Largest number of tokens, marks included."""
        return min(self.tokenizer.model_max_length, self.module.config.max_position_embeddings)

    def __call__(self, texts: Sequence[str]) -> EncodedText:
        """Encode B texts; a text that is too long is cut, which ``cut`` reports. Threads may share an encoder.

        Raises:
            ValueError: a text that is not valid Unicode.
        """
        rows = self._rows(texts)
        length = self.longest if self.whole_length else max(len(row.ids) for row in rows)
        padded = [row.padded(length, self.tokenizer.pad_token_id) for row in rows]
        mask = None if self.whole_length else torch.tensor([[i < len(row.ids) for i in range(length)] for row in rows])
        states, vector = self._states(torch.tensor([row.ids for row in padded]), mask)
        return EncodedText(
            condition=Condition(
                tokens=states,
                token_mask=None if mask is None or bool(mask.all()) else mask.to(states.device),
                vector=vector,
            ),
            texts=tuple(texts),
            spans=tuple(row.spans for row in padded),
            cut=tuple(row.cut for row in rows),
        )

    def _states(self, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        penultimate, device = self.layer == "penultimate", self.module.device
        given = None if mask is None else mask.long().to(device)
        output = self.module(ids.to(device), attention_mask=given, output_hidden_states=penultimate)
        states = output.hidden_states[-2] if penultimate else output.last_hidden_state
        return states.float(), output.text_embeds.float() if self.pooled else None

    def _rows(self, texts: Sequence[str]) -> list[_Row]:
        """Texts as tokens, without padding and as many as fit.

        A fast tokenizer keeps padding and truncation as its own state, which threads would switch for each other.
        """
        for text in texts:
            _check_unicode(text)
        found = self.tokenizer(list(texts), return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
        columns = zip(texts, found["input_ids"], found["offset_mapping"], found["special_tokens_mask"], strict=True)
        return [_fitted(text, ids, spans, marks, self.longest) for text, ids, spans, marks in columns]


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """What turns prompts into conditions: one token encoder, or several whose states are put side by side (SDXL).

    Args:
        encoders: one or more; the last pooled one gives the vector.
        zero_null: the null text is zeros, as SDXL was trained, instead of the encoding of "".

    Raises:
        ValueError: no encoders.
    """

    encoders: tuple[TokenEncoder, ...]
    zero_null: bool = False

    def __post_init__(self) -> None:
        if not self.encoders:
            raise ValueError("a text encoder needs at least one token encoder")

    def __call__(self, texts: Sequence[str]) -> EncodedText:
        """Encode texts.

        Args:
            texts: B texts, B >= 1.

        Returns:
            tokens (B, L, D) float32 with spans; a warning names what was cut of a text that is too long, in 80
            characters at most.

        Raises:
            ValueError: no texts, one that is not valid Unicode, or token encoders that divide a text differently.
        """
        if isinstance(texts, str) or not texts:
            raise ValueError("expected a list of one or more texts")
        first, *others = [encoder(texts) for encoder in self.encoders]
        for left_out in dict.fromkeys(_shown(cut) for cut in first.cut if cut):
            limit = self.encoders[0].longest
            warnings.warn(f"only {limit} tokens fit, so this end of a text was cut: {left_out!r}", stacklevel=2)
        if any(other.spans != first.spans for other in others):
            raise ValueError("the text encoders of this checkpoint divide texts differently, so words have no tokens")
        return EncodedText(_side_by_side([first, *others]), first.texts, first.spans, first.cut)

    def null(self, count: int) -> Condition:
        """The condition of no text, for ``count`` images: tokens (count, L, D), and a vector if texts have one."""
        empty = self([""]).condition
        if self.zero_null:
            blank = [None if value is None else torch.zeros_like(value) for value in (empty.tokens, empty.vector)]
            empty = empty.replace(tokens=blank[0], vector=blank[1])
        return empty.rows([0] * count)


def _fitted(text: str, ids: Sequence[int], spans: Sequence[Span], marks: Sequence[int], longest: int) -> _Row:
    """The tokens of a text as far as ``longest`` of them; the marks of its end, where ``marks`` is 1, stay."""
    if len(ids) <= longest:
        return _Row(tuple(ids), tuple(spans))
    end = len(marks) - list(reversed(marks)).index(0)
    kept = end - (len(ids) - longest)
    return _Row((*ids[:kept], *ids[end:]), (*spans[:kept], *spans[end:]), text[spans[kept][0] :])


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the text {_shown(text)!r} is not valid Unicode; write it in UTF-8") from error


def _shown(text: str) -> str:
    """A text for a message: the middle of a long one is left out."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 23]}...{text[-20:]}"


def _side_by_side(encoded: Sequence[EncodedText]) -> Condition:
    conditions = [one.condition for one in encoded]
    vectors = [condition.vector for condition in conditions if condition.vector is not None]
    tokens = [condition.tokens for condition in conditions if condition.tokens is not None]
    return conditions[0].replace(
        tokens=tokens[0] if len(tokens) == 1 else torch.cat(tokens, dim=-1),
        vector=vectors[-1] if vectors else None,
    )


def _whole_words(phrase: str) -> re.Pattern[str]:
    words = r"\s+".join(re.escape(word) for word in phrase.split())
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)


def _not_found(phrase: str, text: str, places: int) -> str:
    if places:
        return f"{phrase!r} is only {places} time(s) in the text {text!r}"
    words, length = text.split(), max(1, len(phrase.split()))
    candidates = [" ".join(words[i : i + length]) for i in range(len(words) - length + 1)]
    near = get_close_matches(phrase, candidates, n=3, cutoff=0.4) or candidates[:5]
    hint = "; nearest are " + ", ".join(repr(words) for words in near) if near else ""
    return f"{phrase!r} is not in the text {text!r}{hint}"
