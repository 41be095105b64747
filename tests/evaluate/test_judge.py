"""The judge over plain pixel features instead of a network's: its arithmetic, files and scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sfumato.evaluate import train_judge as train_judge_module
from sfumato.evaluate.judge import Judge, load_judge, save_judge
from sfumato.evaluate.train_judge import JudgeConfig, judge_folder, judge_of_world, train_judge
from sfumato.evaluate.world_score import judge_pictures, real_pictures, score, shares
from sfumato.world.splits import evaluation_prompts
from sfumato.world.store import World
from tests.evaluate.conftest import pixels


def test_it_knows_real_scenes_and_says_how_well(judge: Judge) -> None:
    # Pixels are a poor stand-in for features; chance is 1 in 24 for concepts and 1 in 5 for layouts.
    assert judge.accuracy["concept top-1"].value > 0.4
    assert judge.accuracy["concept top-5"].value >= judge.accuracy["concept top-1"].value
    assert judge.accuracy["colour"].value > 0.85
    assert judge.accuracy["layout"].value > 0.75


def test_it_is_the_same_from_the_same_seed_and_after_a_round_trip(world: World, judge: Judge, tmp_path: Path) -> None:
    again = train_judge(world, pixels, JudgeConfig(rounds=6, components=16))
    torch.testing.assert_close(again.drawing.weight, judge.drawing.weight, rtol=0, atol=0)
    save_judge(judge, tmp_path / "judge")
    loaded = load_judge(tmp_path / "judge", pixels)
    torch.testing.assert_close(loaded.drawing.weight, judge.drawing.weight, rtol=0, atol=0)
    assert loaded.accuracy == judge.accuracy and loaded.concepts == judge.concepts
    assert loaded.settings == judge.settings
    assert sorted(path.name for path in tmp_path.iterdir()) == ["judge"]


def test_of_two_that_are_fitted_at_a_time_the_first_stays(judge: Judge, tmp_path: Path) -> None:
    folder = tmp_path / "judge"
    save_judge(judge, folder)
    save_judge(replace(judge, settings={"seed": 7}), folder)
    assert load_judge(folder, pixels).settings == judge.settings
    assert [path.name for path in tmp_path.iterdir()] == ["judge"]
    (folder / "judge.json").write_text("{}")
    with pytest.raises(OSError):
        save_judge(judge, folder)


def test_a_judge_that_another_process_finishes_first_is_used(
    world: World, judge: Judge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(train_judge_module, "imagenet_features", lambda size: pixels)
    config = JudgeConfig(rounds=6, components=16)

    def fitted(*_: object) -> Judge:
        save_judge(replace(judge, settings={"by": "another"}), judge_folder(world, config))
        return judge

    monkeypatch.setattr(train_judge_module, "train_judge", fitted)
    assert judge_of_world(world, config).settings == {"by": "another"}


def test_the_folder_depends_on_data_and_settings(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    plain = judge_folder(world, JudgeConfig())
    assert plain == judge_folder(world, JudgeConfig()) and plain.parent == tmp_path
    assert plain != judge_folder(world, JudgeConfig(rounds=9))


def test_posteriors_sum_to_one_and_styles_follow(world: World, judge: Judge) -> None:
    prompts = [p for p in evaluation_prompts(world, 40) if len(p.spec.objects) == 1]
    features = pixels(real_pictures(world, prompts))
    total = judge.drawings(features).exp().sum((1, 2))
    torch.testing.assert_close(total, torch.ones(len(prompts)), rtol=1e-3, atol=1e-3)
    right = [found == prompt.spec.style for found, prompt in zip(judge.styles(features), prompts, strict=True)]
    assert sum(right) > 0.5 * len(right)


def test_real_pictures_score_high_shuffled_ones_low(world: World, judge: Judge) -> None:
    prompts = evaluation_prompts(world, 60)
    images = real_pictures(world, prompts)
    good = shares(judge_pictures(images, prompts, judge))
    bad = shares(judge_pictures(images.roll(7, 0), prompts, judge))
    for measure in ("concept top-1", "concept top-5", "colour", "both things", "both things with their colours"):
        assert good[measure].value > bad[measure].value + 0.3, measure
    assert good["number of things"].value > 0.75
    assert good["concept top-1"].count + good["both things"].count == 60


def test_a_pair_may_swap_places_only_where_the_prompt_allows_it(world: World, judge: Judge) -> None:
    prompts = [p for p in evaluation_prompts(world, 60) if len(p.spec.objects) == 2]
    flipped = real_pictures(world, prompts)
    swapped = torch.cat([flipped[..., 32:], flipped[..., :32]], dim=3)
    found = judge_pictures(swapped, prompts, judge)
    straight = judge_pictures(flipped, prompts, judge)
    free = [i for i, p in enumerate(prompts) if p.spec.relation == "and"]
    bound = [i for i, p in enumerate(prompts) if p.spec.relation == "left of"]
    assert free and bound
    assert [found[i].both for i in free] == [straight[i].both for i in free]
    assert any(straight[i].both for i in bound) and not any(found[i].both for i in bound)


def test_real_pictures_are_nearer_to_real_ones_than_half_noise_and_that_than_noise(world: World, judge: Judge) -> None:
    prompts = evaluation_prompts(world, 40)
    real = real_pictures(world, prompts)
    other = real_pictures(world, evaluation_prompts(world, 75)[40:])
    reference = judge.coordinates(pixels(other))
    noise = torch.rand(real.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tables = [score(images, prompts, judge, reference) for images in (real, 0.4 * real + 0.6 * noise, noise)]
    distances = [table["Fréchet distance"].value for table in tables]  # type: ignore[union-attr]
    assert distances == sorted(distances)
    tops = [table["concept top-5"].value for table in tables]  # type: ignore[union-attr]
    assert tops[0] > tops[2] + 0.3
    with_words = score(real, prompts, judge, reference, lambda images, texts: torch.full((len(texts),), 0.25))
    assert with_words["pictures-words cosine"].value == 0.25  # type: ignore[union-attr]
    assert "pictures-words cosine" not in tables[0]


def test_clear_errors(world: World, judge: Judge) -> None:
    with pytest.raises(ValueError, match="needs 20 pictures"):
        judge_pictures(torch.zeros(3, 3, 64, 64), evaluation_prompts(world, 20), judge)
    with pytest.raises(ValueError, match="rounds"):
        JudgeConfig(rounds=0)
