from __future__ import annotations

from collections import Counter

import pytest
import torch

from sfumato.evaluate.lessons import LAYOUTS, WINDOWS, Lesson, crop, draw_lesson, lessons, wear
from sfumato.evaluate.observe import observe
from sfumato.world.store import STYLES, World, open_world


@pytest.fixture(scope="module")
def world() -> World:
    return open_world("sample")


@pytest.fixture(scope="module")
def some(world: World) -> list[Lesson]:
    return list(lessons(world, 3, 2, [concept.index for concept in world.core]))


def test_each_drawing_is_shown_equally_often_alone(world: World, some: list[Lesson]) -> None:
    alone = Counter((lesson.spec.objects[0].concept, lesson.spec.style) for lesson in some if lesson.layout == "one")
    assert set(alone.values()) == {2} and len(alone) == len(world.core) * len(STYLES)
    assert {lesson.layout for lesson in some} == set(LAYOUTS)


def test_the_same_seed_gives_the_same_lessons(world: World, some: list[Lesson]) -> None:
    concepts = [concept.index for concept in world.core]
    assert list(lessons(world, 3, 2, concepts)) == some
    assert list(lessons(world, 4, 2, concepts)) != some
    scene, image = draw_lesson(world, some[0])
    torch.testing.assert_close(draw_lesson(world, some[0])[1], image, rtol=0, atol=0)
    assert scene.objects[0].concept == some[0].spec.objects[0].concept


def test_each_window_holds_most_of_its_thing(world: World, some: list[Lesson]) -> None:
    for lesson in (lesson for lesson in some if len(lesson.windows) == 2):
        scene, _ = draw_lesson(world, lesson)
        for thing, place in zip(scene.objects, lesson.windows, strict=True):
            x, y, side = WINDOWS[place]
            assert thing.mask[y : y + side, x : x + side].sum() > 0.7 * thing.mask.sum()


def test_wear_is_a_function_of_the_seed_and_stays_in_range() -> None:
    image = torch.linspace(-1, 1, 3 * 64 * 64).reshape(3, 64, 64)
    worn = [wear(image, seed) for seed in range(20)]
    torch.testing.assert_close(wear(image, 7), worn[7], rtol=0, atol=0)
    assert all(float(w.abs().max()) <= 1 and w.shape == image.shape for w in worn)
    changes = [float((w - image).square().mean().sqrt()) for w in worn]
    assert min(changes) > 0 and max(changes) < 0.4 and max(changes) > 2 * min(changes)


def test_observations_carry_the_truth_of_their_window(world: World, some: list[Lesson]) -> None:
    chosen = [lesson for lesson in some if lesson.windows][::9]

    def mean_colour(images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))

    seen = observe(world, chosen, mean_colour, colours=True)
    assert len(seen.things) == len(seen.windows) == sum(len(lesson.windows) for lesson in chosen)
    assert list(seen.layouts) == [lesson.layout for lesson in chosen]
    for row, thing in zip(seen.windows, seen.things, strict=True):
        lesson = chosen[thing.lesson]
        number = lesson.windows.index(thing.place)
        assert lesson.spec.objects[number].concept == thing.concept
        assert (lesson.worn is not None) == thing.worn and lesson.spec.style == thing.style
        image = draw_lesson(world, lesson)[1][None]
        torch.testing.assert_close(row, mean_colour(crop(image, thing.place))[0].half(), rtol=1e-2, atol=1e-3)
    assert any(thing.shown is not None for thing in seen.things)
