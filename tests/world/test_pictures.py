from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sfumato.world.pictures import normalise


def test_trims_centres_and_fits_the_longer_side() -> None:
    drawing = Image.new("RGBA", (256, 256))
    drawing.paste((200, 30, 30, 255), (5, 100, 245, 160))
    solid = normalise(drawing)[..., 3] > 127
    assert np.flatnonzero(solid.any(0))[[0, -1]].tolist() == [2, 61]
    assert np.flatnonzero(solid.any(1))[[0, -1]].tolist() == [24, 38]


def test_edges_keep_their_colour_on_transparent_ground() -> None:
    drawing = Image.new("RGBA", (256, 256), (0, 255, 0, 0))
    drawing.paste((255, 0, 0, 255), (13, 13, 240, 240))
    pixels = normalise(drawing)
    visible = pixels[pixels[..., 3] > 16]
    assert visible[:, 0].min() > 240 and visible[:, 1].max() < 15, "hidden green must not bleed into the edge"


def test_small_drawings_are_enlarged_by_a_quarter_at_most() -> None:
    drawing = Image.new("RGBA", (64, 64))
    drawing.paste((0, 0, 255, 255), (10, 10, 30, 30))
    assert np.flatnonzero((normalise(drawing)[..., 3] > 127).any(0)).size == 25


def test_an_invisible_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="transparent"):
        normalise(Image.new("RGBA", (64, 64)))
