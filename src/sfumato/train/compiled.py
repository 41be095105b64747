"""``torch.compile`` for training: what the loop runs in place of the module, once its gradients are seen to be right.

A compiled network that loses a part of its gradients learns the wrong thing without a word. On a CPU, torch 2.13 makes
such ones under bfloat16 autocast: fused with a copy, the gradient of an upsampling is read before it is summed. With
weights in the contiguous layout the U-Net is compiled rightly, and runs faster too; and whatever is compiled is
compared with the module itself before it is trusted, and before each checkpoint. Modules that draw random numbers of
their own, as dropout does, differ by these and are not compiled.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["compiled", "difference", "lay_out"]

_compile: Any = torch.compile


def lay_out(module: nn.Module, device: str) -> None:
    """Put weights into the layout that they are compiled in: contiguous on a CPU, as they are elsewhere.

    An optimiser keeps what it remembers in the order of the weights in memory, so this comes before it.

    Args:
        module: what will be compiled; changed in place.
        device: type of the device it is on.
    """
    if device == "cpu":
        module.to(memory_format=torch.contiguous_format)  # pyright: ignore


def compiled(module: nn.Module, device: str) -> nn.Module:
    """The module under ``torch.compile``, sharing its weights.

    Args:
        module: what is trained, laid out by :func:`lay_out`.
        device: type of the device it is on.

    Raises:
        ValueError: on a CPU, where there is no C++ compiler.
    """
    if device != "cpu":
        return _compile(module)
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise ValueError(f"--compile needs a C++ compiler, and there is no {compiler}; install it, or train without")
    return _compile(module, options={"layout_optimization": False})


def difference(weights: Iterable[nn.Parameter], one: Callable[[], Tensor], other: Callable[[], Tensor]) -> float:
    """How far apart the gradients of two losses are: the mean over the weights of ``|g1 - g2| / (|g1| + |g2|)``.

    Args:
        weights: parameters without gradients, as they are left again.
        one: gives the loss () that the g1 are the gradients of.
        other: gives that of the g2.

    Returns:
        In [0, 1]; a weight whose gradient is lost counts as 1, and one that has none as 0.
    """
    held = list(weights)
    apart = [float(_apart(g1, g2)) for g1, g2 in zip(_gradients(held, one), _gradients(held, other), strict=True)]
    return sum(apart) / max(1, len(apart))


def _gradients(weights: list[nn.Parameter], loss: Callable[[], Tensor]) -> list[Tensor]:
    loss().backward()
    found = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    for weight in weights:
        weight.grad = None
    return found


def _apart(g1: Tensor, g2: Tensor) -> Tensor:
    lengths = g1.norm() + g2.norm()
    return (g1 - g2).norm() / lengths.clamp(min=torch.finfo(lengths.dtype).tiny)
