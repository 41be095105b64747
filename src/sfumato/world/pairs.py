"""Pairs of pictures made from scenes: before and after an instruction, low and high resolution, grey, with a hole."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sfumato.world.choose import DEFAULT, SceneConfig, choose_with, colour_for, may_meet, some_concept
from sfumato.world.colours import dominant_colour
from sfumato.world.held_out import SPLITS
from sfumato.world.pictures import SIZE
from sfumato.world.scene import Scene, compose
from sfumato.world.spec import BACKGROUNDS, Kind, Placed, SceneSpec, above, beside
from sfumato.world.store import STYLES, World
from sfumato.world.words import phrase, with_article, without_colour

__all__ = ["EDITS", "Edit", "EditTriple", "edit_triple", "grey", "low_resolution", "with_hole"]

Edit = Literal["recolour", "swap", "add", "background", "style"]
EDITS: tuple[Edit, ...] = ("recolour", "swap", "add", "background", "style")

_STREAM = 1009
_TRIES = 1000
_BASE = {"counts": 0.0, "coloured_background": 0.1, "style_named": 0.0}
_RECOLOUR = ("make the {thing} {new}", "turn the {thing} {new}", "change the colour of the {thing} to {new}")
_SWAP = ("replace the {thing} with {new}", "turn the {thing} into {new}", "swap the {thing} for {new}")
_ADD = ("add {new} {where}", "put {new} {where}", "add {new} {where} the {thing}")
_BACKGROUND = ("make the background {new}", "change the background to {new}", "put it on a {new} background")
_STYLE = ("make it {new}", "change the style to {new}", "draw it in {new} style")


@dataclass(frozen=True, eq=False)
class EditTriple:
    """A scene, an instruction, and the scene after it; everything that the instruction does not name is the same.

    Args:
        before: the scene to edit.
        instruction: English, lower case: "make the car blue".
        after: the edited scene.
        edit: which kind of edit it is.
    """

    before: Scene
    instruction: str
    after: Scene
    edit: Edit


def edit_triple(world: World, seed: int, index: int, config: SceneConfig = DEFAULT) -> EditTriple:
    """Triple ``index`` of the endless stream ``seed``; the five kinds of edits are alike likely.

    Args:
        world: where concepts and pictures come from.
        seed: >= 0.
        index: >= 0.
        config: vocabulary, split and jitter are heeded; scenes have one or two things.

    Raises:
        ValueError: seed or index is negative, or the world is too small.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must not be negative, got {seed} and {index}")
    random = np.random.default_rng((_STREAM, SPLITS.index(config.split), seed, index))
    edit = EDITS[int(random.integers(len(EDITS)))]
    for _ in range(_TRIES):
        base = replace(choose_with(random, world, replace(config, **_BASE)), caption=None)
        found = _EDITORS[edit](world, base, config, random)
        if found is not None:
            before, instruction, after = found
            return EditTriple(compose(world, before), instruction, compose(world, after), edit)
    raise ValueError(f"this world is too small for {edit!r} edits")


_Found = tuple[SceneSpec, str, SceneSpec]


def _recolour(world: World, base: SceneSpec, config: SceneConfig, random: Generator) -> _Found | None:
    number = int(random.integers(len(base.objects)))
    placed = base.objects[number]
    concept = world.concepts[placed.concept]
    colour = colour_for(world, concept, base.style, config.split, random)
    shown = placed.colour or dominant_colour(world.picture(concept, base.style))
    if colour is None or colour == shown:
        return None
    words = _some(_RECOLOUR, random).format(thing=_short(world, placed), new=colour)
    return base, words, _with(base, number, replace(placed, colour=colour))


def _swap(world: World, base: SceneSpec, config: SceneConfig, random: Generator) -> _Found | None:
    number = int(random.integers(len(base.objects)))
    new = replace(base.objects[number], concept=some_concept(world, base.style, config, random).index, colour=None)
    if not all(may_meet(world, new, placed, config.split) for placed in base.objects):
        return None
    words = _some(_SWAP, random).format(thing=_short(world, base.objects[number]), new=_articled(world, new))
    return base, words, _with(base, number, new)


def _add(world: World, base: SceneSpec, config: SceneConfig, random: Generator) -> _Found | None:
    first, concept = base.objects[0], some_concept(world, base.style, config, random)
    colour = colour_for(world, concept, base.style, config.split, random) if random.random() < 0.5 else None
    new = Placed(concept.index, colour)
    if not may_meet(world, first, new, config.split):
        return None
    upright = bool(random.random() < 0.5)
    both = above(first, new) if upright else beside(first, new)
    template = _some(_ADD, random)
    where = ("below" if upright else "to the right") + (" of" if not upright and "{thing}" in template else "")
    words = template.format(new=_articled(world, new), where=where, thing=_short(world, first))
    before = replace(base, objects=both[:1], kind="recoloured" if first.colour else "single", relation="and")
    return before, words, replace(base, objects=both, kind="pair", relation="above" if upright else "left of")


def _background(world: World, base: SceneSpec, config: SceneConfig, random: Generator) -> _Found:
    shown = {placed.colour or dominant_colour(world.picture(placed.concept, base.style)) for placed in base.objects}
    free = [name for name in BACKGROUNDS if name != base.background and name not in shown]
    new = free[int(random.integers(len(free)))]
    words = _some(_BACKGROUND, random).format(new=new).replace(" a orange", " an orange")
    return base, words, replace(base, background=new)


def _style(world: World, base: SceneSpec, config: SceneConfig, random: Generator) -> _Found | None:
    new = _some(tuple(style for style in STYLES if style != base.style), random)
    after = replace(base, style=new)
    try:
        compose(world, after)
    except (KeyError, ValueError):
        return None
    return base, _some(_STYLE, random).format(new=new), after


_EDITORS: Mapping[Edit, Callable[[World, SceneSpec, SceneConfig, Generator], _Found | None]] = {
    "recolour": _recolour,
    "swap": _swap,
    "add": _add,
    "background": _background,
    "style": _style,
}


def _with(spec: SceneSpec, number: int, placed: Placed) -> SceneSpec:
    objects = spec.objects[:number] + (placed,) + spec.objects[number + 1 :]
    alone: Kind = "single" if placed.colour is None else "recoloured"
    return replace(spec, objects=objects, kind=alone if len(objects) == 1 else spec.kind)


def _some(choices: tuple[str, ...], random: Generator) -> str:
    return choices[int(random.integers(len(choices)))]


def _short(world: World, placed: Placed) -> str:
    name = world.concepts[placed.concept].name
    return without_colour(name) if placed.colour else name


def _articled(world: World, placed: Placed) -> str:
    concept = world.concepts[placed.concept]
    return with_article(phrase(concept.name, placed.colour), concept)


def low_resolution(image: NDArray[np.uint8], factor: int = 4) -> NDArray[np.uint8]:
    """The picture at a lower resolution: each pixel is the mean of a square.

    Args:
        image: uint8 (H, W, 3).
        factor: >= 1, divides H and W.

    Returns:
        uint8 (H / factor, W / factor, 3).

    Raises:
        ValueError: factor does not divide the size.
    """
    height, width = image.shape[:2]
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"a factor of {factor} does not divide {height} x {width}")
    squares = image.reshape(height // factor, factor, width // factor, factor, 3).astype(np.float32)
    return (squares.mean(axis=(1, 3)) + 0.5).astype(np.uint8)


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture without colour: Rec. 601 luma in all three channels; uint8 (H, W, 3) to the same."""
    luma = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat((luma + 0.5).astype(np.uint8)[..., None], 3, axis=-1)


def with_hole(image: NDArray[np.uint8], seed: int, index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The picture with a hole: a rectangle of a tenth to four tenths of its area, filled with middle grey.

    Args:
        image: uint8 (64, 64, 3).
        seed: >= 0.
        index: >= 0; together they fix the hole.

    Returns:
        The holed picture, uint8 (64, 64, 3), and the hole, bool (64, 64), True where pixels are missing.
    """
    random = np.random.default_rng((_STREAM, seed, index))
    area, stretch = random.uniform(0.1, 0.4) * SIZE**2, math.exp(random.uniform(-0.4, 0.4))
    height, width = round(math.sqrt(area) * stretch), round(math.sqrt(area) / stretch)
    top, left = int(random.integers(SIZE - height + 1)), int(random.integers(SIZE - width + 1))
    hole = np.zeros((SIZE, SIZE), bool)
    hole[top : top + height, left : left + width] = True
    return np.where(hole[..., None], np.uint8(128), image), hole
