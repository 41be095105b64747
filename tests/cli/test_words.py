from __future__ import annotations

import pytest

from sfumato.cli.words import did_you_mean, nearest, printable

SCHEDULERS = ["ddim", "dpmpp_2m", "euler", "euler_a", "heun", "lcm", "unipc"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [("dpm++", "dpmpp_2m"), ("DPM++ 2M", "dpmpp_2m"), ("eular", "euler"), ("ddm", "ddim"), ("uni-pc", "unipc")],
)
def test_nearest_puts_what_was_meant_first(word: str, meant: str) -> None:
    assert nearest(word, SCHEDULERS)[0] == meant


def test_what_is_like_nothing_gets_the_whole_list() -> None:
    assert nearest("zzzz", SCHEDULERS) == []
    assert did_you_mean("zzzz", SCHEDULERS) == "; there are ddim, dpmpp_2m, euler, euler_a, heun, lcm, unipc"
    assert did_you_mean("zzzz", ["emoji"]) == "; there is emoji"
    assert did_you_mean("zzzz", []) == ""


def test_alternatives_read_as_a_sentence() -> None:
    assert did_you_mean("euler_", ["euler", "euler_a", "heun"]) == "; did you mean 'euler' or 'euler_a'?"


def test_a_very_long_word_is_answered_at_once() -> None:
    assert nearest("x" * 1_000_000, SCHEDULERS) == []


def test_printable_escapes_what_steers_a_terminal() -> None:
    assert printable("a\x1b[31mb\n\u202ec é") == r"a\x1b[31mb\n\u202ec é"
