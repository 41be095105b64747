"""What can be wrong: a picture that is passed over, and a memory that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BROKEN", "Fault", "RetrievalError"]

BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading a JSON file that is not as it was written may raise."""


class RetrievalError(ValueError):
    """A memory, or something in one, that is missing, damaged or of another kind; one sentence for the user."""


@dataclass(frozen=True)
class Fault:
    """A picture that was passed over.

    Args:
        source: where it was found, inside its corpus.
        reason: what is wrong with it, in one sentence.
    """

    source: str
    reason: str
