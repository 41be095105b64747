"""From a recipe to the attention edits that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sfumato.cli.progress import say
from sfumato.cli.sources import Sources
from sfumato.recipe import Recipe

if TYPE_CHECKING:
    from sfumato.encoders.text import Span
    from sfumato.flows.prompts import EditOfWords

__all__ = ["edits_of", "tell_parse"]


def edits_of(recipe: Recipe, sources: Sources) -> tuple[EditOfWords, ...]:
    """The edits of the attention to the prompts, in the order in which they compose.

    Args:
        recipe: what is asked for; with a size if it names places.
        sources: has the masks that it names.

    Raises:
        UsageError: a mask or a box that does not fit.
        ValueError: a parser that is not installed.
    """
    edits: list[EditOfWords] = []
    if recipe.structure:
        from sfumato.attention.structure import Structure

        variant = "conjunction" if recipe.structure == "conjunction" else "average"
        edits.append(Structure(_finder(recipe), variant))
    if recipe.regions:
        from sfumato.attention.regions import Region, Regions

        regions = tuple(Region(prompt, sources.place(where, recipe.whole_size)) for prompt, where in recipe.regions)
        edits.append(Regions(regions, recipe.region_share))
    if recipe.paint:
        from sfumato.attention.paint_with_words import Painted, PaintWithWords

        painted = tuple(
            Painted(phrase, sources.place(where, recipe.whole_size), weight) for phrase, where, weight in recipe.paint
        )
        edits.append(PaintWithWords(painted, recipe.paint_strength))
    return tuple(edits)


def tell_parse(recipe: Recipe, prompts: Sequence[str], *, quiet: bool) -> None:
    """Say which phrases of prompts structure takes.

    Raises:
        ValueError: a parser that is not installed.
    """
    from sfumato.attention.structure import concepts

    find = _finder(recipe)
    for prompt in dict.fromkeys(prompts):
        found = [f"'{prompt[first:last]}'" for first, last in sorted(concepts(prompt, find(prompt)))]
        say(f"phrases of '{prompt}': {', '.join(found) or 'none'}", quiet=quiet)


def _finder(recipe: Recipe) -> Callable[[str], Sequence[Span]]:
    from sfumato.language.parse import named_parser

    parser = named_parser(recipe.parser)
    return parser.scene_graph if recipe.structure == "scene-graph" else parser.phrases
