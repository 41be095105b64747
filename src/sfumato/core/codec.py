"""Codecs: between images and what a network denoises; the one place where latents are shifted and scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sfumato.core.noise import Noise

__all__ = ["Codec", "LatentCodec", "PixelCodec"]


class Codec(Protocol):
    """Turns images into x0 and back."""

    @property
    def factor(self) -> int:
        """Pixels along one side of an element of x0."""
        ...

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (C, h, w) of the x0 of one image of that many pixels."""
        ...

    def encode(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to x0 (B, C, h, w), about unit variance, float32."""
        ...

    def decode(self, x0: Tensor) -> Tensor:
        """x0 (B, C, h, w) to images (B, 3, H, W) in [-1, 1], float32."""
        ...


@dataclass(frozen=True)
class PixelCodec:
    """The identity, for models of pixels."""

    @property
    def factor(self) -> int:
        """1."""
        return 1

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(3, height, width).

        Raises:
            ValueError: a side below 1.
        """
        if min(height, width) < 1:
            raise ValueError(f"height and width must be at least 1, got {height} x {width}")
        return (3, height, width)

    def encode(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1], as they are.

        Raises:
            ValueError: another shape.
        """
        return _images(images)

    def decode(self, x0: Tensor) -> Tensor:
        """x0 (B, 3, H, W) clipped to [-1, 1].

        Raises:
            ValueError: another shape.
        """
        return _images(x0).clamp(-1, 1)


@dataclass(frozen=True, eq=False)
class LatentCodec:
    """An autoencoder with the checkpoint's scaling: x0 = (z - shift) * scale, z = the latents of the autoencoder.

    Args:
        vae: a diffusers ``AutoencoderKL``; its config gives ``scaling_factor`` (scale), ``shift_factor`` (shift, 0 if
            absent), or ``latents_mean`` and ``latents_std`` by channel: shift = mean, scale = scaling_factor / std.
    """

    vae: Any

    @property
    def factor(self) -> int:
        """Pixels along one side of a latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape (C, height / factor, width / factor) of one image's latents.

        Raises:
            ValueError: a side below the factor, or no multiple of it.
        """
        if min(height, width) < self.factor:
            raise ValueError(f"height and width must be at least {self.factor}, got {height} x {width}")
        if height % self.factor or width % self.factor:
            raise ValueError(f"height and width must be multiples of {self.factor}, got {height} x {width}")
        return (self.vae.config.latent_channels, height // self.factor, width // self.factor)

    def encode(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        """Encode images.

        Args:
            images: (B, 3, H, W) in [-1, 1].
            noise: one seed an image, for a sample of the posterior; None: its mean.

        Returns:
            latents (B, C, H / factor, W / factor), scaled to about unit variance, float32.

        Raises:
            ValueError: another shape, or a side that is no multiple of the factor.
        """
        self.shape(*_images(images).shape[-2:])
        posterior = self.vae.encode(images.to(self.vae.dtype)).latent_dist
        z = posterior.mean.float()
        if noise is not None:
            z = z + posterior.std.float() * noise.like(z)
        shift, scale = self._scaling(z)
        return (z - shift) * scale

    def decode(self, x0: Tensor) -> Tensor:
        """Decode latents.

        Args:
            x0: scaled latents (B, C, h, w).

        Returns:
            images (B, 3, h * factor, w * factor), clipped to [-1, 1], float32.

        Raises:
            ValueError: another number of channels.
        """
        channels = self.vae.config.latent_channels
        if x0.ndim != 4 or x0.shape[1] != channels:
            raise ValueError(f"expected latents of shape (B, {channels}, h, w), got {tuple(x0.shape)}")
        shift, scale = self._scaling(x0)
        return self.vae.decode((x0 / scale + shift).to(self.vae.dtype)).sample.float().clamp(-1, 1)

    def _scaling(self, like: Tensor) -> tuple[Tensor, Tensor]:
        config = self.vae.config
        mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
        if mean is not None and std is not None:
            return _by_channel(mean, like), config.scaling_factor / _by_channel(std, like)
        shift = getattr(config, "shift_factor", None) or 0.0
        return _by_channel([shift], like), _by_channel([config.scaling_factor], like)


def _by_channel(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).reshape(1, -1, 1, 1)


def _images(images: Tensor) -> Tensor:
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected images of shape (B, 3, H, W), got {tuple(images.shape)}")
    return images
