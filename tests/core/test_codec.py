from typing import Any

import pytest
import torch

from sfumato.core.codec import LatentCodec, PixelCodec
from sfumato.core.noise import Noise
from tests.tiny import tiny_vae


@pytest.fixture(autouse=True)
def _no_grad() -> None:
    with torch.no_grad():
        yield


def _images(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16) * 2 - 1


def test_pixels_are_left_alone_and_clipped_on_the_way_out() -> None:
    codec, images = PixelCodec(), _images()
    assert torch.equal(codec.decode(codec.encode(images)), images)
    assert codec.decode(3 * images).abs().max() == 1
    assert codec.shape(12, 16) == (3, 12, 16)


@pytest.mark.parametrize(
    ("config", "shift", "scale"),
    [
        ({}, 0.0, 0.5),
        ({"shift_factor": 0.25}, 0.25, 0.5),
        ({"latents_mean": [1.0, 2.0, 3.0, 4.0], "latents_std": [2.0] * 4}, torch.arange(1.0, 5), 0.25),
    ],
    ids=["scale", "shift", "by channel"],
)
def test_latents_are_shifted_and_scaled_as_the_checkpoint_says(config: dict, shift: Any, scale: float) -> None:
    vae, images = tiny_vae(**config), _images()
    codec = LatentCodec(vae)
    z = vae.encode(images).latent_dist.mean
    wanted = (z - torch.as_tensor(shift).reshape(1, -1, 1, 1)) * scale
    torch.testing.assert_close(codec.encode(images), wanted)
    torch.testing.assert_close(codec.decode(wanted), vae.decode(z).sample.clamp(-1, 1))


def test_shapes_follow_the_autoencoder() -> None:
    codec = LatentCodec(tiny_vae())
    assert codec.factor == 2
    assert codec.shape(16, 20) == (4, 8, 10)
    assert codec.encode(_images()).shape == (2, 4, 8, 8)


def test_samples_of_the_posterior_belong_to_their_seed() -> None:
    vae, images = tiny_vae(), _images(2)
    codec = LatentCodec(vae)
    sampled = codec.encode(images, Noise([3, 4]))
    torch.testing.assert_close(sampled[1:], codec.encode(images[1:], Noise([4])), rtol=0, atol=1e-6)
    posterior = vae.encode(images).latent_dist
    drawn = Noise([3, 4])(tuple(posterior.mean.shape))
    torch.testing.assert_close(sampled, (posterior.mean + posterior.std * drawn) * 0.5)


def test_a_half_autoencoder_takes_and_gives_float32() -> None:
    codec = LatentCodec(tiny_vae().bfloat16())
    latents = codec.encode(_images())
    assert latents.dtype == codec.decode(latents).dtype == torch.float32


def test_shapes_that_do_not_fit_are_refused() -> None:
    codec = LatentCodec(tiny_vae())
    with pytest.raises(ValueError, match="multiples of 2, got 16 x 15"):
        codec.encode(_images()[..., :15])
    for size in ((0, 16), (16, 1), (-2, 16), (0, 0)):
        with pytest.raises(ValueError, match=f"must be at least 2, got {size[0]} x {size[1]}"):
            codec.shape(*size)
    with pytest.raises(ValueError, match="must be at least 1, got 0 x 4"):
        PixelCodec().shape(0, 4)
    with pytest.raises(ValueError, match=r"\(B, 4, h, w\)"):
        codec.decode(torch.zeros(2, 3, 8, 8))
    for wrong in (torch.zeros(2, 1, 8, 8), torch.zeros(3, 8, 8)):
        with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
            codec.encode(wrong)
        with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
            PixelCodec().encode(wrong)
