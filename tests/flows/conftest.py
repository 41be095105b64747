"""A tiny model of latents, and one of pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sfumato.checkpoints.load import Parts, load
from sfumato.core.codec import PixelCodec
from sfumato.core.model import DenoisingModel
from sfumato.networks.unet import UNetNetwork
from tests.tiny import tiny_unet, write_emoji


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return load(write_emoji(tmp_path_factory.mktemp("emoji")))


@pytest.fixture(scope="module")
def pixels(parts: Parts) -> Parts:
    """A model of pixels, with attention at 16 x 16 as in the one of latents."""
    down, up = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    unet = tiny_unet(in_channels=3, out_channels=3, down_block_types=down, up_block_types=up)
    network = UNetNetwork(unet, "v")
    return replace(parts, codec=PixelCodec(), model=DenoisingModel(network, parts.model.schedule))
