"""Sheets: several images as one picture, with words beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sfumato.core.image import to_pictures

__all__ = ["grid", "table"]

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_MOST_LINES, _GAP = 3, 4


def grid(images: Tensor, columns: int, labels: Sequence[str] = (), gap: int = _GAP) -> Image.Image:
    """A contact sheet, row by row, with words under each image.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        columns: images in a row, >= 1.
        labels: one text an image, on up to three lines of its width; none for no text.
        gap: pixels between images.

    Returns:
        an RGB picture on white; words that are too long for their place are cut, and end with dots.

    Raises:
        ValueError: no columns, another number of labels than images, or no images.
    """
    pictures = to_pictures(images)
    if columns < 1 or len(labels) not in (0, len(pictures)):
        raise ValueError(f"needs columns >= 1 and no or {len(pictures)} labels, got {columns} and {len(labels)}")
    width, height = pictures[0].size
    words = _Words(width)
    below = words.height(labels, width)
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + below + gap) + gap), "white")
    for index, picture in enumerate(pictures):
        left, top = gap + index % columns * (width + gap), gap + index // columns * (height + below + gap)
        sheet.paste(picture, (left, top))
        if labels:
            words.write(sheet, (left, top + height + 1), labels[index], width)
    return sheet


def table(
    images: Tensor, across: Sequence[str], down: Sequence[str] = ("",), blocks: Sequence[str] = ("",)
) -> Image.Image:
    """Images in columns and rows with words for each, in blocks one below the other.

    Args:
        images: (blocks * down * across, 3, H, W) in [-1, 1], row by row.
        across: words over each column, on up to three lines.
        down: words beside each row; they get the place they need, up to twice an image's width.
        blocks: a line over each block.

    Returns:
        an RGB picture on white; words that are too long for their place are cut, and end with dots.

    Raises:
        ValueError: another number of images than places.
    """
    pictures = to_pictures(images)
    if len(pictures) != len(across) * len(down) * len(blocks):
        raise ValueError(f"{len(pictures)} images do not fill {len(blocks)} x {len(down)} x {len(across)} places")
    width, height = pictures[0].size
    words = _Words(width)
    beside = words.lines_in(height)
    side = min(2 * width, max(words.length(each) for each in down)) + (_GAP if any(down) else 0)
    across_width = side + len(across) * (width + _GAP) + _GAP
    title, head = words.height(blocks, across_width, 1), words.height(across, width)
    tall = title + head + len(down) * (height + _GAP)
    sheet = Image.new("RGB", (across_width, len(blocks) * tall + _GAP), "white")
    for block, over in enumerate(blocks):
        top = block * tall
        words.write(sheet, (_GAP, top), over, across_width - _GAP, 1)
        for column, word in enumerate(across):
            words.write(sheet, (_GAP + side + column * (width + _GAP), top + title), word, width)
        for row, word in enumerate(down):
            above = top + title + head + row * (height + _GAP)
            words.write(sheet, (_GAP, above + (height - words.height([word], side, beside)) // 2), word, side, beside)
            for column in range(len(across)):
                number = (block * len(down) + row) * len(across) + column
                sheet.paste(pictures[number], (_GAP + side + column * (width + _GAP), above))
    return sheet


class _Words:
    """Writes words on a sheet whose images have a width."""

    def __init__(self, width: int) -> None:
        self._font: _Font = ImageFont.load_default(size=max(9, min(14, width // 8)))
        self._line = int(self._font.getbbox("Ag")[3]) + 3

    def length(self, text: str) -> int:
        """Pixels that a text takes on one line."""
        return math.ceil(self._font.getlength(text))

    def lines_in(self, height: int) -> int:
        """How many lines of text have a height, at least one."""
        return max(1, height // self._line)

    def height(self, texts: Sequence[str], width: int, most: int = _MOST_LINES) -> int:
        """Pixels that the tallest of some texts takes; 0 if all are empty."""
        return self._line * max((len(self._lines(text, width, most)) for text in texts), default=0)

    def write(self, sheet: Image.Image, place: tuple[int, int], text: str, width: int, most: int = _MOST_LINES) -> None:
        """Write a text with its left upper corner at a place (x, y)."""
        draw, (left, top) = ImageDraw.Draw(sheet), place
        for number, line in enumerate(self._lines(text, width, most)):
            draw.text((left, top + number * self._line), line, fill="black", font=self._font)

    def _lines(self, text: str, width: int, most: int) -> list[str]:
        """A text in lines of a width; a word that is longer is broken, and what is over the last line cut."""
        lines: list[str] = []
        rest = " ".join(text.split())
        while rest and len(lines) < most:
            fits = self._fitting(rest, width)
            stop = len(rest) if fits == len(rest) else rest.rfind(" ", 0, fits + 1)
            stop = stop if stop > 0 else fits
            lines, rest = [*lines, rest[:stop]], rest[stop:].lstrip()
        if rest:
            full = f"{lines[-1]} {rest}"
            lines[-1] = full[: max(self._fitting(f"…{full}", width) - 1, 0)] + "…"
        return lines

    def _fitting(self, text: str, width: int) -> int:
        """How many of a text's letters have a width, at least one."""
        return next((n for n in range(min(len(text), width), 1, -1) if self._font.getlength(text[:n]) <= width), 1)
