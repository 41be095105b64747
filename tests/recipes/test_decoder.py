"""Latents redrawn by the embedded model: nearer to the scene the fewer steps are walked, and the same every time."""

import pytest
import torch

import sfumato
from sfumato.checkpoints.parts import Parts
from sfumato.recipes.decoder import redrawn
from sfumato.train.prepare import mean_latents
from sfumato.train.scenes import SceneSet, render, to_images
from sfumato.world.scene import SceneConfig
from sfumato.world.sources import open_world


@pytest.fixture(scope="module")
def parts() -> Parts:
    return sfumato.load("emoji")


@pytest.fixture(scope="module")
def scenes() -> SceneSet:
    return render(open_world("sample"), 0, 4, SceneConfig())


def test_latents_end_nearer_the_fewer_steps_are_walked(parts: Parts, scenes: SceneSet):
    z = mean_latents(parts.codec, to_images(scenes.pictures)).contiguous()
    again = redrawn(parts, z.repeat(2, 1, 1, 1), scenes.captions * 2, 2, batch=4)
    one, two = ((part - z).square().mean() for part in again.split(4))
    assert 0 < one < two < 0.05 * z.var()
    torch.testing.assert_close(redrawn(parts, z, scenes.captions, 2, batch=4), again[:4])


@pytest.mark.parametrize("walked", [0, 21])
def test_walked_is_at_least_one_and_at_most_the_whole_walk(parts: Parts, scenes: SceneSet, walked: int):
    with pytest.raises(ValueError, match=r"walked must lie in \[1, 20\]"):
        redrawn(parts, torch.zeros(4, 4, 16, 16), scenes.captions, walked)
