"""Labelled scenes of emoji: each a pure function of (world, seed, index, config).

``draw`` chooses what to show and ``compose`` shows it. Scene i never depends on scene i - 1, so that data order,
resuming and workers cannot change what training sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.world.captions import canonical_caption
from sfumato.world.choose import DEFAULT, SceneConfig, choose
from sfumato.world.colours import dominant_colour, recolour
from sfumato.world.pictures import LONGER_SIDE, SIZE, Rgba
from sfumato.world.spec import BACKGROUNDS, Kind, Placed, SceneSpec
from sfumato.world.store import World

__all__ = ["Scene", "SceneConfig", "SceneObject", "compose", "draw", "paint"]


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One thing in a scene.

    Args:
        concept: index in ``World.concepts``.
        name: the concept's name.
        colour: the colour it is said to have, else the one measured; None if it has no single colour.
        box: (x0, y0, x1, y1) in pixels, around the mask; x1 and y1 are exclusive.
        mask: bool (64, 64), where it covers more than half of the pixel.
    """

    concept: int
    name: str
    colour: str | None
    box: tuple[int, int, int, int]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and all that is known about it.

    Args:
        image: uint8 (64, 64, 3), sRGB.
        caption: English, lower case.
        objects: in the order of the caption.
        style: "glossy", "flat" or "3d", whether the caption says it or not.
        background: one of ``BACKGROUNDS``.
        kind: "single", "recoloured", "pair" or "count".
        spec: what was asked for; ``compose(world, spec)`` makes the same scene.
    """

    image: NDArray[np.uint8]
    caption: str
    objects: tuple[SceneObject, ...]
    style: str
    background: str
    kind: Kind
    spec: SceneSpec


def draw(world: World, seed: int, index: int, config: SceneConfig = DEFAULT) -> Scene:
    """Scene ``index`` of the endless stream ``seed``.

    Args:
        world: where concepts and pictures come from.
        seed: >= 0; the stream.
        index: >= 0; the position in it.
        config: what kinds of scenes, from which split.

    Raises:
        ValueError: seed or index is negative.
    """
    return compose(world, choose(world, seed, index, config))


def compose(world: World, spec: SceneSpec) -> Scene:
    """Draw what a spec says.

    Args:
        world: where the pictures come from.
        spec: things, places, style and background.

    Returns:
        The scene, with the spec's caption or the canonical one.

    Raises:
        KeyError: the family of that style has no picture of a concept.
        ValueError: a thing cannot take the colour that it is to have, or is wholly hidden.
    """
    image = np.full((SIZE, SIZE, 3), BACKGROUNDS[spec.background], np.float32)
    masks = np.zeros((len(spec.objects), SIZE, SIZE), bool)
    for number, placed in enumerate(spec.objects):
        layer = _layer(_coloured(world, placed, spec.style), placed)
        opacity = layer[..., 3:].astype(np.float32) / 255
        image += opacity * (layer[..., :3] - image)
        masks[:number] &= ~(layer[..., 3] > 127)
        masks[number] = layer[..., 3] > 127
    return Scene(
        image=(image + 0.5).astype(np.uint8),
        caption=spec.caption or canonical_caption(world, spec),
        objects=tuple(
            _object(world, placed, spec.style, mask) for placed, mask in zip(spec.objects, masks, strict=True)
        ),
        style=spec.style,
        background=spec.background,
        kind=spec.kind,
        spec=spec,
    )


def paint(world: World, spec: SceneSpec) -> NDArray[np.uint8]:
    """The picture of a spec alone, uint8 (64, 64, 3)."""
    return compose(world, spec).image


def _coloured(world: World, placed: Placed, style: str) -> Rgba:
    picture = world.picture(placed.concept, style)
    if placed.colour is None or placed.colour == dominant_colour(picture):
        return picture
    changed = recolour(picture, placed.colour)
    if changed is None:
        name = world.concepts[placed.concept].name
        raise ValueError(f"the {style} {name!r} cannot be made {placed.colour}; ask `recolour` first")
    return changed


def _layer(picture: Rgba, placed: Placed) -> Rgba:
    """The picture scaled and moved to its place, on a transparent 64 x 64 canvas."""
    side = round(SIZE * placed.size / LONGER_SIDE)
    image = Image.fromarray(picture)
    if side != SIZE:
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (SIZE, SIZE))
    canvas.paste(image, (round(placed.centre[0] - side / 2), round(placed.centre[1] - side / 2)))
    return np.asarray(canvas)


def _object(world: World, placed: Placed, style: str, mask: NDArray[np.bool_]) -> SceneObject:
    name = world.concepts[placed.concept].name
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise ValueError(f"{name!r} cannot be seen: it lies outside the picture or behind another thing")
    return SceneObject(
        concept=placed.concept,
        name=name,
        colour=placed.colour or dominant_colour(world.picture(placed.concept, style)),
        box=(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1),
        mask=mask,
    )
