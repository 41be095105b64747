"""Spans of a text, and the one order and cleanness that lists of phrases have, whoever found them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

__all__ = ["Span", "graph", "tidied"]

Span = tuple[int, int]
"""First character of a text and the one after the last."""


def tidied(text: str, spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans as phrases: of more than one word, each once, outer before inner, left to right.

    Spaces and punctuation are taken off both ends. What is then the whole text is left out: it is encoded anyway, and
    would count twice.

    Args:
        text: the text that spans are of.
        spans: in any order.

    Returns:
        by first character, the longest first.
    """
    whole = _trimmed(text, (0, len(text)))
    clean = {_trimmed(text, span) for span in spans}
    return tuple(sorted((s for s in clean if s != whole and _has_words(text, s)), key=lambda s: (s[0], -s[1])))


def graph(text: str, entities: Iterable[Span], relations: Iterable[Span]) -> tuple[Span, ...]:
    """The phrases of a scene graph: entities first, then relations, each ``tidied``; none occurs twice."""
    return tuple(dict.fromkeys((*tidied(text, entities), *tidied(text, relations))))


def _trimmed(text: str, span: Span) -> Span:
    start, end = span
    while start < end and _is_edge(text[start]):
        start += 1
    while start < end and _is_edge(text[end - 1]):
        end -= 1
    return start, end


def _has_words(text: str, span: Span) -> bool:
    """Whether a trimmed span has more than one word: a space inside has words on both sides."""
    return any(character.isspace() for character in text[slice(*span)])


def _is_edge(character: str) -> bool:
    """Whether no phrase begins or ends with it: spaces, control characters, punctuation, and marks such as "`"."""
    category = unicodedata.category(character)
    return character.isspace() or category[0] in "ZPC" or category in ("Sk", "Sm")
