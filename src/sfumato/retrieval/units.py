"""Vectors at length 1, alone and in streams that are longer than the memory of a machine.

numpy and not torch: torch and faiss each keep threads of their own, and those that have just been used still wait for
work, on the cores that the other needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfumato.retrieval.fault import RetrievalError

__all__ = ["Stream", "unit"]

_ROWS = 8192


def unit(vectors: Tensor) -> Tensor:
    """Vectors at length 1.

    Args:
        vectors: (..., D), of any length that float32 can hold but 0.

    Returns:
        (..., D) float32, on the CPU.

    Raises:
        ValueError: a vector of length 0, or with numbers that are not finite.
    """
    scaled, usable = _scaled(vectors.detach().cpu().float().numpy())
    if not usable.all():
        raise ValueError("a vector has the length 0 or numbers that are not finite, and so no direction")
    return scaled


@dataclass(frozen=True, eq=False)
class Stream:
    """All vectors of a memory, or of a shard of one, in the order of their rows.

    Args:
        blocks: begins anew at each call; blocks (n, D) float32 of any lengths but 0.
        entries: rows N of all blocks.
        width: D.
    """

    blocks: Callable[[], Iterator[Tensor]]
    entries: int
    width: int

    def units(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The number of a first row, and the vectors (n, D) from there on at length 1; n is some thousand at most.

        Raises:
            RetrievalError: a vector of length 0 or not finite, or another number or width of vectors than was said.
        """
        done = 0
        for block in self.blocks():
            if block.ndim != 2 or block.shape[1] != self.width or done + len(block) > self.entries:
                raise RetrievalError(f"vectors {tuple(block.shape)} do not belong to {self.entries} x {self.width}")
            for piece in block.split(_ROWS):
                scaled, usable = _scaled(piece.numpy())
                if not usable.all():
                    raise RetrievalError(f"the vector of row {done + int(usable.argmin())} is 0 or not finite")
                yield done, scaled.numpy()
                done += len(scaled)
        if done != self.entries:
            raise RetrievalError(f"there are {done} vectors and not {self.entries}")

    def rows(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors (n, D) of some rows (n,) at length 1, read in one pass; the rows rise.

        Raises:
            RetrievalError: as in :meth:`units`.
        """
        found = np.empty((len(rows), self.width), np.float32)
        for first, units in self.units():
            start, stop = np.searchsorted(rows, (first, first + len(units)))
            found[start:stop] = units[rows[start:stop] - first]
        return found


def _scaled(vectors: NDArray[np.float32]) -> tuple[Tensor, NDArray[np.bool_]]:
    """Vectors (..., D) at length 1, and which of them (...) have a direction.

    The memory is torch's, which begins at multiples of 64 bytes: products are up to a sixth slower where it does not.
    """
    exact = vectors.astype(np.float64)
    lengths = np.sqrt(np.einsum("...d,...d->...", exact, exact))
    usable = np.isfinite(lengths) & (lengths > 0)
    exact /= np.where(usable, lengths, 1.0)[..., None]
    units = torch.empty(vectors.shape, dtype=torch.float32)
    units.numpy()[...] = exact
    return units, usable
