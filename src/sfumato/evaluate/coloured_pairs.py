"""Prompts of two coloured things, by which attribute binding is measured: where they come from, and real pictures.

Three sources: pairs of the emoji world, by what training holds out of them; the prompts of CC-500 that name things of
that world; and any of these with the two colours exchanged, as ABC-6K's pairs are made.

Papers: Training-Free Structured Diffusion Guidance for Compositional Text-to-Image Synthesis (Feng et al., 2022),
    arXiv:2212.05032, section 4 (CC-500, ABC-6K).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from sfumato.evaluate.lessons import to_images
from sfumato.world.colours import COLOURS, dominant_colour, recolour
from sfumato.world.scene import compose
from sfumato.world.spec import Placed, SceneSpec, beside
from sfumato.world.splits import PairPart, is_held_out_together, pair_prompts
from sfumato.world.store import STYLES, World
from sfumato.world.words import phrase, with_article, without_colour

__all__ = ["ColouredPair", "ColouredThing", "cc500_pairs", "drawn", "read_abc6k", "read_cc500", "world_pairs"]

_CC_PROMPTS = 446
_FORM = re.compile(r"(an? (\w+) ([\w ]+?)) and (an? (\w+) ([\w ]+?))\.?")
_MEANT: Mapping[str, str] = {
    "car": "car, oncoming car",
    "clock": "mantelpiece clock, alarm clock, timer clock",
    "book": "closed book, open book, green book, blue book, orange book, books",
    "boat": "sailboat, speedboat, motor boat",
    "bowl": "bowl with spoon",
    "cup": "teacup without handle, cup of coffee",
    "cake": "birthday cake, cake",
    "train": "train, high-speed train, bullet train",
    "bird": "bird, black bird",
    "cat": "cat, cat face, black cat",
    "dog": "dog, dog face",
    "cow": "cow, cow face",
    "horse": "horse, horse face",
    "apple": "red apple, green apple",
}
"""Words of CC-500 for which the emoji world has longer names, or several drawings."""


@dataclass(frozen=True)
class ColouredThing:
    """One thing of a prompt.

    Args:
        noun: what it is called, without article and colour.
        colour: the one that it shall have.
        concepts: indices of the world's concepts that may be meant, the likeliest first.
        phrase: as the prompt says it, such as "a red car".
    """

    noun: str
    colour: str
    concepts: tuple[int, ...]
    phrase: str


@dataclass(frozen=True)
class ColouredPair:
    """A prompt of two coloured things, joined by "and".

    Args:
        things: the two.
        unseen: whether training never shows them together.
    """

    things: tuple[ColouredThing, ColouredThing]
    unseen: bool = False

    @property
    def text(self) -> str:
        """The prompt."""
        return f"{self.things[0].phrase} and {self.things[1].phrase}"

    @property
    def swapped(self) -> ColouredPair:
        """The same two things with their colours exchanged."""
        first, second = self.things
        return replace(self, things=(_recoloured(first, second.colour), _recoloured(second, first.colour)))


def world_pairs(world: World, count: int, part: PairPart = "seen pair") -> tuple[ColouredPair, ...]:
    """Prompts "a COLOUR THING and a COLOUR THING" of the emoji world.

    Args:
        world: the same cache gives the same prompts.
        count: how many, >= 1.
        part: "seen pair" for things that training shows together in such colours, "unseen pair" for those that it
            never shows together, "unseen colours" for those of which it never shows either in its colour.

    Raises:
        ValueError: the world is too small for so many.
    """
    found = [prompt.spec.objects for prompt in pair_prompts(world, count, part)]
    unseen = part == "unseen pair"
    return tuple(ColouredPair((_thing(world, first), _thing(world, second)), unseen) for first, second in found)


def cc500_pairs(world: World, path: Path) -> tuple[ColouredPair, ...]:
    """The prompts of CC-500 whose things and colours the emoji world has, each once, in their own words.

    Args:
        world: where the things are looked up.
        path: the published file.

    Raises:
        ValueError: it is not that file.
    """
    called = _called(world)
    found: dict[str, ColouredPair] = {}
    for text in read_cc500(path):
        match = _FORM.fullmatch(text)
        if match is None or not {match[3], match[6]} <= set(called) or not {match[2], match[5]} <= set(COLOURS):
            continue
        first, second = (
            ColouredThing(noun, colour, called[noun], words)
            for words, colour, noun in (match.group(1, 2, 3), match.group(4, 5, 6))
        )
        keys = [world.concepts[thing.concepts[0]].key for thing in (first, second)]
        found[text] = ColouredPair((first, second), is_held_out_together(*keys))
    return tuple(found.values())


def read_cc500(path: Path) -> list[str]:
    """The 446 prompts of CC-500 proper, in pairs: lines 2 i and 2 i + 1 have exchanged colours.

    Args:
        path: ``CC-500.txt`` of the authors' repository, whose later lines belong to other sets.

    Raises:
        ValueError: it has fewer lines.
    """
    lines = _lines(path)
    if len(lines) < _CC_PROMPTS:
        raise ValueError(f"{path} has {len(lines)} lines and is not CC-500, which has at least {_CC_PROMPTS}")
    return lines[:_CC_PROMPTS]


def read_abc6k(path: Path) -> list[tuple[str, str]]:
    """The 3,217 pairs of ABC-6K: a caption, and the same with two colours exchanged.

    Args:
        path: ``ABC-6K.txt`` of the authors' repository.

    Raises:
        ValueError: it has no lines, or an odd number.
    """
    lines = _lines(path)
    if not lines or len(lines) % 2:
        raise ValueError(f"{path} has {len(lines)} lines and is not ABC-6K, which has pairs of them")
    return list(zip(lines[::2], lines[1::2], strict=True))


def drawn(world: World, pairs: Sequence[ColouredPair]) -> tuple[Tensor, tuple[ColouredPair, ...]]:
    """Real pictures of pairs, side by side: what the judge can see at most.

    Args:
        world: where the drawings come from.
        pairs: of it.

    Returns:
        Pictures (M, 3, 64, 64) in [-1, 1], and their M pairs: those that some style's drawings can be coloured for.

    Raises:
        ValueError: no pair can be drawn.
    """
    specs = {pair: spec for pair in pairs if (spec := _spec(world, pair)) is not None}
    if not specs:
        raise ValueError("none of these pairs can be drawn in the colours asked for")
    return to_images([compose(world, spec) for spec in specs.values()]), tuple(specs)


def _spec(world: World, pair: ColouredPair) -> SceneSpec | None:
    """The scene of a pair in the first style in which both drawings take their colours."""
    for style in STYLES:
        named = [(thing.concepts[0], thing.colour) for thing in pair.things]
        if all(_takes(world, concept, colour, style) for concept, colour in named):
            return SceneSpec(beside(*(Placed(*each) for each in named)), style, kind="pair")
    return None


def _takes(world: World, concept: int, colour: str, style: str) -> bool:
    if not world.has(world.concepts[concept], style):
        return False
    picture = world.picture(concept, style)
    return colour == dominant_colour(picture) or (colour in COLOURS and recolour(picture, colour) is not None)


def _thing(world: World, placed: Placed) -> ColouredThing:
    concept = world.concepts[placed.concept]
    assert placed.colour is not None, "pairs of the evaluation prompts are coloured"
    words = with_article(phrase(concept.name, placed.colour), concept)
    return ColouredThing(without_colour(concept.name), placed.colour, (concept.index,), words)


def _recoloured(thing: ColouredThing, colour: str) -> ColouredThing:
    article = re.match(r"an? ", thing.phrase)
    words = f"{colour} {thing.noun}"
    words = words if article is None else f"{'an' if colour == 'orange' else 'a'} {words}"
    return replace(thing, colour=colour, phrase=words)


def _called(world: World) -> dict[str, tuple[int, ...]]:
    """Words for one thing -> the concepts that may be meant."""
    number = {concept.name: concept.index for concept in world.core}
    called = {name: (index,) for name, index in number.items()}
    meant = {
        word: tuple(number[name] for name in names.split(", ") if name in number) for word, names in _MEANT.items()
    }
    return called | {word: concepts for word, concepts in meant.items() if concepts}


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
