from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sfumato.cli.values import (
    boolean,
    border,
    existing_file,
    expert,
    interval,
    number,
    numbers,
    painted,
    path,
    region,
    reweighted,
    size,
    threshold,
    wanted_class,
    weighted_prompt,
    whole,
)


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
        (numbers(0, 10), "1,3,6.5", (1.0, 3.0, 6.5)),
        (weighted_prompt(1), "a blue bird", ("a blue bird", 1.0)),
        (weighted_prompt(-1), "a blue bird:0.5", ("a blue bird", -0.5)),
        (weighted_prompt(1), "a 3:4 photo", ("a 3:4 photo", 1.0)),
        (weighted_prompt(1), "a clock at 10:30:1", ("a clock at 10:30", 1.0)),
        (weighted_prompt(1), "route 66:2.0", ("route 66", 2.0)),
        (threshold, "static", "static"),
        (threshold, "dynamic", "dynamic:0.995"),
        (threshold, "dynamic:0.9", "dynamic:0.9"),
        (wanted_class, "concept=soccer ball:2", ("concept", "soccer ball", 2.0)),
        (wanted_class, "colour=red", ("colour", "red", 1.0)),
        (expert, "a@b/model@0.0-0.3", ("a@b/model", 0.0, 0.3)),
        (border, "8", (8, 8, 8, 8)),
        (border, "1,2,3,0", (1, 2, 3, 0)),
        (painted, "hat=0,8,16,32", ("hat", (0, 8, 16, 32), 1.0)),
        (painted, " a red hat = 0, 8, 16, 32 :1.5", ("a red hat", (0, 8, 16, 32), 1.5)),
        (painted, "hat=0,8,16,32:0", ("hat", (0, 8, 16, 32), 0.0)),
        (painted, f"hat={__file__}", ("hat", Path(__file__), 1.0)),
        (painted, f"hat={__file__}:2", ("hat", Path(__file__), 2.0)),
        (region, "a red hat, 3:4=0,0,16,32", ("a red hat, 3:4", (0, 0, 16, 32))),
        (region, f"a hat={__file__}", ("a hat", Path(__file__))),
        (reweighted, "blue:2", ("blue", 2.0)),
        (reweighted, "a 3:4 photo:-0.5", ("a 3:4 photo", -0.5)),
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
        (numbers(0, 10), ["", "1,", "1;2", "1,11", "nan"]),
        (weighted_prompt(1), ["", ":1", "  ", "a cat:-1", "a cat:1e9"]),
        (threshold, ["dynamic:0", "dynamic:2", "soft", "", "dynamic:x"]),
        (wanted_class, ["rocket", "=rocket", "concept=", "concept=rocket:", "concept=rocket:-1", "concept=rocket:x"]),
        (expert, ["model", "model@0.5", "model@0.5-0.5", "@0-1", "model@0-2", "model@a-b"]),
        (border, ["", "0", "0,0,0,0", "1,2", "-1", "1.5"]),
        (painted, ["", "hat", "=0,0,8,8", " =0,0,8,8", "hat=0,0,8", "hat=8,0,8,8", "hat=0,8,8,2", "hat=0,0,8,8,8:1"]),
        (region, ["", "a hat", "=0,0,8,8", " =0,0,8,8", "a hat=8", "a hat=8,0,0,8"]),
        (reweighted, ["", "blue", "blue:", ":2", " :2", "blue:much", "blue:nan", "blue:1e9"]),
    ],
)
def test_wrong_words_get_a_sentence(convert: Callable[[str], Any], words: list[str]) -> None:
    for word in words:
        with pytest.raises(ArgumentTypeError, match="needs"):
            convert(word)


@pytest.mark.parametrize("word", ["a clock at 10:30", "16:9", "route 66:2 "])
def test_what_may_be_a_time_or_a_weight_is_asked_about(word: str) -> None:
    with pytest.raises(ArgumentTypeError, match=f"write '{word.strip()}:1' if all of it is the prompt, .*\\.0' if"):
        weighted_prompt(1)(word)


def test_a_home_folder_is_one_wherever_the_shell_left_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/someone")
    monkeypatch.setenv("USERPROFILE", "/home/of/someone")
    assert path("~/pictures") == Path("/home/of/someone/pictures")
    assert path("pictures") == Path("pictures")


def test_a_file_must_be_there() -> None:
    assert existing_file(__file__).name == "test_values.py"
    with pytest.raises(ArgumentTypeError, match="there is no file 'nowhere.png'"):
        existing_file("nowhere.png")


@pytest.mark.parametrize("where", ["nowhere.png", "", "0,0,8,8.5", "-1,0,8,8", "0,0,8,9999", "0,0,8,8:-1", "0,0,8,8:"])
def test_what_is_no_box_is_the_file_of_a_mask(where: str) -> None:
    for convert in (painted, region):
        with pytest.raises(ArgumentTypeError) as told:
            convert(f"hat={where}")
        assert str(told.value).startswith(f"there is no file '{where}'; give a mask's file or LEFT,TOP,RIGHT,BOTTOM")
