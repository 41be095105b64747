"""A judge of the sample world over plain pixels, which stand for a network's features."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from torch import Tensor

from sfumato.evaluate.judge import Judge
from sfumato.evaluate.train_judge import JudgeConfig, train_judge
from sfumato.world.store import World, open_world


def pixels(images: Tensor) -> Tensor:
    """A stand-in for the network: the picture in 24 x 24, the first 1280 numbers spanning the space for distances."""
    return F.interpolate(images, (24, 24), mode="bilinear", antialias=True).flatten(1)


@pytest.fixture(scope="session")
def world() -> World:
    return open_world("sample")


@pytest.fixture(scope="session")
def judge(world: World) -> Judge:
    return train_judge(world, pixels, JudgeConfig(rounds=6, components=16))
