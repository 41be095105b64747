"""What of a picture becomes an entry of a memory: the whole of it, or several crops as in the paper.

Boxes are in pixels of the picture as it is seen, and a function of its size and its digest alone: neither the order in
which pictures come nor the process that cuts them changes a crop.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from sfumato.core.image import from_pictures
from sfumato.retrieval.entry import Box

__all__ = ["Crops", "Patches", "Whole", "cut", "patches_named", "thumbnail"]

_QUALITY, _MOST = 75, 100

_GAP = 3.0
"""Where a patch shrinks to less than a third, whole pixels are averaged first: up to four times as fast."""


@dataclass(frozen=True)
class Whole:
    """One patch a picture: the largest square in its middle, which is what ``core.image.cover`` shows of it."""

    @property
    def name(self) -> str:
        """The word that :func:`patches_named` understands."""
        return "whole"

    def boxes(self, width: int, height: int, digest: str) -> list[Box]:
        """The square in the middle.

        Args:
            width: of the picture in pixels, >= 1.
            height: of the picture in pixels, >= 1.
            digest: of the picture file; changes nothing.

        Raises:
            ValueError: a size below 1.
        """
        return [_middle(width, height)]


@dataclass(frozen=True)
class Crops:
    """Several patches a picture.

    As if the picture were resized until its shorter side is ``short_side``, the square in its middle cut out, and from
    that ``least`` to ``most`` squares of ``side`` pixels at random places, each number as often as the others.

    Args:
        short_side: of the resized picture, in pixels.
        side: of a crop, in pixels of the resized picture, in [1, short_side].
        least: crops a picture, >= 1.
        most: crops a picture, in [least, 100].

    Raises:
        ValueError: a number out of range.

    Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 4: 20 million
        patches of OpenImages.
    Differs from the paper: nothing is enlarged. A picture smaller than ``short_side`` is cut into crops of ``side`` of
        its own pixels, one that is smaller than ``side`` is one patch, and crops that fall together are one.
    """

    short_side: int = 1200
    side: int = 256
    least: int = 2
    most: int = 3

    def __post_init__(self) -> None:
        if not (1 <= self.side <= self.short_side and 1 <= self.least <= self.most <= _MOST):
            raise ValueError(
                f"crops need 1 <= side <= short side and 1 <= least <= most <= {_MOST}, got {self.side}, "
                f"{self.short_side}, {self.least}, {self.most}"
            )

    @property
    def name(self) -> str:
        """The words that :func:`patches_named` understands: "crops 1200 256 2 3"."""
        return f"crops {self.short_side} {self.side} {self.least} {self.most}"

    def boxes(self, width: int, height: int, digest: str) -> list[Box]:
        """Where the crops of a picture are.

        Args:
            width: of the picture in pixels, >= 1.
            height: of the picture in pixels, >= 1.
            digest: of the picture file; the only randomness.

        Raises:
            ValueError: a size below 1.
        """
        left, top, right, _ = _middle(width, height)
        square = right - left
        side = max(round(self.side * square / self.short_side), min(self.side, square))
        count = self.least + _draw(f"{digest} count") % (self.most - self.least + 1)
        places = [
            [_draw(f"{digest} {number} {axis}") % (square - side + 1) for axis in "xy"] for number in range(count)
        ]
        return list(dict.fromkeys((left + x, top + y, left + x + side, top + y + side) for x, y in places))


Patches = Whole | Crops
"""How pictures are cut."""


def patches_named(name: str) -> Patches:
    """The patches of a name: "whole", or "crops SHORT_SIDE SIDE LEAST MOST".

    Raises:
        ValueError: no such patches, or numbers out of range.
    """
    kind, *numbers = name.split(" ")
    if name == "whole":
        return Whole()
    if kind == "crops" and len(numbers) == 4 and all(each.isdecimal() and len(each) < 8 for each in numbers):
        return Crops(*map(int, numbers))
    raise ValueError(f'no patches are called {name[:60]!r}; there are "whole" and "crops SHORT_SIDE SIDE LEAST MOST"')


def cut(picture: Image.Image, box: Box, side: int) -> Tensor:
    """A patch as an image.

    Args:
        picture: RGB, as ``core.image.open_picture`` gives it.
        box: a square of it, in pixels.
        side: of the image, in pixels, >= 1.

    Returns:
        (3, side, side), float32 in [-1, 1]; resampled with a bicubic filter that does not alias.

    Raises:
        ValueError: the box is no square inside the picture, or a side below 1.
    """
    return from_pictures([_patch(picture, box, side)])[0]


def thumbnail(picture: Image.Image, box: Box, side: int = 64) -> bytes:
    """A patch as a small WebP; the same pixels give the same bytes.

    Args:
        picture: RGB.
        box: a square of it, in pixels.
        side: of the thumbnail, in pixels, >= 1.

    Raises:
        ValueError: the box is no square inside the picture, or a side below 1.
    """
    file = io.BytesIO()
    _patch(picture, box, side).save(file, "WEBP", quality=_QUALITY, method=4, exif=b"", icc_profile=b"", xmp=b"")
    return file.getvalue()


def _patch(picture: Image.Image, box: Box, side: int) -> Image.Image:
    left, top, right, bottom = box
    inside = 0 <= left < right <= picture.width and 0 <= top < bottom <= picture.height
    if not inside or right - left != bottom - top or side < 1:
        raise ValueError(f"{box} is no square inside {picture.width} x {picture.height} pixels, or {side} no side")
    patch = picture.crop(box)  # a filter given the box alone would see what lies beside it
    return patch.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, reducing_gap=_GAP)


def _middle(width: int, height: int) -> Box:
    if min(width, height) < 1:
        raise ValueError(f"a picture of {width} x {height} pixels has no patches")
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _draw(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
