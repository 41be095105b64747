"""Fixed prompts for judging a generator, and what training holds out (from ``held_out``).

Every prompt carries the spec of a real scene, so that the real picture can be drawn: what a judge says of it is the
ceiling of what it can say of a generated one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.random import Generator

from sfumato.world.captions import canonical_caption
from sfumato.world.choose import DEFAULT, colour_for, is_another_name, some_concept
from sfumato.world.colours import COLOURS, dominant_colour, recolour
from sfumato.world.held_out import SPLITS, Split, is_held_out_pair, is_held_out_together
from sfumato.world.names import Concept
from sfumato.world.spec import Placed, Relation, SceneSpec, above, beside, single
from sfumato.world.store import STYLES, World

__all__ = [
    "PARTS",
    "SPLITS",
    "EvaluationPrompt",
    "PairPart",
    "Part",
    "Split",
    "evaluation_prompts",
    "is_held_out_pair",
    "is_held_out_together",
    "pair_prompts",
]

PairPart = Literal["seen pair", "unseen pair", "unseen colours"]
Part = Literal["plain", "styled", "seen colour", "unseen colour"] | PairPart
PARTS: tuple[Part, ...] = (
    "plain", "styled", "seen colour", "unseen colour", "seen pair", "unseen pair", "unseen colours",
)  # fmt: skip
_MIX: tuple[Part, ...] = (
    "plain", "styled", "seen colour", "seen pair", "unseen colour",
    "plain", "styled", "seen colour", "unseen pair", "plain",
)  # fmt: skip
_SEED = 20261121
_TRIES = 2000


@dataclass(frozen=True)
class EvaluationPrompt:
    """One prompt with the scene that it describes.

    Args:
        text: the canonical caption.
        spec: ``compose(world, spec)`` draws a real picture of it.
        part: what it tests: one thing plain, in a named style, in a colour that training shows or never shows on it;
            two coloured things that training shows or never shows together, or that it does show together but neither
            of them ever in its colour.
    """

    text: str
    spec: SceneSpec
    part: Part


def evaluation_prompts(world: World, count: int = 500) -> tuple[EvaluationPrompt, ...]:
    """The fixed prompts, all different, over the core vocabulary.

    Of ten, three are plain, two styled, two in a seen and one in an unseen colour, one a seen and one an unseen pair;
    the first n of a longer list are the list of length n.

    Args:
        world: the same cache gives the same prompts.
        count: how many, >= 1.

    Raises:
        ValueError: the world is too small for so many different prompts.
    """
    return _new_prompts(world, count, _MIX, _SEED)


def pair_prompts(world: World, count: int, part: PairPart) -> tuple[EvaluationPrompt, ...]:
    """Fixed prompts of two coloured things, all different; the first n of a longer list are the list of length n.

    Args:
        world: the same cache gives the same prompts.
        count: how many, >= 1.
        part: what training holds out of them: nothing, that the two stand together, or the colour of both.

    Raises:
        ValueError: the world is too small for so many different prompts.
    """
    return _new_prompts(world, count, (part,), _SEED + 1)


def _new_prompts(world: World, count: int, mix: Sequence[Part], seed: int) -> tuple[EvaluationPrompt, ...]:
    random = np.random.default_rng(seed)
    prompts: dict[str, EvaluationPrompt] = {}
    for number in range(count):
        prompt = _new_prompt(world, mix[number % len(mix)], random, prompts)
        prompts[prompt.text] = prompt
    return tuple(prompts.values())


def _new_prompt(
    world: World, part: Part, random: Generator, former: Mapping[str, EvaluationPrompt]
) -> EvaluationPrompt:
    for _ in range(_TRIES):
        style = STYLES[random.integers(len(STYLES))]
        spec = _MAKERS[part](world, style, random)
        if spec is None:
            continue
        text = canonical_caption(world, spec)
        if text not in former:
            return EvaluationPrompt(text, replace(spec, caption=text), part)
    raise ValueError(f"this world is too small for {len(former) + 1} different prompts: no further {part!r} one")


def _plain(world: World, style: str, random: Generator) -> SceneSpec:
    return SceneSpec(single(some_concept(world, style, DEFAULT, random).index), style)


def _styled(world: World, style: str, random: Generator) -> SceneSpec:
    return replace(_plain(world, style, random), style_named=True)


def _seen_colour(world: World, style: str, random: Generator) -> SceneSpec | None:
    concept = some_concept(world, style, DEFAULT, random)
    colour = colour_for(world, concept, style, "train", random)
    return None if colour is None else SceneSpec(single(concept.index, colour), style, kind="recoloured")


def _unseen_colour(world: World, style: str, random: Generator) -> SceneSpec | None:
    concept = some_concept(world, style, DEFAULT, random)
    colour = COLOURS[int(random.integers(len(COLOURS)))]
    if not _is_new_colour(world, concept, style, colour):
        return None
    return SceneSpec(single(concept.index, colour), style, kind="recoloured")


def _is_new_colour(world: World, concept: Concept, style: str, colour: str) -> bool:
    """Whether training never shows the concept in a colour that its picture takes."""
    if not is_held_out_pair(colour, concept.key) or colour in _natural(world, concept):
        return False
    return not is_another_name(world, concept, colour) and recolour(world.picture(concept, style), colour) is not None


def _new_colour_for(world: World, concept: Concept, style: str, random: Generator) -> str | None:
    colours = [colour for colour in COLOURS if _is_new_colour(world, concept, style, colour)]
    return colours[int(random.integers(len(colours)))] if colours else None


def _natural(world: World, concept: Concept) -> set[str | None]:
    """The colours that the families give a concept by themselves, so that training has seen them unnamed."""
    return {dominant_colour(world.picture(concept, style)) for style in STYLES if world.has(concept, style)}


def _pair(world: World, style: str, random: Generator, part: PairPart) -> SceneSpec | None:
    first, second = (some_concept(world, style, DEFAULT, random) for _ in range(2))
    if first == second or is_held_out_together(first.key, second.key) != (part == "unseen pair"):
        return None
    if part == "unseen colours":
        colours = [_new_colour_for(world, concept, style, random) for concept in (first, second)]
    else:
        colours = [colour_for(world, concept, style, "train", random) for concept in (first, second)]
    if None in colours or colours[0] == colours[1]:
        return None
    relation: Relation = ("and", "left of", "above")[int(random.integers(3))]
    things = (Placed(first.index, colours[0]), Placed(second.index, colours[1]))
    objects = above(*things) if relation == "above" else beside(*things)
    return SceneSpec(objects, style, kind="pair", relation=relation)


_MAKERS: Mapping[Part, Callable[[World, str, Generator], SceneSpec | None]] = {
    "plain": _plain,
    "styled": _styled,
    "seen colour": _seen_colour,
    "unseen colour": _unseen_colour,
    "seen pair": partial(_pair, part="seen pair"),
    "unseen pair": partial(_pair, part="unseen pair"),
    "unseen colours": partial(_pair, part="unseen colours"),
}
