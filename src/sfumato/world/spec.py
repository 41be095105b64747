"""What a scene shows, as plain data: things, colours, places, style and background."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["BACKGROUNDS", "KINDS", "Kind", "Placed", "Relation", "SceneSpec", "above", "beside", "row_of", "single"]

Kind = Literal["single", "recoloured", "pair", "count"]
KINDS: tuple[Kind, ...] = ("single", "recoloured", "pair", "count")
Relation = Literal["and", "left of", "above"]

BACKGROUNDS: Mapping[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "red": (224, 92, 88),
    "orange": (245, 166, 96),
    "yellow": (250, 226, 128),
    "green": (134, 201, 130),
    "blue": (116, 176, 236),
    "purple": (160, 128, 214),
    "pink": (248, 184, 208),
    "brown": (128, 92, 66),
    "grey": (158, 158, 158),
    "black": (24, 24, 24),
}
"""sRGB of each background; white goes without saying."""

_SINGLE = 60.0
_HALF = 30.0
_COUNTED: Mapping[int, tuple[tuple[float, float], ...]] = {
    2: ((16, 32), (48, 32)),
    3: ((16, 17), (48, 17), (32, 47)),
    4: ((16, 16), (48, 16), (16, 48), (48, 48)),
}


@dataclass(frozen=True)
class Placed:
    """One thing at one place.

    Args:
        concept: index in ``World.concepts``.
        colour: the colour it is said to have and will have; None leaves it as drawn, unnamed.
        centre: (x, y) in pixels from the upper left corner, in [0, 64].
        size: longer side in pixels, in [4, 64].
    """

    concept: int
    colour: str | None = None
    centre: tuple[float, float] = (32.0, 32.0)
    size: float = _SINGLE


@dataclass(frozen=True)
class SceneSpec:
    """What a scene shows; ``compose`` draws it.

    Args:
        objects: one to four things, the first named first.
        style: "glossy", "flat" or "3d".
        background: one of ``BACKGROUNDS``.
        kind: "single", "recoloured", "pair" or "count".
        relation: how a pair is put in words.
        style_named: whether the caption says the style.
        caption: None stands for the canonical caption.

    Raises:
        ValueError: no object or more than four, an unknown background, or a size out of range.
    """

    objects: tuple[Placed, ...]
    style: str = "glossy"
    background: str = "white"
    kind: Kind = "single"
    relation: Relation = "and"
    style_named: bool = False
    caption: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.objects) <= 4:
            raise ValueError(f"a scene has one to four objects, not {len(self.objects)}")
        if self.background not in BACKGROUNDS:
            raise ValueError(f"no background {self.background!r}; there are {', '.join(BACKGROUNDS)}")
        if any(not 4 <= placed.size <= 64 for placed in self.objects):
            raise ValueError("the size of an object lies between 4 and 64 pixels")


def single(concept: int, colour: str | None = None) -> tuple[Placed, ...]:
    """One thing in the middle, as large as fits."""
    return (Placed(concept, colour),)


def beside(left: Placed, right: Placed) -> tuple[Placed, ...]:
    """Two things side by side, at half size."""
    return tuple(
        Placed(placed.concept, placed.colour, (x, 32.0), _HALF)
        for placed, x in zip((left, right), (16, 48), strict=True)
    )


def above(upper: Placed, lower: Placed) -> tuple[Placed, ...]:
    """Two things one above the other, at half size."""
    return tuple(
        Placed(placed.concept, placed.colour, (32.0, y), _HALF)
        for placed, y in zip((upper, lower), (16, 48), strict=True)
    )


def row_of(count: int, concept: int, colour: str | None = None) -> tuple[Placed, ...]:
    """Two, three or four of one thing, without overlap."""
    return tuple(Placed(concept, colour, centre, _HALF) for centre in _COUNTED[count])
