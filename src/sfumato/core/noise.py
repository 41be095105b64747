"""Random numbers that belong to an image, not to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

__all__ = ["Noise"]


class Noise:
    """One CPU generator per image, so that a result never depends on batch neighbours or on the device.

    ``Noise([s])(shape)`` equals ``torch.randn(shape, generator=torch.Generator("cpu").manual_seed(s))``, and the
    rows of a larger batch are those same draws. Each call advances every generator; to repeat a run, build a new one.

    Args:
        seeds: one seed per image, each in [0, 2**64). torch's CPU generator tells apart the lower 32 bits only.

    Raises:
        ValueError: no seeds, or a seed out of range.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        if not seeds:
            raise ValueError("noise needs at least one seed, one for each image")
        wrong = [seed for seed in seeds if not 0 <= seed < 2**64]
        if wrong:
            raise ValueError(f"a seed must lie in [0, 2**64), got {wrong[0]}")
        self.seeds = tuple(seeds)
        self._generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]

    def __call__(self, shape: Sequence[int]) -> Tensor:
        """Draw standard normal numbers.

        Args:
            shape: (B, ...), the whole batch; B is the number of seeds.

        Returns:
            Tensor (B, ...), float32, on the CPU.

        Raises:
            ValueError: the first size is not the number of seeds.
        """
        rest = self._image_shape(shape)
        return torch.stack([torch.randn(rest, generator=generator) for generator in self._generators])

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Draw numbers uniform in [0, 1).

        Args:
            shape: (B, ...), the whole batch; B is the number of seeds.

        Returns:
            Tensor (B, ...), float64, on the CPU.

        Raises:
            ValueError: the first size is not the number of seeds.
        """
        rest = self._image_shape(shape)
        draws = [torch.rand(rest, generator=generator, dtype=torch.float64) for generator in self._generators]
        return torch.stack(draws)

    def like(self, x: Tensor) -> Tensor:
        """Draw standard normal numbers of x's shape (B, ...), device and dtype.

        Raises:
            ValueError: x has another number of images than there are seeds.
        """
        return self(x.shape).to(x)

    def fork(self, purpose: str) -> Noise:
        """Noise for another purpose in the same run, whose draws have nothing to do with these.

        A function of each seed and the purpose alone: nothing that was or will be drawn here changes it.

        Args:
            purpose: a word, such as "reference".
        """
        return Noise([_derived(seed, purpose) for seed in self.seeds])

    def __repr__(self) -> str:
        return f"Noise({list(self.seeds)})"

    def _image_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        if len(shape) == 0 or shape[0] != len(self.seeds):
            raise ValueError(f"noise for {len(self.seeds)} seeds cannot fill shape {tuple(shape)}: one seed an image")
        return tuple(shape[1:])


def _derived(seed: int, purpose: str) -> int:
    return int.from_bytes(blake2b(f"{seed} {purpose}".encode(), digest_size=8).digest(), "little")
