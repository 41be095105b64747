from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from sfumato.world.choose import SceneConfig
from sfumato.world.colours import colour_shares, dominant_colour
from sfumato.world.held_out import is_held_out_pair, is_held_out_together
from sfumato.world.scene import compose, draw
from sfumato.world.spec import BACKGROUNDS, Placed, SceneSpec, above, beside, row_of, single
from sfumato.world.store import STYLES, World


def _only(**kinds: float) -> SceneConfig:
    return SceneConfig(**{"singles": 0.0, "recoloured": 0.0, "pairs": 0.0, "counts": 0.0, **kinds})


def test_a_scene_depends_on_seed_index_and_split_alone(world: World) -> None:
    late = draw(world, 3, 40)
    for index in range(40):
        draw(world, 3, index)
    again = draw(world, 3, 40)
    assert np.array_equal(late.image, again.image) and late.caption == again.caption
    others = [draw(world, 4, 40), draw(world, 3, 41), draw(world, 3, 40, SceneConfig(split="validation"))]
    assert all(not np.array_equal(late.image, other.image) for other in others)


def test_the_spec_of_a_scene_makes_it_again(world: World) -> None:
    for index in range(30):
        scene = draw(world, 0, index)
        assert np.array_equal(compose(world, scene.spec).image, scene.image)


def test_boxes_surround_masks_and_masks_are_apart(world: World) -> None:
    for index in range(150):
        scene = draw(world, 1, index)
        assert scene.image.shape == (64, 64, 3) and scene.image.dtype == np.uint8
        assert not np.sum([thing.mask for thing in scene.objects], axis=0).max() > 1
        for thing in scene.objects:
            x0, y0, x1, y1 = thing.box
            assert thing.mask[y0:y1, x0:x1].sum() == thing.mask.sum() > 20
            assert thing.mask[y0].any() and thing.mask[y1 - 1].any()
            assert thing.mask[:, x0].any() and thing.mask[:, x1 - 1].any()


def test_outside_all_masks_lies_the_background(world: World) -> None:
    for index in range(60):
        scene = draw(world, 2, index, SceneConfig(coloured_background=0.5))
        corner = scene.image[0, 0]
        assert tuple(corner) == BACKGROUNDS[scene.background]
        assert (scene.background == "white") == ("background" not in scene.caption)


def test_named_colours_are_those_of_the_pixels(world: World) -> None:
    for index in range(200):
        scene = draw(world, 5, index, replace(_only(recoloured=0.6, pairs=0.4), pair_coloured=1.0))
        for placed, thing in zip(scene.spec.objects, scene.objects, strict=True):
            if placed.colour is None:
                continue
            assert placed.colour in scene.caption and thing.colour == placed.colour
            x0, y0, x1, y1 = thing.box
            cut = np.dstack([scene.image, thing.mask * np.uint8(255)])[y0:y1, x0:x1]
            shares = colour_shares(cut)
            assert max(shares, key=lambda word: shares[word]) == placed.colour


def test_training_never_shows_what_is_held_out(world: World) -> None:
    for split in ("train", "validation"):
        for index in range(300):
            config = replace(_only(recoloured=0.4, pairs=0.6), split=split)
            keys, spec = [], draw(world, 6, index, config).spec
            for placed in spec.objects:
                keys.append(world.concepts[placed.concept].key)
                assert placed.colour is None or not is_held_out_pair(placed.colour, keys[-1])
            assert len(keys) == 1 or not is_held_out_together(*keys)


def test_the_test_split_does_show_it(world: World) -> None:
    config = replace(_only(recoloured=1.0), split="test")
    named = [draw(world, 6, index, config).spec.objects[0] for index in range(300)]
    assert any(thing.colour and is_held_out_pair(thing.colour, world.concepts[thing.concept].key) for thing in named)


def test_captions_contradict_no_name(world: World) -> None:
    captions = [draw(world, 7, index, _only(recoloured=1.0)).caption for index in range(300)]
    assert any("apple" in words for words in captions)
    for words in captions:
        said = [word for word in words.partition(" on ")[0].split() if word in BACKGROUNDS]
        assert len(said) <= 1, words


def test_no_thing_is_given_the_name_of_another_concept(world: World) -> None:
    scenes = [draw(world, 8, index, _only(recoloured=1.0)) for index in range(600)]
    greens = [scene for scene in scenes if "green apple" in scene.caption]
    assert greens and all(scene.objects[0].name == "green apple" for scene in greens)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_counts_show_as_many_as_they_say(world: World, count: int) -> None:
    dog = world.find("dog").index
    scene = compose(world, SceneSpec(row_of(count, dog), "flat", kind="count"))
    assert len(scene.objects) == count
    assert scene.caption == {2: "two dogs", 3: "three dogs", 4: "four dogs"}[count]


def test_places_are_as_said(world: World) -> None:
    car, bird = Placed(world.find("car").index, "red"), Placed(world.find("bird").index, "blue")
    upper = compose(world, SceneSpec(above(car, bird), "flat", kind="pair", relation="above"))
    assert upper.caption == "a red car above a blue bird"
    assert upper.objects[0].box[3] <= upper.objects[1].box[1]
    side = compose(world, SceneSpec(beside(car, bird), "flat", kind="pair", relation="left of"))
    assert side.caption == "a red car left of a blue bird"
    assert side.objects[0].box[2] <= side.objects[1].box[0]


def test_what_is_behind_is_masked_only_where_it_is_seen(world: World) -> None:
    car, bird = world.find("car").index, world.find("bird").index
    scene = compose(world, SceneSpec((Placed(car), Placed(bird, size=30)), "3d", kind="pair"))
    assert not (scene.objects[0].mask & scene.objects[1].mask).any()
    with pytest.raises(ValueError, match="'bird' cannot be seen"):
        compose(world, SceneSpec((Placed(bird, size=8), Placed(car)), "3d", kind="pair"))


def test_unnamed_colours_are_measured(world: World) -> None:
    for style in STYLES:
        scene = compose(world, SceneSpec(single(world.find("banana").index), style))
        assert scene.objects[0].colour == dominant_colour(world.picture(world.find("banana"), style))
        assert scene.caption == "a banana"


def test_a_colour_that_a_thing_cannot_take_is_refused(world: World) -> None:
    ball = SceneSpec(single(world.find("soccer ball").index, "green"), "flat")
    with pytest.raises(ValueError, match="'soccer ball' cannot be made green"):
        compose(world, ball)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"background": "mauve"}, "no background 'mauve'"),
        ({"objects": ()}, "one to four objects, not 0"),
        ({"objects": (Placed(0, size=90),)}, "between 4 and 64"),
    ],
)
def test_impossible_specs_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SceneSpec(single(0)), **change)  # pyright: ignore


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"singles": -1.0}, "weights"),
        ({"style_named": 1.5}, r"must lie in \[0, 1\]"),
        ({"vocabulary": "all"}, "core or whole"),
        ({"split": "dev"}, "train, validation, test"),
        ({"styles": ()}, "got none"),
        ({"styles": ("flat", "oil")}, "glossy, flat, 3d, got flat, oil"),
    ],
)
def test_impossible_configs_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneConfig(**change)  # pyright: ignore


def test_styles_that_are_left_out_do_not_occur(world: World) -> None:
    config = SceneConfig(styles=("3d", "flat"))
    assert {draw(world, 0, index, config).style for index in range(40)} == {"3d", "flat"}
    assert {draw(world, 0, index).style for index in range(40)} == {"glossy", "flat", "3d"}


def test_negative_seeds_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match="got -1 and 0"):
        draw(world, -1, 0)


def test_hundreds_of_scenes_a_second(world: World) -> None:
    start = time.process_time()
    for index in range(200):
        draw(world, 9, index)
    assert time.process_time() - start < 2, "100 a second is a quarter of what an idle core does"
