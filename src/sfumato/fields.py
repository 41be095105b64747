"""Rules for the fields of a record that comes from outside: whether a value fits, and the words for what would."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["Rule", "column_of", "either", "fits_all", "number", "one_of", "or_none", "rows", "shown", "text", "whole"]

_LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Rule:
    """What a field may hold.

    Args:
        fits: whether a value does.
        wanted: the same in words, as after "must be".
    """

    fits: Callable[[Any], bool]
    wanted: str

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that does not fit.

        Raises:
            ValueError: it does not.
        """
        if not self.fits(value):
            raise ValueError(f"{name} must be {self.wanted}, got {shown(value)}")


def shown(value: Any) -> str:
    """A value in a sentence, cut to 80 characters."""
    words = repr(value)
    return words if len(words) <= 80 else words[:77] + "..."


def text(longest: int) -> Rule:
    """A text of at most ``longest`` characters."""
    return Rule(
        lambda value: isinstance(value, str) and len(value) <= longest, f"a text of at most {longest} characters"
    )


def whole(low: int, high: int) -> Rule:
    """A whole number in [low, high]; true and false are none."""
    return Rule(lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high}")


def number(low: float, high: float) -> Rule:
    """A finite number in [low, high]."""

    def fits(value: Any) -> bool:
        return type(value) in (int, float) and low <= value <= high and abs(value) <= _LARGEST

    return Rule(fits, f"a number from {low:g} to {high:g}")


def either() -> Rule:
    """True or false."""
    return Rule(lambda value: type(value) is bool, "true or false")


def one_of(*words: str) -> Rule:
    """One of some words."""
    wanted = " or ".join(word or "nothing" for word in words)
    return Rule(lambda value: isinstance(value, str) and value in words, wanted)


def or_none(rule: Rule) -> Rule:
    """None, or what fits a rule."""
    return Rule(lambda value: value is None or rule.fits(value), f"{rule.wanted}, or nothing")


def rows(wanted: str, *rules: Rule, longest: int = 16) -> Rule:
    """A tuple of at most ``longest`` rows, each a tuple whose columns follow the rules."""

    def fits(value: Any) -> bool:
        return _is_short(value, longest) and all(fits_all(row, rules) for row in value)

    return Rule(fits, f"at most {longest} of {wanted}")


def column_of(wanted: str, rule: Rule, longest: int = 16) -> Rule:
    """A tuple of at most ``longest`` values that follow a rule."""

    def fits(value: Any) -> bool:
        return _is_short(value, longest) and all(rule.fits(each) for each in value)

    return Rule(fits, f"at most {longest} of {wanted}")


def fits_all(row: Any, rules: tuple[Rule, ...]) -> bool:
    """Whether a value is a tuple with one column for each rule, which follows it."""
    columns: tuple[Any, ...] = cast("tuple[Any, ...]", row) if isinstance(row, tuple) else ()
    return len(columns) == len(rules) and all(rule.fits(column) for column, rule in zip(columns, rules, strict=True))


def _is_short(value: Any, longest: int) -> bool:
    return isinstance(value, tuple) and len(cast("tuple[Any, ...]", value)) <= longest
