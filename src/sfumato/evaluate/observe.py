"""Lessons drawn, looked at and labelled: the material that the judge is fitted to and measured on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from sfumato.evaluate.colour import foreground, shown_colours
from sfumato.evaluate.features import FeatureFunction
from sfumato.evaluate.lessons import WINDOWS, Lesson, crop, draw_lesson
from sfumato.world.scene import Scene
from sfumato.world.store import World

__all__ = ["Observations", "Thing", "observe"]

_BATCH = 64


@dataclass(frozen=True)
class Thing:
    """What is known about the one thing in a window.

    Args:
        lesson: number of the lesson it comes from.
        place: one of ``WINDOWS``.
        concept: index in ``World.concepts``.
        style: style word.
        colour: its true colour, None if it has no single one.
        shown: the colour measured on its pixels, None if not measured or not clear.
        worn: whether the picture was worn.
    """

    lesson: int
    place: str
    concept: int
    style: str
    colour: str | None
    shown: str | None
    worn: bool


@dataclass(frozen=True, eq=False)
class Observations:
    """Features of lessons, with what they show.

    Args:
        windows: (N, D) float16 features of windows with one thing.
        things: N, one a window.
        whole: (M, D) float16 features of whole pictures, one a lesson.
        layouts: M names in ``LAYOUTS``.
    """

    windows: Tensor
    things: Sequence[Thing]
    whole: Tensor
    layouts: Sequence[str]


def observe(world: World, source: Iterable[Lesson], features: FeatureFunction, *, colours: bool) -> Observations:
    """Draws lessons and extracts features of their pictures and windows.

    Args:
        world: where the pictures come from.
        source: one or more lessons, of which at least one has a window.
        features: pictures (B, 3, H, W) in [-1, 1] -> (B, D).
        colours: whether to measure colours too.

    Returns:
        Features and labels, windows sorted by batch and place.
    """
    windows: list[Tensor] = []
    whole: list[Tensor] = []
    things: list[Thing] = []
    layouts: list[str] = []
    for batch in _batches(source):
        scenes, pictures = zip(*(draw_lesson(world, lesson) for lesson in batch), strict=True)
        images = torch.stack(pictures)
        seen = features(images)
        for place in WINDOWS:
            rows = [(row, lesson.windows.index(place)) for row, lesson in enumerate(batch) if place in lesson.windows]
            if not rows:
                continue
            chosen = [row for row, _ in rows]
            shown = _shown(images[chosen], place) if colours else [None] * len(rows)
            windows.append((seen[chosen] if place == "whole" else features(crop(images[chosen], place))).half())
            things += [
                _thing(scenes[row], batch[row], number, (len(layouts) + row, place, colour))
                for (row, number), colour in zip(rows, shown, strict=True)
            ]
        whole.append(seen.half())
        layouts += [lesson.layout for lesson in batch]
    return Observations(torch.cat(windows), things, torch.cat(whole), layouts)


def _batches(source: Iterable[Lesson]) -> Iterator[list[Lesson]]:
    lessons = iter(source)
    while batch := list(islice(lessons, _BATCH)):
        yield batch


def _shown(images: Tensor, place: str) -> list[str | None]:
    masks = crop(foreground(images)[:, None], place)[:, 0]
    return shown_colours(crop(images, place), masks)


def _thing(scene: Scene, lesson: Lesson, number: int, where: tuple[int, str, str | None]) -> Thing:
    index, place, shown = where
    known = scene.objects[number]
    return Thing(index, place, known.concept, scene.style, known.colour, shown, lesson.worn is not None)
