"""Choosing what a scene shows: kind, concepts, colours, places, style and background, from one random stream."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import numpy as np
from numpy.random import Generator

from sfumato.world.captions import caption
from sfumato.world.colours import COLOURS, dominant_colour, recolour
from sfumato.world.held_out import SPLITS, Split, is_held_out_pair, is_held_out_together
from sfumato.world.names import Concept
from sfumato.world.spec import BACKGROUNDS, KINDS, Kind, Placed, Relation, SceneSpec, above, beside, row_of, single
from sfumato.world.store import STYLES, World
from sfumato.world.words import without_colour

__all__ = [
    "DEFAULT",
    "SceneConfig",
    "choose",
    "choose_with",
    "colour_for",
    "is_another_name",
    "may_meet",
    "some_concept",
]

_TRIES = 3
_MANY_TRIES = 1000


@dataclass(frozen=True)
class SceneConfig:
    """What kinds of scenes are drawn.

    Args:
        singles: weight of one thing in its own colours.
        recoloured: weight of one thing whose colour is named, and usually changed.
        pairs: weight of two things.
        counts: weight of two to four of one thing.
        coloured_background: share of scenes on another background than white, in [0, 1].
        style_named: share of captions that say the style, in [0, 1].
        pair_coloured: share of pairs whose colours are named, in [0, 1].
        jitter: how much sizes and places vary; 0 is not at all, 1 the most that keeps things apart.
        vocabulary: "core", about 1,000 everyday concepts, or "whole".
        split: "train" and "validation" never show what is held out; "test" may.
        styles: those that occur, all alike likely.

    Raises:
        ValueError: negative or all-zero weights, a share outside [0, 1], or an unknown vocabulary, split or style.
    """

    singles: float = 0.35
    recoloured: float = 0.25
    pairs: float = 0.25
    counts: float = 0.15
    coloured_background: float = 0.15
    style_named: float = 0.5
    pair_coloured: float = 0.6
    jitter: float = 0.5
    vocabulary: Literal["core", "whole"] = "core"
    split: Split = "train"
    styles: tuple[str, ...] = STYLES

    def __post_init__(self) -> None:
        if min(self.weights) < 0 or sum(self.weights) <= 0:
            raise ValueError("the weights of kinds must not be negative, and one must be positive")
        shares = (self.coloured_background, self.style_named, self.pair_coloured, self.jitter)
        if any(not 0 <= share <= 1 for share in shares):
            raise ValueError("coloured_background, style_named, pair_coloured and jitter must lie in [0, 1]")
        if self.vocabulary not in ("core", "whole") or self.split not in SPLITS:
            raise ValueError("vocabulary must be core or whole, split one of " + ", ".join(SPLITS))
        if not self.styles or not set(self.styles) <= set(STYLES):
            raise ValueError(f"styles must be some of {', '.join(STYLES)}, got {', '.join(self.styles) or 'none'}")

    @property
    def weights(self) -> tuple[float, float, float, float]:
        """Weights in the order of ``KINDS``."""
        return self.singles, self.recoloured, self.pairs, self.counts


DEFAULT = SceneConfig()
"""The mixture that is drawn when nothing else is said."""


def choose(world: World, seed: int, index: int, config: SceneConfig) -> SceneSpec:
    """What scene ``index`` of stream ``seed`` shows, caption included.

    Args:
        world: the concepts to choose from.
        seed: >= 0.
        index: >= 0.
        config: what kinds of scenes.

    Raises:
        ValueError: seed or index is negative.
    """
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must not be negative, got {seed} and {index}")
    return choose_with(np.random.default_rng((SPLITS.index(config.split), seed, index)), world, config)


def choose_with(random: Generator, world: World, config: SceneConfig) -> SceneSpec:
    """The same from a given random stream, of which it takes as much as it needs.

    Raises:
        ValueError: a family draws hardly any concept of the vocabulary.
    """
    style = config.styles[random.integers(len(config.styles))]
    kind = KINDS[bisect(list(accumulate(config.weights)), random.random() * sum(config.weights))]
    objects, relation = _objects(world, kind, style, config, random)
    spec = SceneSpec(
        objects=_shaken(objects, config.jitter, random),
        style=style,
        background=_background(world, objects, style, config, random),
        kind=kind,
        relation=relation,
        style_named=bool(random.random() < config.style_named),
    )
    return replace(spec, caption=caption(world, spec, random))


def _objects(
    world: World, kind: Kind, style: str, config: SceneConfig, random: Generator
) -> tuple[tuple[Placed, ...], Relation]:
    if kind == "pair":
        return _pair(world, style, config, random)
    if kind == "count":
        return _count(world, style, config, random), "and"
    if kind == "single":
        return single(some_concept(world, style, config, random).index), "and"
    return single(*_coloured_thing(world, style, config, random)), "and"


def some_concept(world: World, style: str, config: SceneConfig, random: Generator) -> Concept:
    """A concept of the vocabulary that the family draws, all alike likely.

    Raises:
        ValueError: the family draws hardly any concept of the vocabulary.
    """
    pool = world.core if config.vocabulary == "core" else world.concepts
    for _ in range(_MANY_TRIES):
        concept = pool[int(random.integers(len(pool)))]
        if world.has(concept, style):
            return concept
    raise ValueError(f"the {style} family draws hardly any concept of this world")


def colour_for(world: World, concept: Concept, style: str, split: Split, random: Generator) -> str | None:
    """A colour that this thing can be shown in and may be named with, drawn at random; None if there is none.

    Args:
        world: where the picture comes from.
        concept: the thing.
        style: "glossy", "flat" or "3d".
        split: outside "test", held-out pairs are avoided.
        random: the scene's random stream.
    """
    picture = world.picture(concept, style)
    natural = dominant_colour(picture)
    tried = [COLOURS[int(i)] for i in random.permutation(len(COLOURS))[:_TRIES]]
    for colour in (*tried, *([natural] if natural else [])):
        allowed = split == "test" or not is_held_out_pair(colour, concept.key)
        if allowed and not is_another_name(world, concept, colour) and _takes(picture, natural, colour):
            return colour
    return None


def _takes(picture: np.ndarray, natural: str | None, colour: str) -> bool:
    return colour == natural or (colour in COLOURS and recolour(picture, colour) is not None)


def is_another_name(world: World, concept: Concept, colour: str) -> bool:
    """Whether "colour thing" is the name of another concept, as "green apple" is when the thing is the red apple."""
    named = f"{colour} {without_colour(concept.name)}"
    return named != concept.name and named in world.names


def _coloured_thing(world: World, style: str, config: SceneConfig, random: Generator) -> tuple[int, str | None]:
    """A concept and a colour for it; after a few colourless concepts in a row the colour is None."""
    concept, colour = some_concept(world, style, config, random), None
    for _ in range(8):
        colour = colour_for(world, concept, style, config.split, random)
        if colour is not None:
            break
        concept = some_concept(world, style, config, random)
    return concept.index, colour


def _pair(world: World, style: str, config: SceneConfig, random: Generator) -> tuple[tuple[Placed, ...], Relation]:
    coloured = random.random() < config.pair_coloured
    first = _thing(world, style, config, random, coloured)
    second = _thing(world, style, config, random, coloured)
    for _ in range(_MANY_TRIES):
        if may_meet(world, first, second, config.split):
            break
        second = _thing(world, style, config, random, coloured)
    else:
        raise ValueError(
            f"this world has hardly anything that may be shown beside {world.concepts[first.concept].name!r}"
        )
    relation: Relation = ("and", "left of", "above")[int(random.choice(3, p=(0.5, 0.2, 0.3)))]
    upright = relation == "above" or (relation == "and" and random.random() < 0.3)
    return (above if upright else beside)(first, second), relation


def _thing(world: World, style: str, config: SceneConfig, random: Generator, coloured: bool) -> Placed:
    if coloured:
        return Placed(*_coloured_thing(world, style, config, random))
    return Placed(some_concept(world, style, config, random).index)


def may_meet(world: World, first: Placed, second: Placed, split: Split) -> bool:
    """Whether two things are of different concepts that the split may show together."""
    keys = world.concepts[first.concept].key, world.concepts[second.concept].key
    return keys[0] != keys[1] and (split == "test" or not is_held_out_together(*keys))


def _count(world: World, style: str, config: SceneConfig, random: Generator) -> tuple[Placed, ...]:
    concept = some_concept(world, style, config, random)
    for _ in range(_MANY_TRIES):
        if concept.number == "one":
            break
        concept = some_concept(world, style, config, random)
    colour = colour_for(world, concept, style, config.split, random) if random.random() < 0.3 else None
    return row_of(int(random.integers(2, 5)), concept.index, colour)


def _shaken(objects: tuple[Placed, ...], jitter: float, random: Generator) -> tuple[Placed, ...]:
    """Sizes shrunk by up to a fifth and places moved within the room that this leaves."""
    shrink = 1 - 0.2 * jitter * random.random()
    room = 0.5 * objects[0].size * (1 - shrink) + 1.0 * jitter
    moves = (2 * random.random((len(objects), 2)) - 1) * room * jitter
    return tuple(
        replace(placed, size=placed.size * shrink, centre=(placed.centre[0] + dx, placed.centre[1] + dy))
        for placed, (dx, dy) in zip(objects, moves.tolist(), strict=True)
    )


def _background(world: World, objects: tuple[Placed, ...], style: str, config: SceneConfig, random: Generator) -> str:
    """White, or a colour that none of the things has."""
    if random.random() >= config.coloured_background:
        return "white"
    taken = {placed.colour or dominant_colour(world.picture(placed.concept, style)) for placed in objects}
    free = [name for name in BACKGROUNDS if name not in taken and name != "white"]
    return free[int(random.integers(len(free)))]
