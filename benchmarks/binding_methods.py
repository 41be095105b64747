"""The methods that are compared in attribute binding: what each asks for on pairs of coloured things."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import sfumato
from sfumato.attention.paint_with_words import Painted, PaintWithWords
from sfumato.attention.regions import Region, Regions
from sfumato.attention.structure import Structure
from sfumato.evaluate.coloured_pairs import ColouredPair
from sfumato.flows.prompts import EditOfWords
from sfumato.flows.steering import Concept
from sfumato.guidance.attend_and_excite import Excite
from sfumato.language.parse import named_parser

REGION_SHARE = 0.6
"""At which the embedded model still draws two things; at 0.8 each region's prompt makes a picture of its own."""


@dataclass(frozen=True)
class Asked:
    """What a method asks for on a batch of pairs.

    Args:
        texts: the prompts.
        steer: of the denoiser.
        excite: words that are excited; None: none.
    """

    texts: list[str]
    steer: sfumato.Steering
    excite: Excite | None = None


Method = Callable[[Sequence[ColouredPair]], Asked]


def phrases(pairs: Sequence[ColouredPair], number: int) -> tuple[str, ...]:
    """The first or second thing of each pair, as its prompt says it."""
    return tuple(pair.things[number].phrase for pair in pairs)


def halves() -> tuple[Tensor, Tensor]:
    """Masks (1, 1, 64, 64) of the left and the right half."""
    left = torch.zeros(1, 1, 64, 64)
    left[..., :32] = 1
    return left, 1 - left


def structured(variant: str, graph: bool = False) -> EditOfWords:
    """StructureDiffusion with the phrases of the rules."""
    parser = named_parser("rules")
    return Structure(parser.scene_graph if graph else parser.phrases, variant)  # pyright: ignore[reportArgumentType]


def painted(pairs: Sequence[ColouredPair]) -> EditOfWords:
    """Each phrase in its half."""
    return PaintWithWords(tuple(Painted(phrases(pairs, number), mask) for number, mask in enumerate(halves())))


def bound_to_regions(pairs: Sequence[ColouredPair]) -> EditOfWords:
    """Each phrase by itself in its half."""
    regions = tuple(Region(phrases(pairs, number), mask) for number, mask in enumerate(halves()))
    return Regions(regions, share=REGION_SHARE)


def excited(pairs: Sequence[ColouredPair]) -> Excite:
    """Both nouns."""
    return Excite(tuple(tuple(pair.things[number].noun for pair in pairs) for number in (0, 1)))


def by_edits(*makers: Callable[[Sequence[ColouredPair]], EditOfWords], excite: bool = False) -> Method:
    """Joined prompts with some edits."""

    def ask(pairs: Sequence[ColouredPair]) -> Asked:
        steer = sfumato.Steering(edits=tuple(make(pairs) for make in makers))
        return Asked([pair.text for pair in pairs], steer, excited(pairs) if excite else None)

    return ask


def composed(pairs: Sequence[ColouredPair]) -> Asked:
    """AND of the two phrases instead of one joined prompt."""
    return Asked(list(phrases(pairs, 0)), sfumato.Steering(concepts=(Concept(phrases(pairs, 1)),)))


def average(_: Sequence[ColouredPair]) -> EditOfWords:
    """Structure with averaged values."""
    return structured("average")


METHODS: Mapping[str, Method] = {
    "plain": by_edits(),
    "composable (AND)": composed,
    "structure, phrases": by_edits(average),
    "structure, scene graph": by_edits(lambda _: structured("average", graph=True)),
    "structure, conjunction": by_edits(lambda _: structured("conjunction")),
    "paint-with-words": by_edits(painted),
    f"regions, share {REGION_SHARE:g}": by_edits(bound_to_regions),
    "attend-and-excite": by_edits(excite=True),
    "structure + excite": by_edits(average, excite=True),
    "structure + paint + excite": by_edits(average, painted, excite=True),
}
