"""What training never shows, fixed by hash: colours on concepts, and concepts beside each other.

A pair is held out when the first eight bytes of a SHA-256 over its words, as a fraction of their range, lie below the
share. The answer depends on the words alone: not on the cache, the vocabulary or the version of the library.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from sfumato.world.colours import WORDS

__all__ = ["SPLITS", "Split", "is_held_out_pair", "is_held_out_together"]

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
"""Each split has a random stream of its own; only "test" shows what is held out."""

_SHARE = 0.1


def is_held_out_pair(colour: str, concept_key: str) -> bool:
    """Whether this colour is never named together with this concept in training; true for a tenth of the pairs.

    The concept counts without its colour word, since a red and a green apple made blue are both "a blue apple".
    A colour that is part of the concept's own name ("red-apple") is never held out.
    """
    words = concept_key.split("-")
    noun = "-".join(word for word in words if word not in WORDS)
    return colour not in words and _fraction("colour", colour, noun) < _SHARE


def is_held_out_together(first_key: str, second_key: str) -> bool:
    """Whether these two concepts never share a training scene, in either order; true for a tenth of the pairs."""
    return _fraction("together", *sorted((first_key, second_key))) < _SHARE


def _fraction(*words: str) -> float:
    digest = hashlib.sha256("\n".join(("sfumato emoji world", *words)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
