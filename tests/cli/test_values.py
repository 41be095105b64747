from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

import pytest

from sfumato.cli.values import boolean, interval, number, size, whole


@pytest.mark.parametrize(
    ("convert", "word", "value"),
    [
        (whole(1, 10), "10", 10),
        (whole(0), "123456789012345678901234567890", 123456789012345678901234567890),
        (number(), "-1e3", -1000.0),
        (number(0, 1), "0", 0.0),
        (interval, "0.2:0.8", (0.2, 0.8)),
        (size, "64", (64, 64)),
        (size, "512X768", (512, 768)),
        (boolean, "False", False),
        (boolean, "yes", True),
    ],
)
def test_right_words(convert: Callable[[str], Any], word: str, value: Any) -> None:
    assert convert(word) == value


@pytest.mark.parametrize(
    ("convert", "words"),
    [
        (whole(1, 10), ["0", "11", "-3", "2.5", "", "ten", "1e3", "9" * 5000]),
        (number(), ["nan", "inf", "-inf", "1e999", "", "four"]),
        (number(0, 1), ["-0.1", "1.1"]),
        (interval, ["0.8:0.2", "0.5:0.5", "0.5", "0:1:2", "a:b", "-1:1", "0:2", "nan:1", ":"]),
        (size, ["0x64", "64x", "64x64x64", "4097x64", "7", "axb", "-64x64"]),
        (boolean, ["maybe", "", "2"]),
    ],
)
def test_wrong_words_get_a_sentence(convert: Callable[[str], Any], words: list[str]) -> None:
    for word in words:
        with pytest.raises(ArgumentTypeError, match="needs"):
            convert(word)
