"""Contact sheets: scenes with their captions, boxes and masks drawn, for people to look at."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sfumato.world.choose import DEFAULT, SceneConfig
from sfumato.world.scene import Scene, draw
from sfumato.world.store import World
from sfumato.world.words import phrase

__all__ = ["contact_sheet", "scene_sheet"]

_ZOOM = 3
_PICTURE = 64 * _ZOOM
_GAP = 8
_LINES = 3
_LINE_HEIGHT = 14
_CHARACTERS = 32
_INKS = ((220, 20, 60), (30, 90, 220), (20, 140, 60), (160, 60, 200))


def contact_sheet(world: World, seed: int, count: int, config: SceneConfig = DEFAULT) -> Image.Image:
    """The first scenes of a stream: plain on the left, with boxes and masks on the right, the caption below.

    Args:
        world: where the scenes come from.
        seed: the stream.
        count: number of scenes, >= 1.
        config: what kinds of scenes.

    Returns:
        An RGB picture, four scenes wide.

    Raises:
        ValueError: count is below 1.
    """
    return scene_sheet([draw(world, seed, index, config) for index in range(count)])


def scene_sheet(scenes: Sequence[Scene], columns: int = 4) -> Image.Image:
    """The same for given scenes.

    Args:
        scenes: at least one.
        columns: scenes in a row, >= 1.

    Returns:
        An RGB picture.

    Raises:
        ValueError: there is no scene.
    """
    if not scenes:
        raise ValueError("a contact sheet needs at least one scene")
    width, height = 2 * _PICTURE + 2 * _GAP, _PICTURE + _LINES * _LINE_HEIGHT + _GAP
    columns = min(columns, len(scenes))
    rows = -(-len(scenes) // columns)
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), "white")
    for number, scene in enumerate(scenes):
        sheet.paste(_card(scene), (_GAP + number % columns * width, _GAP + number // columns * height))
    return sheet


def _card(scene: Scene) -> Image.Image:
    card = Image.new("RGB", (2 * _PICTURE + 2, _PICTURE + _LINES * _LINE_HEIGHT), "white")
    plain = Image.fromarray(scene.image).resize((_PICTURE, _PICTURE), Image.Resampling.NEAREST)
    card.paste(plain, (0, 0))
    card.paste(_labelled(scene), (_PICTURE + 2, 0))
    pen = ImageDraw.Draw(card)
    pen.rectangle((0, 0, 2 * _PICTURE + 1, _PICTURE - 1), outline=(200, 200, 200))
    lines = textwrap.wrap(scene.caption, 2 * _CHARACTERS)[: _LINES - 1] + [_facts(scene)]
    for number, line in enumerate(lines):
        pen.text((1, _PICTURE + number * _LINE_HEIGHT), line, fill="black", font=_font())
    return card


def _labelled(scene: Scene) -> Image.Image:
    """The picture dimmed, each mask tinted, each box drawn with its colour and name."""
    pixels = 0.5 * scene.image + 127.5
    for thing, ink in zip(scene.objects, _INKS, strict=False):
        pixels[thing.mask] = 0.5 * scene.image[thing.mask] + 0.5 * np.array(ink)
    picture = Image.fromarray(pixels.astype(np.uint8)).resize((_PICTURE, _PICTURE), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    for thing, ink in zip(scene.objects, _INKS, strict=False):
        x0, y0, x1, y1 = (_ZOOM * edge for edge in thing.box)
        pen.rectangle((x0, y0, x1 - 1, y1 - 1), outline=ink)
        label = phrase(thing.name, thing.colour)
        pen.text((x0 + 2, y0 + 1), label, fill="black", font=_font(), stroke_width=2, stroke_fill="white")
    return picture


def _facts(scene: Scene) -> str:
    return f"[{scene.kind}, {scene.style}, on {scene.background}]"


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(11)
