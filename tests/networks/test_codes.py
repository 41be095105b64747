"""Codes are the nearest rows of the codebook, in the order of reading, and decode to what diffusers decodes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sfumato.core.noise import Noise
from sfumato.networks.codes import CodeCodec, VQModel, perplexity


def tiny_codec(**settings: Any) -> CodeCodec:
    """16 x 16 pictures to 4 x 4 codes of 12, the codebook taken from what the encoder says of a picture."""
    torch.manual_seed(0)
    plain: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (4, 4, 8),
        "latent_channels": 8,
        "num_vq_embeddings": 12,
        "vq_embed_dim": 3,
        "norm_num_groups": 2,
        "sample_size": 16,
    }
    vq = VQModel(**{**plain, **settings}).eval().requires_grad_(False)
    z = vq.encode(Noise([5])((1, 3, 16, 16))).latents
    vq.quantize.embedding.weight.copy_(z[0].flatten(1).T[:12])
    return CodeCodec(vq)


CODEC = tiny_codec()
IMAGES = Noise([1, 2])((2, 3, 16, 16)).clamp(-1, 1)


def test_sizes() -> None:
    assert (CODEC.factor, CODEC.side, CODEC.count) == (4, 4, 12)
    assert CODEC.encode(IMAGES).shape == (2, 16) and CODEC.encode(IMAGES).dtype == torch.int64
    assert CODEC.encode(Noise([1])((1, 3, 8, 24))).shape == (1, 12), "other sizes are encoded too"


def test_codes_are_the_nearest_in_the_order_of_reading() -> None:
    z, book = CODEC.vq.encode(IMAGES).latents, CODEC.vq.quantize.embedding.weight
    found = CODEC.encode(IMAGES)
    for picture, row, column in ((0, 0, 0), (0, 0, 3), (0, 3, 0), (1, 2, 1)):
        distances = (book - z[picture, :, row, column]).norm(dim=1)
        assert found[picture, 4 * row + column] == distances.argmin()
    assert len(found.unique()) > 4


def test_decoding_is_that_of_diffusers() -> None:
    decoded = CODEC.decode(CODEC.encode(IMAGES))
    assert decoded.shape == (2, 3, 16, 16) and -1 <= decoded.min() < decoded.max() <= 1
    torch.testing.assert_close(decoded, CODEC.vq(IMAGES).sample.clamp(-1, 1), rtol=0, atol=1e-5)


def test_mistakes_are_refused() -> None:
    for images in (torch.zeros(1, 4, 16, 16), torch.zeros(3, 16, 16), torch.zeros(1, 3, 16, 18)):
        with pytest.raises(ValueError, match="sides that 4 divides"):
            CODEC.encode(images)
    for codes in (torch.zeros(1, 15, dtype=torch.int64), torch.zeros(16, dtype=torch.int64)):
        with pytest.raises(ValueError, match="4 x 4 codes"):
            CODEC.decode(codes)
    for wrong in (-1, 12):
        with pytest.raises(ValueError, match=r"codes lie in \[0, 12\)"):
            CODEC.decode(torch.full((1, 16), wrong))


def test_perplexity() -> None:
    assert perplexity(torch.zeros(3, 5, dtype=torch.int64), 8) == 1
    torch.testing.assert_close(perplexity(torch.arange(8), 8), torch.tensor(8.0))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    torch.testing.assert_close(perplexity(torch.tensor([3, 3, 3, 1]), 8), torch.tensor(math.exp(entropy)))
