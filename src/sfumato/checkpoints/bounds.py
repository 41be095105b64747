"""Building a module from settings that come from anywhere, without its growing beyond the files that are to fill it.

A few letters of settings can ask for a table of 10^12 rows or for a thousand layers. What a checkpoint can be is known
before: its files say how many tensors they hold, and how many numbers these have in all.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from threading import local
from typing import cast

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

__all__ = ["bounded", "check_settings"]

_LEAST = 65536
"""Settings that are no sizes (of pictures, numbers of tokens) go as far, however small the files are."""

_SLACK = 100
"""Tensors that a module may have beyond twice those of its files, so that those which are missing can be named."""


def check_settings(settings: object, numbers: int) -> None:
    """Refuse whole numbers that no size in the files can be.

    Args:
        settings: what a config.json says.
        numbers: that all tensors of the files have together.

    Raises:
        ValueError: one is larger; the sentence says which.
    """
    most = max(numbers, _LEAST)
    for name, value in _whole_numbers("", settings):
        if abs(value) > most:
            raise ValueError(f"its {name} is {str(value)[:40]}, and its weights have {numbers} numbers in all")


@contextmanager
def bounded(tensors: int, numbers: int) -> Generator[None]:
    """While it lasts, parameters of modules built in this thread take no memory, and must fit into their files.

    Args:
        tensors: that the files hold.
        numbers: that these have together.

    Raises:
        ValueError: a parameter has more numbers than all of the files, or there are more than twice as many parameters
            as the files have tensors; raised where the module is built.
    """
    _HERE.bounds = _Bounds(tensors, numbers)
    try:
        yield
    finally:
        del _HERE.bounds


class _Bounds:
    """What the modules that are built may be, and how many parameters they have so far."""

    def __init__(self, tensors: int, numbers: int) -> None:
        self.tensors = tensors
        self.numbers = numbers
        self.found = 0

    def check(self, module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        """Count a parameter, and refuse it if it goes beyond the files."""
        self.found += 1
        if parameter.numel() > max(self.numbers, _LEAST):
            asked = f"{type(module).__name__}.{name} of shape {list(parameter.shape)}"
            raise ValueError(f"it asks for {asked}, and its weights have {self.numbers} numbers in all")
        if self.found > 2 * self.tensors + _SLACK:
            raise ValueError(f"it asks for more than {self.found - 1} tensors, and its weights are {self.tensors}")


_HERE = local()
"""The bounds of each thread; a thread without any builds modules as ever."""


def _without_memory(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter | None:
    bounds: _Bounds | None = getattr(_HERE, "bounds", None)
    if bounds is None:
        return None
    bounds.check(module, name, parameter)
    return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)


# Once, since other threads may be going through the hooks; torch's types forget that a hook may give another parameter.
register_module_parameter_registration_hook(_without_memory)  # pyright: ignore[reportArgumentType]


def _whole_numbers(name: str, value: object) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        for key, each in cast("dict[str, object]", value).items():
            yield from _whole_numbers(key, each)
    elif isinstance(value, list):
        for each in cast("list[object]", value):
            yield from _whole_numbers(name, each)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value
