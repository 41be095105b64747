"""Types of flags: each turns a word into a checked value, or says in a sentence what it needs."""

from __future__ import annotations

import math
import os
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sfumato.cli.words import printable
from sfumato.given import Box

__all__ = [
    "boolean",
    "border",
    "existing_file",
    "existing_folder",
    "expert",
    "interval",
    "number",
    "numbers",
    "painted",
    "path",
    "picture_or_words",
    "region",
    "reweighted",
    "size",
    "threshold",
    "wanted_class",
    "weighted_prompt",
    "whole",
]


def path(word: str) -> Path:
    """A place; ~ is the home folder, also where a shell leaves it as it is ("--output=~/pictures")."""
    return Path(word).expanduser()


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


def border(word: str) -> tuple[int, int, int, int]:
    """One width in pixels for all sides, or LEFT,RIGHT,ABOVE,BELOW; not all 0."""
    side = whole(0, 4096)
    try:
        sides = [side(part) for part in word.split(",")]
    except ArgumentTypeError:
        sides = []
    if len(sides) not in (1, 4) or not any(sides):
        raise ArgumentTypeError(f"needs PX or LEFT,RIGHT,ABOVE,BELOW in pixels, such as 16, got '{printable(word)}'")
    left, right, above, below = sides if len(sides) == 4 else sides * 4
    return left, right, above, below


def boolean(word: str) -> bool:
    """true or false, yes or no."""
    values: dict[str, Any] = {"true": True, "yes": True, "false": False, "no": False}
    if word.lower() not in values:
        raise ArgumentTypeError(f"needs true or false, got '{printable(word)}'")
    return values[word.lower()]


def numbers(low: float, high: float) -> Callable[[str], tuple[float, ...]]:
    """One number in [low, high], or several with commas between."""
    one = number(low, high)

    def convert(word: str) -> tuple[float, ...]:
        return tuple(one(part) for part in word.split(","))

    return convert


def weighted_prompt(sign: int) -> Callable[[str], tuple[str, float]]:
    """PROMPT or PROMPT:WEIGHT with a weight from 0 to 1000, 1 if it is not given; the weight gets the sign.

    A last word such as 10:30 or 16:9 is refused: it may be a time, a ratio, or a number and a weight.
    """

    def convert(word: str) -> tuple[str, float]:
        prompt, colon, weight = word.rpartition(":")
        if re.search(r"(^|\s)\d+:\d+\s*$", word):
            raise ArgumentTypeError(
                f"'{printable(word)}' may end in a weight or not: write '{printable(word.rstrip())}:1' if all of it is "
                f"the prompt, '{printable(word.rstrip())}.0' if {weight.strip()} is the weight"
            )
        try:
            value = float(weight) if colon else math.nan
        except ValueError:
            value = math.nan
        if math.isnan(value):
            prompt, value = word, 1.0
        if not prompt.strip() or not 0 <= value <= 1000:
            raise ArgumentTypeError(
                f"needs PROMPT:WEIGHT with a weight from 0 to 1000, such as 'a bird:1.0', got '{printable(word)}'"
            )
        return prompt.strip(), sign * value

    return convert


def threshold(word: str) -> str:
    """static, or dynamic:QUANTILE with a quantile above 0 and up to 1; dynamic alone is the paper's 0.995."""
    kind, colon, quantile = word.partition(":")
    if word == "static":
        return word
    try:
        share = number(0, 1)(quantile) if colon else 0.995
    except ArgumentTypeError:
        share = 0.0
    if kind != "dynamic" or share == 0:
        raise ArgumentTypeError(f"needs static or dynamic:QUANTILE, such as dynamic:0.995, got '{printable(word)}'")
    return f"dynamic:{share:g}"


def wanted_class(word: str) -> tuple[str, str, float]:
    """HEAD=WORD or HEAD=WORD:SCALE, such as concept=rocket:2.0."""
    head, equals, rest = word.partition("=")
    name, colon, scale = rest.partition(":")
    try:
        value = number(0, 1000)(scale) if colon else 1.0
    except ArgumentTypeError:
        value = -1.0
    if not (head and equals and name) or value < 0:
        raise ArgumentTypeError(f"needs HEAD=WORD:SCALE, such as concept=rocket:2.0, got '{printable(word)}'")
    return head, name, value


def expert(word: str) -> tuple[str, float, float]:
    """MODEL@START-STOP with shares of the path, such as other@0.0-0.3."""
    model, at, span = word.rpartition("@")
    try:
        start, stop = (number(0, 1)(part) for part in span.split("-"))
    except (ValueError, ArgumentTypeError):
        start = stop = 0.0
    if not (at and model and start < stop):
        raise ArgumentTypeError(
            f"needs MODEL@START-STOP with 0 <= START < STOP <= 1, such as other@0.0-0.3, got '{printable(word)}'"
        )
    return model, start, stop


def existing_file(word: str) -> Path:
    """A file that is there."""
    path = Path(word).expanduser()
    if not _is_file(path):
        if os.path.exists(path):  # noqa: PTH110 (Path.exists raises where a name is too long)
            raise ArgumentTypeError(f"'{printable(word)}' is a folder or a pipe; give a file, which can be read twice")
        raise ArgumentTypeError(f"there is no file '{printable(word)}'")
    return path


def picture_or_words(word: str) -> Path | str:
    """A file that is there, or words; what ends as a picture does is none."""
    from sfumato.retrieval.item import is_picture

    path = Path(word).expanduser()
    if _is_file(path):
        return path
    if is_picture(word):
        raise ArgumentTypeError(f"there is no picture '{printable(word)}'; without its ending it is words")
    return word


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises where a name is too long)


def existing_folder(word: str) -> Path:
    """A folder that is there."""
    path = Path(word).expanduser()
    if not path.is_dir():
        raise ArgumentTypeError(f"there is no folder '{printable(word)}'")
    return path


def painted(word: str) -> tuple[str, Path | Box, float]:
    """PHRASE=WHERE or PHRASE=WHERE:WEIGHT; WHERE is a mask's file or LEFT,TOP,RIGHT,BOTTOM in pixels."""
    phrase, equals, rest = word.partition("=")
    where, colon, last = rest.rpartition(":")
    try:
        weight = number(0, 1000)(last) if colon else 1.0
    except ArgumentTypeError:
        where, weight = rest, 1.0
    if not equals or not phrase.strip():
        raise ArgumentTypeError(
            f"needs PHRASE=MASK or PHRASE=LEFT,TOP,RIGHT,BOTTOM, such as apple=8,20,30,40, got '{printable(word)}'"
        )
    return phrase.strip(), _place(where if colon else rest), weight


def region(word: str) -> tuple[str, Path | Box]:
    """PROMPT=WHERE; WHERE is a mask's file or LEFT,TOP,RIGHT,BOTTOM in pixels."""
    prompt, equals, where = word.partition("=")
    if not equals or not prompt.strip():
        raise ArgumentTypeError(
            "needs PROMPT=MASK or PROMPT=LEFT,TOP,RIGHT,BOTTOM, such as 'a red apple=0,0,32,64', "
            f"got '{printable(word)}'"
        )
    return prompt.strip(), _place(where)


def reweighted(word: str) -> tuple[str, float]:
    """PHRASE:FACTOR, such as blue:2."""
    phrase, _, factor = word.rpartition(":")
    try:
        value = number(-1000, 1000)(factor)
    except ArgumentTypeError:
        value = None
    if value is None or not phrase.strip():
        raise ArgumentTypeError(f"needs PHRASE:FACTOR, such as blue:2, got '{printable(word)}'")
    return phrase.strip(), value


def _place(word: str) -> Path | Box:
    """The file of a mask, or a box LEFT,TOP,RIGHT,BOTTOM in pixels."""
    try:
        sides = [whole(0, 4096)(part) for part in word.split(",")]
    except ArgumentTypeError:
        return _mask(word)
    if len(sides) != 4 or sides[0] >= sides[2] or sides[1] >= sides[3]:
        raise ArgumentTypeError(
            f"a box needs LEFT,TOP,RIGHT,BOTTOM with LEFT < RIGHT and TOP < BOTTOM, got '{printable(word)}'"
        )
    left, top, right, bottom = sides
    return left, top, right, bottom


def _mask(word: str) -> Path:
    path = Path(word).expanduser()
    if not _is_file(path):
        raise ArgumentTypeError(
            f"there is no file '{printable(word)}'; give a mask's file or LEFT,TOP,RIGHT,BOTTOM in whole pixels"
        )
    return path


def _range(low: float, high: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return "a finite number"
    if math.isinf(high):
        return f"a finite number of at least {low:g}"
    return f"a number from {low:g} to {high:g}"
