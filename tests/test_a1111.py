from __future__ import annotations

import time

import pytest

from sfumato.a1111 import SAMPLERS, Written, foreign, join, short_name, split
from sfumato.samplers.names import SHORT_NAMES

TEXT = """a cat, (sitting:1.2)
on a mat
Negative prompt: blurry,
ugly
Steps: 30, Sampler: Euler a, CFG scale: 7.5, Seed: 42, Size: 512x768, Model: "a, \\"b\\": c", Version: v1.9"""


def test_split_as_the_web_interface_writes() -> None:
    written = split(TEXT)
    assert written.prompt == "a cat, (sitting:1.2)\non a mat"
    assert written.negative == "blurry,\nugly"
    assert written.settings["Sampler"] == "Euler a"
    assert written.settings["Model"] == 'a, "b": c'
    assert written.after == ""


def test_join_and_split_are_inverse() -> None:
    assert join(split(TEXT)) == TEXT
    assert split(join(Written("x", "", {"Steps": "1", "Seed": "2", "Empty": ""}))).settings == {
        "Steps": "1",
        "Seed": "2",
    }


def test_the_last_settings_line_counts() -> None:
    written = split("Steps: 1, Seed: 1\nSteps: 2, Seed: 2\nTemplate: x")
    assert written.prompt == "Steps: 1, Seed: 1"
    assert written.settings == {"Steps": "2", "Seed": "2"}
    assert written.after == "Template: x"


def test_without_settings_it_is_refused() -> None:
    with pytest.raises(ValueError, match="Steps:"):
        split("just a prompt")


@pytest.mark.parametrize("line", ["Steps: " + " " * 60_000, "Steps: 1" + ', a: "' * 10_000, "Steps:" * 10_000])
def test_hostile_lines_take_no_time(line: str) -> None:
    begun = time.perf_counter()
    split(line)
    assert time.perf_counter() - begun < 2


def test_names_of_samplers() -> None:
    assert short_name("dpm++ 2m") == ("dpmpp_2m", "")
    assert short_name("DPM++ 2M Karras") == ("dpmpp_2m", "Karras")
    assert short_name("DPM++ SDE") == (None, "")
    assert short_name("DPM++ SDE Karras") == (None, "Karras")


def test_what_another_program_reads_in_a_prompt() -> None:
    prompt = "a (red:1.3) cat <lora:film:0.8>, (at 10:30), 16:9 (plain)"
    assert foreign(prompt) == ["(red:1.3)", "<lora:film:0.8>", "(at 10:30)"]
    assert foreign("(" * 100_000) == [] and foreign("<lora:" * 10_000) == []


def test_the_command_line_offers_the_samplers_that_there_are() -> None:
    """SAMPLERS repeats the short names where torch must not be imported."""
    assert set(SAMPLERS) == set(SHORT_NAMES)
