"""Wrong words: the nearest right ones, and text that is safe to print on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

__all__ = ["did_you_mean", "nearest", "printable"]

_LIKE, _BEHIND, _SHORT = 0.6, 0.25, 20
_SEPARATORS = str.maketrans({"-": None, "_": None, " ": None, ".": None, "+": "p"})


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known words that look most like a wrong one.

    Capitals and separators do not matter, "+" reads as "p" (dpm++ is dpmpp), and a beginning of a word is like it.

    Args:
        word: what was typed.
        known: what could have been meant.
        count: at most so many.

    Returns:
        known words, the most similar first; none if nothing is similar, and none that is far behind the first.
    """
    scored = sorted(((_likeness(word, candidate), candidate) for candidate in known), key=lambda pair: -pair[0])
    least = max(_LIKE, scored[0][0] - _BEHIND) if scored else _LIKE
    return [candidate for likeness, candidate in scored[:count] if likeness >= least]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error sentence: "; did you mean 'dpmpp_2m'?"; if nothing is near, all that a short list holds."""
    known = list(known)
    near = nearest(word, known)
    if near:
        return f"; did you mean {_alternatives(near)}?"
    return f"; there {'is' if len(known) == 1 else 'are'} {', '.join(known)}" if 0 < len(known) <= _SHORT else ""


def printable(text: str) -> str:
    """Text without control characters, which could steer a terminal; each becomes its escape, such as ``\\x1b``."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _likeness(word: str, candidate: str) -> float:
    one, other = (text.casefold().translate(_SEPARATORS) for text in (word[:100], candidate))
    if len(one) >= 2 and other.startswith(one):
        return 1.0
    return SequenceMatcher(None, one, other).ratio()


def _alternatives(words: list[str]) -> str:
    quoted = [f"'{word}'" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
