"""Real scenes of the world as a judge's lessons: windows with what they show, and whole pictures with their layout.

A window holds one thing: the whole picture, or one square of a pair. So one classifier of single things serves both.
Half of the pictures are worn (blurred, softened, noisy, tinted), as generated ones are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor

from sfumato.world.choose import SceneConfig, choose_with
from sfumato.world.colours import COLOURS, dominant_colour, recolour
from sfumato.world.scene import Scene, compose
from sfumato.world.sources import STYLES, World
from sfumato.world.spec import BACKGROUNDS, Placed, SceneSpec, above, beside, single

__all__ = ["LAYOUTS", "WINDOWS", "Lesson", "crop", "draw_lesson", "lessons", "to_images", "wear"]

LAYOUTS = ("one", "two beside", "two above", "three", "four")
WINDOWS = {"whole": (0, 0, 64), "left": (0, 16, 32), "right": (32, 16, 32), "upper": (16, 0, 32), "lower": (16, 32, 32)}
"""Each window's x, y and side in pixels of a 64 x 64 picture."""
_PAIR = {"two beside": ("left", "right"), "two above": ("upper", "lower")}


@dataclass(frozen=True)
class Lesson:
    """A scene to learn from, and how it is to be worn.

    Args:
        spec: what the scene shows.
        layout: one of ``LAYOUTS``.
        windows: the windows that hold one thing each, in the order of ``spec.objects``; empty for counts.
        worn: seed of the wear, or None for the clean picture.
    """

    spec: SceneSpec
    layout: str
    windows: tuple[str, ...]
    worn: int | None


def lessons(world: World, seed: int, rounds: int, concepts: Sequence[int]) -> Iterator[Lesson]:
    """Lessons that show each concept in each style equally often.

    A round shows each drawing once alone and, every second round, once in a pair; a sixth as many counts come with it.

    Args:
        world: where the pictures come from.
        seed: of all draws.
        rounds: >= 1.
        concepts: indices in ``world.concepts``, each with a picture in every style.

    Yields:
        Lessons in an order fixed by the seed.
    """
    random = np.random.default_rng((seed, len(concepts)))
    for number in range(rounds):
        for style in STYLES:
            order = random.permutation(np.asarray(concepts)).tolist()
            for concept in order:
                yield _single(world, concept, style, random)
            if number % 2 == 0:
                for first, second in zip(order[0::2], order[1::2], strict=False):
                    yield _pair(world, (first, second), style, random)
            for _ in range(len(order) // 6):
                yield _count(world, random)


def _single(world: World, concept: int, style: str, random: Generator) -> Lesson:
    placed = single(*_thing(world, concept, style, random))[0]
    size = float(random.uniform(44, 62))
    room = (64 - size) / 2 + 3
    centre = (32 + float(random.uniform(-room, room)), 32 + float(random.uniform(-room, room)))
    spec = SceneSpec((replace(placed, size=size, centre=centre),), style, _background(world, (placed,), style, random))
    return Lesson(spec, "one", ("whole",), _wear_seed(random))


def _pair(world: World, concepts: tuple[int, int], style: str, random: Generator) -> Lesson:
    things = tuple(Placed(*_thing(world, concept, style, random)) for concept in concepts)
    upright = bool(random.random() < 0.5)
    placed = (above if upright else beside)(*things)
    layout = "two above" if upright else "two beside"
    moved = tuple(replace(thing, size=float(random.uniform(25, 32)), centre=_near(thing, random)) for thing in placed)
    spec = SceneSpec(moved, style, _background(world, moved, style, random), kind="pair")
    return Lesson(spec, layout, _PAIR[layout], _wear_seed(random))


def _count(world: World, random: Generator) -> Lesson:
    spec = choose_with(random, world, SceneConfig(0, 0, 0, 1, jitter=1.0))
    layout = {2: "two beside", 3: "three", 4: "four"}[len(spec.objects)]
    return Lesson(spec, layout, (), _wear_seed(random))


def _thing(world: World, concept: int, style: str, random: Generator) -> tuple[int, str | None]:
    """The concept, in half of the cases in another colour if it takes one."""
    if random.random() < 0.5:
        return concept, None
    colour = COLOURS[int(random.integers(len(COLOURS)))]
    taken = recolour(world.picture(concept, style), colour) is not None
    return concept, colour if taken else None


def _near(thing: Placed, random: Generator) -> tuple[float, float]:
    return (thing.centre[0] + float(random.uniform(-2, 2)), thing.centre[1] + float(random.uniform(-2, 2)))


def _background(world: World, things: Sequence[Placed], style: str, random: Generator) -> str:
    """White in four of five cases, else a colour that none of the things has."""
    if random.random() < 0.8:
        return "white"
    taken = {thing.colour or dominant_colour(world.picture(thing.concept, style)) for thing in things}
    free = [name for name in BACKGROUNDS if name not in taken]
    return free[int(random.integers(len(free)))]


def _wear_seed(random: Generator) -> int | None:
    seed = int(random.integers(2**31))
    return seed if random.random() < 0.5 else None


def to_images(scenes: Sequence[Scene]) -> Tensor:
    """Pictures of scenes.

    Args:
        scenes: one or more.

    Returns:
        (B, 3, 64, 64) float32 in [-1, 1].
    """
    pixels = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def crop(images: Tensor, window: str) -> Tensor:
    """One window of each picture.

    Args:
        images: (B, 3, 64, 64) in [-1, 1].
        window: a name in ``WINDOWS``.

    Returns:
        (B, 3, 64, 64) for "whole", else (B, 3, 32, 32).
    """
    x, y, side = WINDOWS[window]
    return images[:, :, y : y + side, x : x + side]


def wear(image: Tensor, seed: int) -> Tensor:
    """A picture as an imperfect generator or codec might make it: softened or blurred, tinted, noisy.

    Args:
        image: (3, H, W) in [-1, 1].
        seed: of the kind and amount.

    Returns:
        (3, H, W) in [-1, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    blur, softness, noise, patches, tint = torch.rand(5, generator=generator).tolist()
    worn = image[None]
    if softness < 0.5:
        worn = _resampled(_resampled(worn, round(image.shape[1] * (0.4 + softness))), image.shape[1])
    worn = worn + blur * (F.avg_pool2d(F.pad(worn, (1, 1, 1, 1), mode="replicate"), 3, 1) - worn)
    coarse = torch.randn(1, 3, 16, 16, generator=generator) * 0.1 * patches
    worn = worn + _resampled(coarse, image.shape[1]) + torch.randn(worn.shape, generator=generator) * 0.06 * noise
    shift = torch.randn(1, 3, 1, 1, generator=generator) * 0.03
    return (worn * (1 + 0.2 * (tint - 0.5)) + shift)[0].clamp(-1, 1)


def _resampled(images: Tensor, side: int) -> Tensor:
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


def draw_lesson(world: World, lesson: Lesson) -> tuple[Scene, Tensor]:
    """The scene of a lesson, and its picture as it is to be learned from.

    Args:
        world: where the pictures come from.
        lesson: what is shown, and the wear.

    Returns:
        The scene, and its picture, worn if the lesson says so, (3, 64, 64) in [-1, 1].
    """
    scene = compose(world, lesson.spec)
    image = to_images([scene])[0]
    return scene, image if lesson.worn is None else wear(image, lesson.worn)
