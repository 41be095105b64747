"""Types of flags: each turns a word into a checked value, or says in a sentence what it needs."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

from sfumato.cli.words import printable

__all__ = ["boolean", "interval", "number", "size", "whole"]


def whole(low: int | None = None, high: int | None = None) -> Callable[[str], int]:
    """A whole number in [low, high]; None is no bound."""

    def convert(word: str) -> int:
        try:
            value = int(word)
        except ValueError:
            value = None
        if value is None or (low is not None and value < low) or (high is not None and value > high):
            wanted = f" of at least {low}" if high is None else f" from {low} to {high}"
            wanted = "" if low is None else wanted
            raise ArgumentTypeError(f"needs a whole number{wanted}, got '{printable(word)}'")
        return value

    return convert


def number(low: float = -math.inf, high: float = math.inf) -> Callable[[str], float]:
    """A finite number in [low, high]."""

    def convert(word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and low <= value <= high):
            raise ArgumentTypeError(f"needs {_range(low, high)}, got '{printable(word)}'")
        return value

    return convert


def interval(word: str) -> tuple[float, float]:
    """LOW:HIGH with 0 <= LOW < HIGH <= 1."""
    share = number(0, 1)
    try:
        low, high = (share(part) for part in word.split(":"))
    except (ValueError, ArgumentTypeError):
        low = high = 0.0
    if not low < high:
        raise ArgumentTypeError(f"needs LOW:HIGH with 0 <= LOW < HIGH <= 1, such as 0.2:0.8, got '{printable(word)}'")
    return low, high


def size(word: str) -> tuple[int, int]:
    """WIDTHxHEIGHT in pixels, or one number for both, each from 8 to 4096."""
    side = whole(8, 4096)
    try:
        sides = [side(part) for part in word.lower().split("x")]
    except ArgumentTypeError:
        sides = []
    if len(sides) not in (1, 2):
        raise ArgumentTypeError(f"needs WIDTHxHEIGHT with sides from 8 to 4096, such as 64x64, got '{printable(word)}'")
    return sides[0], sides[-1]


def boolean(word: str) -> bool:
    """true or false, yes or no."""
    values: dict[str, Any] = {"true": True, "yes": True, "false": False, "no": False}
    if word.lower() not in values:
        raise ArgumentTypeError(f"needs true or false, got '{printable(word)}'")
    return values[word.lower()]


def _range(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return "a finite number"
    if math.isinf(high):
        return f"a finite number of at least {low:g}"
    return f"a number from {low:g} to {high:g}"
