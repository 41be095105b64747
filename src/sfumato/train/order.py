"""Data order and randomness as functions of the step number, so that a resumed run is the same run.

Nothing here remembers anything: step n of a run sees the same pictures, in the same order, with the same noise,
whether the run came there in one go or was killed ten times on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

__all__ = ["Order", "batch_seeds"]


@dataclass(frozen=True)
class Order:
    """Which items are in which batch: every epoch is one shuffle of all items, and batches run on across epochs.

    Args:
        count: number of items, >= 1.
        batch_size: items a batch, >= 1; may exceed ``count``.
        seed: seed of the shuffles, >= 0.

    Raises:
        ValueError: no items, or an empty batch.
    """

    count: int
    batch_size: int
    seed: int = 0
    _shuffles: dict[int, Tensor] = field(default_factory=dict[int, Tensor], repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.count < 1 or self.batch_size < 1:
            raise ValueError(f"need at least one item and one item a batch, got {self.count} and {self.batch_size}")

    def indices(self, batch: int) -> Tensor:
        """The items of one batch.

        Args:
            batch: number of the batch since the start of the run, >= 0.

        Returns:
            Tensor (batch_size,) of int64 in [0, count).
        """
        start = batch * self.batch_size
        places = torch.arange(start, start + self.batch_size)
        epochs = range(start // self.count, (start + self.batch_size - 1) // self.count + 1)
        parts = [self._shuffle(epoch)[places[places // self.count == epoch] % self.count] for epoch in epochs]
        return torch.cat(parts)

    def _shuffle(self, epoch: int) -> Tensor:
        if epoch not in self._shuffles:
            if len(self._shuffles) > 8:
                self._shuffles.clear()
            shuffle = np.random.default_rng((self.seed, epoch)).permutation(self.count)
            self._shuffles[epoch] = torch.from_numpy(shuffle)
        return self._shuffles[epoch]


def batch_seeds(seed: int, batch: int, count: int) -> list[int]:
    """One seed an image of a batch, for the noise of training: B integers in [0, 2**32), all that torch's CPU generator
    tells apart.

    Args:
        seed: seed of the run, >= 0.
        batch: number of the batch since the start of the run, >= 0.
        count: images in the batch.
    """
    return np.random.default_rng((seed, batch, 1)).integers(0, 2**32, count).tolist()
