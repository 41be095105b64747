from __future__ import annotations

import numpy as np
import pytest

from sfumato.world.colours import (
    COLOURS,
    WORDS,
    colour_shares,
    dominant_colour,
    from_oklch,
    recolour,
    to_oklch,
)  # fmt: skip
from sfumato.world.store import STYLES, World


def _flat(rgb: tuple[int, int, int]) -> np.ndarray:
    return np.full((64, 64, 4), (*rgb, 255), np.uint8)


def test_known_colours_have_their_published_coordinates() -> None:
    found = to_oklch(np.array([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8))
    expected = [[1.0, 0.0], [0.628, 0.2577], [0.8664, 0.2948], [0.452, 0.3132]]
    assert np.allclose(found[:, :2], expected, atol=1e-3)
    assert np.allclose(found[1:, 2] % 360, [29.23, 142.5, 264.05], atol=0.1)


def test_there_and_back_is_the_same_to_one_step() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4000, 3), np.uint8)
    error = np.abs(from_oklch(to_oklch(colours)).astype(int) - colours)
    assert (error > 1).mean() < 0.02 and error.max() <= 12, "only the darkest tones are coarser"


def test_colours_outside_srgb_lose_chroma_only() -> None:
    asked = np.array([[0.7, 0.4, 145.0], [0.5, 0.4, 264.0], [0.9, 0.3, 20.0]], np.float32)
    found = to_oklch(from_oklch(asked))
    assert np.allclose(found[:, 0], asked[:, 0], atol=0.05)
    assert (found[:, 1] < asked[:, 1]).all()


@pytest.mark.parametrize(
    ("rgb", "word"),
    [
        ((220, 30, 40), "red"),
        ((255, 150, 40), "orange"),
        ((255, 215, 40), "yellow"),
        ((60, 170, 60), "green"),
        ((40, 110, 220), "blue"),
        ((120, 60, 190), "purple"),
        ((255, 170, 200), "pink"),
        ((110, 65, 30), "brown"),
        ((20, 20, 20), "black"),
        ((250, 250, 250), "white"),
        ((150, 150, 150), "grey"),
    ],
)
def test_plain_colours_have_their_names(rgb: tuple[int, int, int], word: str) -> None:
    assert dominant_colour(_flat(rgb)) == word
    assert colour_shares(_flat(rgb))[word] == 1


def test_there_is_no_dominant_colour_without_a_clear_majority() -> None:
    half = _flat((220, 30, 40))
    half[:, :30] = _flat((40, 110, 220))[:, :30]
    assert dominant_colour(half) is None
    assert dominant_colour(np.zeros((64, 64, 4), np.uint8)) is None


def test_what_is_transparent_does_not_count() -> None:
    picture = _flat((40, 110, 220))
    picture[:40] = 0
    assert dominant_colour(picture) == "blue"


def test_recoloured_pictures_have_the_asked_colour_and_the_same_shape(world: World) -> None:
    taken = 0
    for concept in world.concepts:
        for style in STYLES:
            picture = world.picture(concept, style)
            for colour in COLOURS:
                changed = recolour(picture, colour)
                if changed is not None:
                    taken += 1
                    assert dominant_colour(changed) == colour
                    assert np.array_equal(changed[..., 3], picture[..., 3])
    assert taken > 0.5 * len(world.concepts) * len(STYLES) * len(COLOURS)


def test_a_picture_that_has_the_colour_stays_as_it_is(world: World) -> None:
    apple = world.picture(world.find("red apple"), "flat")
    assert recolour(apple, "red") is apple


def test_other_parts_keep_their_colours(world: World) -> None:
    car = world.picture(world.find("car"), "flat")
    changed = recolour(car, "green")
    assert changed is not None
    before, after = colour_shares(car), colour_shares(changed)
    assert after["black"] == pytest.approx(before["black"], abs=0.03), "the tyres stay black"


def test_things_without_colour_are_not_recoloured(world: World) -> None:
    assert all(recolour(_flat((128, 128, 128)), colour) is None for colour in COLOURS)
    assert all(recolour(_flat((250, 250, 250)), colour) is None for colour in COLOURS)


def test_colours_that_are_no_hue_are_refused(world: World) -> None:
    assert set(WORDS) - set(COLOURS) == {"black", "white", "grey"}
    with pytest.raises(KeyError, match="possible are red"):
        recolour(world.picture(0, "flat"), "white")
