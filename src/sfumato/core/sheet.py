"""Sheets: several images as one picture, with words beside them."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sfumato.core.image import to_pictures

__all__ = ["grid", "table"]

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def grid(images: Tensor, columns: int, labels: Sequence[str] = (), gap: int = 4) -> Image.Image:
    """A contact sheet, row by row, with a line of text under each image.

    Args:
        images: (B, 3, H, W) in [-1, 1].
        columns: images in a row, >= 1.
        labels: one text an image, cut to its width; none for no text.
        gap: pixels between images.

    Returns:
        an RGB picture on white.

    Raises:
        ValueError: no columns, another number of labels than images, or no images.
    """
    pictures = to_pictures(images)
    if columns < 1 or len(labels) not in (0, len(pictures)):
        raise ValueError(f"needs columns >= 1 and no or {len(pictures)} labels, got {columns} and {len(labels)}")
    width, height = pictures[0].size
    font = _font(width)
    line = int(font.getbbox("Ag")[3]) + 3 if labels else 0
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + line + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for index, picture in enumerate(pictures):
        left, top = gap + index % columns * (width + gap), gap + index // columns * (height + line + gap)
        sheet.paste(picture, (left, top))
        if labels:
            draw.text((left, top + height + 1), _cut(labels[index], font, width), fill="black", font=font)
    return sheet


def table(
    images: Tensor, across: Sequence[str], down: Sequence[str] = ("",), blocks: Sequence[str] = ("",)
) -> Image.Image:
    """Images in columns and rows with a word for each, in blocks one below the other.

    Args:
        images: (blocks * down * across, 3, H, W) in [-1, 1], row by row.
        across: a word over each column.
        down: a word beside each row.
        blocks: a line over each block.

    Returns:
        an RGB picture on white; words that are too long for their place are cut, those beside rows get the place they
        need up to twice an image's width.

    Raises:
        ValueError: another number of images than places.
    """
    pictures = to_pictures(images)
    if len(pictures) != len(across) * len(down) * len(blocks):
        raise ValueError(f"{len(pictures)} images do not fill {len(blocks)} x {len(down)} x {len(across)} places")
    width, height = pictures[0].size
    font, gap = _font(width), 4
    line = int(font.getbbox("Ag")[3]) + 3
    side = min(2 * width, max(int(font.getlength(word)) for word in down)) + (gap if any(down) else 0)
    head = line if any(blocks) else 0
    tall = head + line + len(down) * (height + gap)
    sheet = Image.new("RGB", (side + len(across) * (width + gap) + gap, len(blocks) * tall + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for block, title in enumerate(blocks):
        top = block * tall
        draw.text((gap, top), _cut(title, font, sheet.width - gap), fill="black", font=font)
        for column, word in enumerate(across):
            left = gap + side + column * (width + gap)
            draw.text((left, top + head), _cut(word, font, width), fill="black", font=font)
        for row, word in enumerate(down):
            above = top + head + line + row * (height + gap)
            draw.text((gap, above + (height - line) // 2), _cut(word, font, side), fill="black", font=font)
            for column in range(len(across)):
                number = (block * len(down) + row) * len(across) + column
                sheet.paste(pictures[number], (gap + side + column * (width + gap), above))
    return sheet


def _font(width: int) -> _Font:
    """A font for words under an image of a width."""
    return ImageFont.load_default(size=max(9, min(14, width // 8)))


def _cut(text: str, font: _Font, width: int) -> str:
    line = " ".join(text.split())
    while line and font.getlength(line) > width:
        line = line[:-1]
    return line
