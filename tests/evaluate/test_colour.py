from __future__ import annotations

import pytest
import torch

from sfumato.evaluate.colour import foreground, shown_colours
from sfumato.evaluate.lessons import to_images, wear
from sfumato.world.scene import compose
from sfumato.world.spec import BACKGROUNDS, SceneSpec, single
from sfumato.world.store import open_world


def blank(colour: str = "white") -> torch.Tensor:
    return (torch.tensor(BACKGROUNDS[colour]).float() / 127.5 - 1)[:, None, None].expand(3, 64, 64).clone()


def test_a_hole_that_the_background_does_not_reach_belongs_to_the_thing() -> None:
    image = blank()
    image[:, 10:30, 10:30] = -0.5
    image[:, 15:25, 15:25] = 1
    mask = foreground(image[None])[0]
    assert mask[10:30, 10:30].all() and int(mask.sum()) == 400
    image[:, 20, 25:30] = 1
    assert not foreground(image[None])[0][15:25, 15:25].any()


def test_nothing_on_an_even_ground_of_any_colour() -> None:
    empty = torch.stack([blank(name) for name in BACKGROUNDS])
    masks = foreground(empty)
    assert not masks.any()
    assert shown_colours(empty, masks) == [None] * len(BACKGROUNDS)


@pytest.mark.parametrize("background", ["white", "blue", "black"])
def test_measured_on_real_things(background: str) -> None:
    world = open_world("sample")
    apple = world.find("red apple").index
    scenes = [
        compose(world, SceneSpec(single(apple, colour), "flat", background))
        for colour in ("red", "green", "purple", "yellow")
    ]
    images = to_images(scenes)
    assert shown_colours(images, foreground(images)) == ["red", "green", "purple", "yellow"]
    worn = torch.stack([wear(image, seed) for seed, image in enumerate(images)])
    assert shown_colours(worn, foreground(worn)) == ["red", "green", "purple", "yellow"]


def test_the_rim_of_a_thing_does_not_count_unless_there_is_nothing_else() -> None:
    images, mask = blank()[None], torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, 20:30, 20:30] = True
    images[:, :, 20:30, 20:30] = torch.tensor([0.9, -0.8, -0.8])[:, None, None]
    images[:, :, 22:28, 22:28] = torch.tensor([-0.8, -0.2, 0.9])[:, None, None]
    assert shown_colours(images, mask) == ["blue"]
    thin = torch.zeros_like(mask)
    thin[:, 20:22, 20:30] = True
    assert shown_colours(images, thin) == ["red"]
