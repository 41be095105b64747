"""What a recipe says of the memory whose pictures were in a context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sfumato.fields import Rule, either, number, one_of, or_none, rows, text, whole
from sfumato.given import GIVEN, HEXADECIMAL, Given

__all__ = ["MODES", "NULLS", "FromMemory"]

MODES = ("query", "neighbours", "both", "and")
"""What fills the context: the query, its neighbours, both in one context, or both as branches of a composition."""

NULLS = ("trained", "zero")
"""What guidance starts from: the null that the model was trained with, or tokens of zeros."""


@dataclass(frozen=True)
class FromMemory:
    """How a context was filled, and with what.

    Args:
        memory: name of its folder, and its fingerprint.
        mode: one of ``MODES``.
        count: k, pictures in the context, in [1, 64].
        pool: k are drawn from so many of the nearest; 0: the nearest are taken.
        query: the picture that is asked for; None: the prompt is.
        share: of the memory from which an entry is drawn that stands for the query, in (0, 1]; None: one is asked for.
        weighted: whether it is drawn as often as training pictures are near to it.
        null: one of ``NULLS``.
        found: (id, source) of the entries in the context, the nearest first; empty until they are looked for.

    Raises:
        ValueError: a field of another type or outside its range.
    """

    memory: Given
    mode: str = "both"
    count: int = 4
    pool: int = 0
    query: Given | None = None
    share: float | None = None
    weighted: bool = True
    null: str = "trained"
    found: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            rule.check(f"{name} of the memory", getattr(self, name))


_RULES: Mapping[str, Rule] = {
    "memory": GIVEN,
    "mode": one_of(*MODES),
    "count": whole(1, 64),
    "pool": whole(0, 1_000_000),
    "query": or_none(GIVEN),
    "share": or_none(number(1e-9, 1)),
    "weighted": either(),
    "null": one_of(*NULLS),
    "found": rows("an entry's id and source", HEXADECIMAL, text(4096), longest=64),
}
