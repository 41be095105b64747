"""An exponential moving average of weights: the weights that are shipped."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Ema"]


class Ema:
    """average <- d * average + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n)) at update n.

    The ramp lets the average forget the random start; it then spans about 1 / (1 - decay) updates.

    Args:
        module: whose floating-point parameters and buffers are averaged, in float32.
        decay: in [0, 1); 0 follows the weights exactly.

    Raises:
        ValueError: decay outside [0, 1).

    Paper: Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, appendix B (decay 0.9999).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {decay}")
        self.decay = decay
        self._module = module
        self.average = {name: value.detach().clone().float() for name, value in self._averaged().items()}

    @torch.no_grad()
    def update(self, count: int) -> None:
        """Take in the present weights; ``count`` is the number of updates before this one."""
        decay = min(self.decay, (1 + count) / (10 + count))
        for name, value in self._averaged().items():
            self.average[name].lerp_(value.float(), 1 - decay)

    @torch.no_grad()
    def restore(self, average: Mapping[str, Tensor]) -> None:
        """Take the averages of a checkpoint, each of the shape (...) of the weight of that name."""
        for name, value in self.average.items():
            value.copy_(average[name])

    @contextmanager
    def applied(self) -> Generator[None]:
        """Inside ``with``, the module carries the averaged weights; its own come back at the end, whatever happens."""
        own = {name: value.detach().clone() for name, value in self._averaged().items()}
        self._copy(self.average)
        try:
            yield
        finally:
            self._copy(own)

    @torch.no_grad()
    def _copy(self, values: Mapping[str, Tensor]) -> None:
        for name, value in self._averaged().items():
            value.copy_(values[name])

    def _averaged(self) -> dict[str, Tensor]:
        return {name: value for name, value in self._module.state_dict().items() if value.is_floating_point()}
