"""Pictures as codes: rows of a learned codebook, one for each square of a picture, in the order of reading.

    code(i) = argmin over v of |z_i - e_v|,    picture = decoder(e_code(1), ..., e_code(n))

Paper: Neural Discrete Representation Learning (van den Oord et al., 2017), arXiv:1711.00937, equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.vq_model import VQModel
from torch import Tensor

__all__ = ["CodeCodec", "VQModel", "perplexity"]


@dataclass(frozen=True, eq=False)
class CodeCodec:
    """A vector-quantised autoencoder.

    Args:
        vq: a diffusers ``VQModel``; pictures of any size that is a multiple of its factor are encoded, and of its
            ``sample_size`` decoded.
    """

    vq: Any

    @property
    def factor(self) -> int:
        """Pixels along one side of the square that a code stands for."""
        return 2 ** (len(self.vq.config.block_out_channels) - 1)

    @property
    def side(self) -> int:
        """Codes along one side of a picture."""
        return self.vq.config.sample_size // self.factor

    @property
    def count(self) -> int:
        """Codes V of the codebook."""
        return self.vq.config.num_vq_embeddings

    def encode(self, images: Tensor) -> Tensor:
        """Pictures to codes.

        Args:
            images: (B, 3, H, W) in [-1, 1].

        Returns:
            (B, H / factor * W / factor) int64 in [0, V), row by row.

        Raises:
            ValueError: another shape, or a side that is no multiple of the factor.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % self.factor or images.shape[3] % self.factor:
            raise ValueError(f"expected (B, 3, H, W) with sides that {self.factor} divides, got {tuple(images.shape)}")
        z = self.vq.encode(images.to(self.vq.dtype)).latents
        _, _, (_, _, codes) = self.vq.quantize(z.float())
        return codes.reshape(len(images), -1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes to pictures.

        Args:
            codes: (B, side * side) int64 in [0, V), row by row.

        Returns:
            images (B, 3, side * factor, side * factor), clipped to [-1, 1], float32.

        Raises:
            ValueError: another shape, or a code that is not in the codebook.
        """
        if codes.ndim != 2 or codes.shape[1] != self.side**2:
            raise ValueError(f"a picture has {self.side} x {self.side} codes, got shape {tuple(codes.shape)}")
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.count:
            raise ValueError(f"codes lie in [0, {self.count}), got {int(codes.min())} to {int(codes.max())}")
        vectors = self.vq.quantize.embedding(codes.to(self.vq.device)).unflatten(1, (self.side, self.side))
        return self.vq.decode(vectors.permute(0, 3, 1, 2), force_not_quantize=True).sample.float().clamp(-1, 1)


def perplexity(codes: Tensor, count: int) -> Tensor:
    """How many codes are used as if evenly: exp of the entropy of their frequencies.

    Args:
        codes: int64 of any shape (...), in [0, count).
        count: codes V of the codebook.

    Returns:
        () float32, from 1 for a single code to V for all codes equally often.
    """
    share = torch.bincount(codes.flatten(), minlength=count).float() / codes.numel()
    return torch.special.entr(share).sum().exp()
