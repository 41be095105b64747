"""The real scenes that sets are compared with: none of them is a copy, so that no set is compared with itself."""

from __future__ import annotations

import pytest
import torch

from sfumato.evaluate.intervals import Interval
from sfumato.evaluate.judge import Judge
from sfumato.evaluate.precision_recall import precision_recall, recall_interval
from sfumato.evaluate.reference import distances, other_scenes
from sfumato.evaluate.world_score import real_pictures, reference_of_world
from sfumato.world.scene import compose
from sfumato.world.splits import evaluation_prompts
from sfumato.world.store import World


def test_no_reference_scene_has_the_picture_of_another_or_of_a_scored_one(world: World, judge: Judge) -> None:
    prompts = evaluation_prompts(world, 60)
    scored = judge.coordinates(judge.features(real_pictures(world, prompts[:30])))
    further = judge.coordinates(judge.features(real_pictures(world, prompts[30:])))
    reference = reference_of_world(world, judge, 30, 30)
    assert (torch.cdist(scored, further) < 1e-4).any()  # other words, same drawing: what is left out
    assert 10 < len(reference) < 30 and reference.shape[1] == scored.shape[1]
    assert (torch.cdist(reference, scored) > 1e-4).all()
    apart = torch.cdist(reference, reference)
    assert (apart[~torch.eye(len(reference), dtype=torch.bool)] > 1e-4).all()


def test_scenes_come_in_their_order_until_there_are_enough(world: World) -> None:
    first, second, third = (compose(world, prompt.spec) for prompt in evaluation_prompts(world, 3))
    scenes = [first, second, first, third]
    assert other_scenes(scenes, 2) == [first, second]
    assert other_scenes(scenes, 9, shown=[second]) == [first, third]
    assert other_scenes(iter(scenes), 3) == [first, second, third]


def test_distances_of_a_set_have_intervals_of_the_set() -> None:
    generator = torch.Generator().manual_seed(0)
    reference, found = torch.randn(200, 4, generator=generator), 0.7 * torch.randn(60, 4, generator=generator)
    table = distances(found, reference)
    assert list(table) == ["Fréchet distance", "kernel distance x 1000", "precision", "recall"]
    assert table["recall"] == recall_interval(reference, found)
    precision = table["precision"]
    assert isinstance(precision, Interval) and precision.count == 60
    assert precision.value == pytest.approx(precision_recall(reference, found).precision)
