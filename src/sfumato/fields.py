"""Rules for the fields of a record that comes from outside: whether a value fits, and the words for what would."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

__all__ = ["Rule", "column_of", "fits_all", "number", "one_of", "or_none", "rows", "shown", "text", "whole"]

_LARGEST = sys.float_info.max

Rule = tuple[Callable[[Any], bool], str]
"""Whether a value fits, and what is wanted."""


def shown(value: Any) -> str:
    """A value in a sentence, cut to 80 characters."""
    words = repr(value)
    return words if len(words) <= 80 else words[:77] + "..."


def text(longest: int) -> Rule:
    """A text of at most ``longest`` characters."""
    return lambda value: isinstance(value, str) and len(value) <= longest, f"a text of at most {longest} characters"


def whole(low: int, high: int) -> Rule:
    """A whole number in [low, high]; true and false are none."""
    return lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high}"


def number(low: float, high: float) -> Rule:
    """A finite number in [low, high]."""

    def fits(value: Any) -> bool:
        return type(value) in (int, float) and low <= value <= high and abs(value) <= _LARGEST

    return fits, f"a number from {low:g} to {high:g}"


def one_of(*words: str) -> Rule:
    """One of some words."""
    return lambda value: isinstance(value, str) and value in words, " or ".join(word or "nothing" for word in words)


def or_none(rule: Rule) -> Rule:
    """None, or what fits a rule."""
    fits, wanted = rule
    return lambda value: value is None or fits(value), f"{wanted}, or nothing"


def rows(wanted: str, *rules: Rule, longest: int = 16) -> Rule:
    """A tuple of at most ``longest`` rows, each a tuple whose columns follow the rules."""

    def fits(value: Any) -> bool:
        return _is_short(value, longest) and all(fits_all(row, rules) for row in value)

    return fits, f"at most {longest} of {wanted}"


def column_of(wanted: str, rule: Rule, longest: int = 16) -> Rule:
    """A tuple of at most ``longest`` values that follow a rule."""

    def fits(value: Any) -> bool:
        return _is_short(value, longest) and all(rule[0](each) for each in value)

    return fits, f"at most {longest} of {wanted}"


def fits_all(row: Any, rules: tuple[Rule, ...]) -> bool:
    """Whether a value is a tuple with one column for each rule, which follows it."""
    columns: tuple[Any, ...] = cast("tuple[Any, ...]", row) if isinstance(row, tuple) else ()
    return len(columns) == len(rules) and all(fits(column) for column, (fits, _) in zip(columns, rules, strict=True))


def _is_short(value: Any, longest: int) -> bool:
    return isinstance(value, tuple) and len(cast("tuple[Any, ...]", value)) <= longest
