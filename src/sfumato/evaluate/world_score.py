"""Scores of pictures on the fixed prompts of the emoji world.

Of a picture it is asked whether the judge sees in it what the prompt says: the concept, its colour and style, both
things of a pair and both their colours, and how many things there are. All pictures together are compared with real
held-out scenes by Fréchet distance, precision and recall. The same scores of real pictures of the same prompts are the
ceiling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from sfumato.evaluate.colour import foreground, shown_colours
from sfumato.evaluate.intervals import Interval, bootstrap_mean, wilson
from sfumato.evaluate.judge import Judge
from sfumato.evaluate.lessons import WINDOWS, crop, to_images
from sfumato.evaluate.reference import distances, other_scenes
from sfumato.world.other_words import OtherWords
from sfumato.world.scene import compose
from sfumato.world.spec import Placed
from sfumato.world.splits import EvaluationPrompt, evaluation_prompts
from sfumato.world.store import World

__all__ = [
    "Agreement",
    "Verdict",
    "judge_pictures",
    "real_pictures",
    "reference_of_world",
    "score",
    "score_other_words",
    "shares",
]

Agreement = Callable[[Tensor, Sequence[str]], Tensor]
"""Pictures (B, 3, H, W) in [-1, 1] and B texts to B cosines."""

_ORDERS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "left of": (("left", "right"),),
    "above": (("upper", "lower"),),
    "and": (("left", "right"), ("right", "left"), ("upper", "lower"), ("lower", "upper")),
}
_COUNTS = {"one": 1, "two beside": 2, "two above": 2, "three": 3, "four": 4}
_UNTOLD = 2000


@dataclass(frozen=True)
class Verdict:
    """What the judge says of one picture; None where the prompt does not ask.

    Args:
        part: the part of the prompts it belongs to.
        top1: the concept of a single thing is the likeliest.
        top5: it is among the five likeliest.
        colour: a single thing shows the colour asked for.
        style: a single thing has the style asked for.
        both: both things of a pair are the likeliest in their places.
        both_top5: both are among the five likeliest.
        both_coloured: both are the likeliest, and show the colours asked for.
        count: the picture shows as many things as asked for.
    """

    part: str
    count: bool
    top1: bool | None = None
    top5: bool | None = None
    colour: bool | None = None
    style: bool | None = None
    both: bool | None = None
    both_top5: bool | None = None
    both_coloured: bool | None = None


def judge_pictures(images: Tensor, prompts: Sequence[EvaluationPrompt], judge: Judge) -> list[Verdict]:
    """Whether each picture shows what its prompt says.

    A pair may stand in either order, beside or above each other, unless the prompt says which; the best reading counts.

    Args:
        images: (N, 3, 64, 64) in [-1, 1], one a prompt.
        prompts: N prompts of one or two things.
        judge: fitted to the same world.

    Returns:
        N verdicts.

    Raises:
        ValueError: another number or size of pictures.
    """
    if images.shape != (len(prompts), 3, 64, 64):
        raise ValueError(f"needs {len(prompts)} pictures of 3 x 64 x 64, got {tuple(images.shape)}")
    views = {place: _look(images, place, prompts, judge) for place in WINDOWS}
    layouts = judge.layouts(judge.features(images))
    return [
        _of_single(number, prompt, views["whole"], layouts[number])
        if len(prompt.spec.objects) == 1
        else _of_pair(number, prompt, views, layouts[number])
        for number, prompt in enumerate(prompts)
    ]


@dataclass(frozen=True, eq=False)
class _View:
    """One window of all the pictures that need it, by picture number."""

    ranked: Mapping[int, Sequence[int]]
    colours: Mapping[int, str | None]
    styles: Mapping[int, str]

    def shows(self, number: int, thing: Placed, among: int) -> bool:
        return thing.concept in self.ranked[number][:among]

    def coloured(self, number: int, thing: Placed) -> bool:
        return thing.colour is None or self.colours[number] == thing.colour


def _look(images: Tensor, place: str, prompts: Sequence[EvaluationPrompt], judge: Judge) -> _View:
    numbers = [i for i, prompt in enumerate(prompts) if (len(prompt.spec.objects) == 1) == (place == "whole")]
    if not numbers:
        return _View({}, {}, {})
    windows = crop(images[numbers], place)
    masks = crop(foreground(images[numbers])[:, None], place)[:, 0]
    features = judge.features(windows)
    ranked = judge.ranked(features, min(5, len(judge.concepts))).tolist()
    return _View(
        ranked=dict(zip(numbers, ranked, strict=True)),
        colours=dict(zip(numbers, shown_colours(windows, masks), strict=True)),
        styles=dict(zip(numbers, judge.styles(features), strict=True)),
    )


def _of_single(number: int, prompt: EvaluationPrompt, view: _View, layout: str) -> Verdict:
    thing = prompt.spec.objects[0]
    return Verdict(
        part=prompt.part,
        count=_COUNTS[layout] == 1,
        top1=view.shows(number, thing, 1),
        top5=view.shows(number, thing, 5),
        colour=view.coloured(number, thing) if thing.colour else None,
        style=view.styles[number] == prompt.spec.style if prompt.spec.style_named else None,
    )


def _of_pair(number: int, prompt: EvaluationPrompt, views: Mapping[str, _View], layout: str) -> Verdict:
    things = prompt.spec.objects
    readings = [
        [(views[place], thing) for place, thing in zip(places, things, strict=True)]
        for places in _ORDERS[prompt.spec.relation]
    ]

    def any_reading(right: Callable[[_View, Placed], bool]) -> bool:
        return any(all(right(view, thing) for view, thing in reading) for reading in readings)

    return Verdict(
        part=prompt.part,
        count=_COUNTS[layout] == 2,
        both=any_reading(lambda view, thing: view.shows(number, thing, 1)),
        both_top5=any_reading(lambda view, thing: view.shows(number, thing, 5)),
        both_coloured=any_reading(lambda view, thing: view.shows(number, thing, 1) and view.coloured(number, thing)),
    )


def shares(verdicts: Sequence[Verdict]) -> dict[str, Interval]:
    """Measure -> share of the pictures that are right, with Wilson's interval; measures that nobody asks are left out.

    Args:
        verdicts: of all pictures.

    Returns:
        In the order of a table; colour and pairs also apart for what training has and has never shown.
    """
    asked: dict[str, list[bool | None]] = {
        "concept top-1": [v.top1 for v in verdicts],
        "concept top-5": [v.top5 for v in verdicts],
        "style": [v.style for v in verdicts],
        "colour": [v.colour for v in verdicts],
        "colour, never seen on the thing": [v.colour for v in verdicts if v.part == "unseen colour"],
        "both things": [v.both for v in verdicts],
        "both things top-5": [v.both_top5 for v in verdicts],
        "both things with their colours": [v.both_coloured for v in verdicts],
        "both things with their colours, never seen together": [
            v.both_coloured for v in verdicts if v.part == "unseen pair"
        ],
        "number of things": [v.count for v in verdicts],
    }
    known = {name: [value for value in values if value is not None] for name, values in asked.items()}
    return {name: wilson(sum(values), len(values)) for name, values in known.items() if values}


def real_pictures(world: World, prompts: Sequence[EvaluationPrompt]) -> Tensor:
    """Real pictures of prompts, (N, 3, 64, 64) in [-1, 1]."""
    return to_images([compose(world, prompt.spec) for prompt in prompts])


def reference_of_world(world: World, judge: Judge, count: int, size: int = _UNTOLD) -> Tensor:
    """Real scenes to compare sets of pictures with: those of the prompts after the first ``count``, without copies.

    Args:
        world: where they come from.
        judge: gives the coordinates.
        count: prompts that are scored; neither they nor others with the same picture are among them.
        size: further prompts that are looked at.

    Returns:
        (M, R) coordinates, M <= size: of each picture one.

    Raises:
        ValueError: the world is too small for so many different prompts.
    """
    scenes = [compose(world, prompt.spec) for prompt in evaluation_prompts(world, count + size)]
    found = other_scenes(scenes[count:], size, scenes[:count])
    return judge.coordinates(judge.features(to_images(found)))


def score(
    images: Tensor,
    prompts: Sequence[EvaluationPrompt],
    judge: Judge,
    reference: Tensor,
    agreement: Agreement | None = None,
) -> dict[str, Interval | float]:
    """All measures of one set of pictures.

    Args:
        images: (N, 3, 64, 64) in [-1, 1], one a prompt, N >= 8.
        prompts: N prompts.
        judge: fitted to the same world.
        reference: (M, R) coordinates of real scenes, see ``reference_of_world``.
        agreement: cosine of pictures and words, if there is an encoder for it.

    Returns:
        Measure -> value, with an interval wherever one is defined.

    Raises:
        ValueError: another number or size of pictures.
    """
    table: dict[str, Interval | float] = dict(shares(judge_pictures(images, prompts, judge)))
    table |= distances(judge.coordinates(judge.features(images)), reference)
    if agreement is not None:
        table["pictures-words cosine"] = bootstrap_mean(agreement(images, [prompt.text for prompt in prompts]))
    return table


def score_other_words(images: Tensor, prompts: Sequence[OtherWords], judge: Judge) -> dict[str, Interval | float]:
    """Whether pictures of prompts whose nouns no concept is called by show what is meant.

    Args:
        images: (N, 3, 64, 64) in [-1, 1], one a prompt.
        prompts: N prompts.
        judge: fitted to the same world.

    Returns:
        Shares of pictures with a meant concept as the judge's likeliest, and among its five likeliest.
    """
    ranked = judge.ranked(judge.features(images), min(5, len(judge.concepts))).tolist()
    return {
        f"other words, concept top-{among}": wilson(
            sum(not set(prompt.concepts).isdisjoint(row[:among]) for prompt, row in zip(prompts, ranked, strict=True)),
            len(prompts),
        )
        for among in (1, 5)
    }
