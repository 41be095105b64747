"""Where a module is, so that a loss brings there what it computes with: fit moves modules, and no data."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["device_of"]


def device_of(module: nn.Module) -> torch.device:
    """The device of a module's first parameter."""
    return next(module.parameters()).device
