from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sfumato.world.pairs import EDITS, edit_triple, grey, low_resolution, with_hole
from sfumato.world.scene import Scene, draw
from sfumato.world.store import World


def _things(scene: Scene) -> list[tuple[int, str | None]]:
    return [(placed.concept, placed.colour) for placed in scene.spec.objects]


def test_all_kinds_of_edits_occur_and_are_repeatable(world: World) -> None:
    kinds = Counter(edit_triple(world, 0, index).edit for index in range(60))
    assert set(kinds) == set(EDITS)
    first, second = edit_triple(world, 0, 7), edit_triple(world, 0, 7)
    assert first.instruction == second.instruction
    assert np.array_equal(first.after.image, second.after.image)


def test_an_edit_changes_what_it_names_and_nothing_else(world: World) -> None:
    for index in range(80):
        triple = edit_triple(world, 1, index)
        before, after = triple.before, triple.after
        assert not np.array_equal(before.image, after.image)
        same_things = _things(before) == _things(after)
        assert same_things == (triple.edit in ("background", "style"))
        assert (before.style == after.style) == (triple.edit != "style")
        assert (before.background == after.background) == (triple.edit != "background")
        places = [placed.centre for placed in after.spec.objects][: len(before.spec.objects)]
        assert places == [placed.centre for placed in before.spec.objects]


def test_instructions_name_the_new_state(world: World) -> None:
    for index in range(80):
        triple = edit_triple(world, 2, index)
        after = triple.after
        if triple.edit == "style":
            assert after.style in triple.instruction
        elif triple.edit == "background":
            assert after.background in triple.instruction
        elif triple.edit == "add":
            assert len(after.objects) == 2 == len(triple.before.objects) + 1
            below = after.objects[0].box[3] <= after.objects[1].box[1]
            assert ("below" if below else "right") in triple.instruction
        else:
            changed = [new for old, new in zip(_things(triple.before), _things(after), strict=True) if old != new]
            assert len(changed) == 1
            word = changed[0][1] if triple.edit == "recolour" else world.concepts[changed[0][0]].name
            assert word is not None and word in triple.instruction


def test_recolouring_keeps_the_outline(world: World) -> None:
    for index in range(60):
        triple = edit_triple(world, 3, index)
        if triple.edit == "recolour":
            for old, new in zip(triple.before.objects, triple.after.objects, strict=True):
                assert np.array_equal(old.mask, new.mask)


def test_negative_numbers_are_refused(world: World) -> None:
    with pytest.raises(ValueError, match="got 0 and -1"):
        edit_triple(world, 0, -1)


def test_low_resolution_keeps_the_mean(world: World) -> None:
    image = draw(world, 0, 0).image
    low = low_resolution(image, 4)
    assert low.shape == (16, 16, 3) and low.dtype == np.uint8
    assert low.mean() == pytest.approx(image.mean(), abs=0.6)
    assert np.array_equal(low_resolution(image, 1), image)
    with pytest.raises(ValueError, match="5 does not divide 64 x 64"):
        low_resolution(image, 5)


def test_grey_has_equal_channels_and_keeps_grey(world: World) -> None:
    image = grey(draw(world, 0, 1).image)
    assert (image[..., 0] == image[..., 1]).all() and (image[..., 0] == image[..., 2]).all()
    assert np.array_equal(grey(image), image)


def test_holes_are_grey_and_everything_else_stays(world: World) -> None:
    image = draw(world, 0, 2).image
    for index in range(20):
        holed, hole = with_hole(image, 0, index)
        assert (holed[hole] == 128).all() and np.array_equal(holed[~hole], image[~hole])
        assert 0.08 < hole.mean() < 0.42
    assert not np.array_equal(with_hole(image, 0, 0)[1], with_hole(image, 0, 1)[1])
