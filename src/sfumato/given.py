"""Files and places that a recipe names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sfumato.fields import Rule, fits_all, text, whole

__all__ = ["GIVEN", "HEXADECIMAL", "NAME", "PLACE", "Box", "Given"]

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels, the last two outside."""


@dataclass(frozen=True)
class Given:
    """A file that a picture was made from.

    Args:
        name: of the file, or of a folder with a model or a memory; never a path.
        digest: hexadecimal digits of what it holds: SHA-256 of a file, the fingerprint of a model or a memory.
    """

    name: str
    digest: str


def _is_given(value: Any) -> bool:
    return isinstance(value, Given) and NAME.fits(value.name) and HEXADECIMAL.fits(value.digest)


def _is_place(value: Any) -> bool:
    return _is_given(value) or (fits_all(value, (whole(0, 4096),) * 4) and value[0] < value[2] and value[1] < value[3])


NAME = text(200)
HEXADECIMAL = Rule(
    lambda v: isinstance(v, str) and len(v) <= 64 and set(v) <= set("0123456789abcdef"),
    "hexadecimal",
)
GIVEN = Rule(_is_given, "a file's name and digest")
PLACE = Rule(_is_place, "a file, or a box")
