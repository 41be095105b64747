from __future__ import annotations

import numpy as np
import pytest

from sfumato.world.scene import draw
from sfumato.world.show import contact_sheet, scene_sheet
from sfumato.world.store import World


def test_a_sheet_shows_each_scene_enlarged_beside_its_labels(world: World) -> None:
    sheet = contact_sheet(world, seed=0, count=6)
    assert sheet.mode == "RGB"
    pixels, scene = np.asarray(sheet), draw(world, 0, 0)
    plain = pixels[8 : 8 + 192, 8 : 8 + 192][1::3, 1::3]
    assert np.array_equal(plain[1:-1, 1:-1], scene.image[1:-1, 1:-1])
    labelled = pixels[8 : 8 + 192, 202 : 202 + 192]
    x0, y0, _, _ = scene.objects[0].box
    assert tuple(labelled[3 * y0 + 20, 3 * x0]) == (220, 20, 60), "the left edge of the first box"


def test_a_sheet_has_rows_of_four_and_only_as_wide_as_needed(world: World) -> None:
    one, four, five = (contact_sheet(world, 0, count) for count in (1, 4, 5))
    assert one.width < four.width == five.width
    assert one.height == four.height < five.height


def test_an_empty_sheet_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one scene"):
        scene_sheet([])
