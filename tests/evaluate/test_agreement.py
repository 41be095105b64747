from __future__ import annotations

import math

import pytest
import torch

from sfumato.evaluate.agreement import (
    clip_score,
    clipscore,
    cosine,
    directional_similarity,
    r_precision,
    ref_clipscore,
)

EAST, NORTH = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])


def rows(*vectors: torch.Tensor) -> torch.Tensor:
    return torch.stack(vectors)


def test_identical_directions_give_the_top_of_each_scaling() -> None:
    images, texts = rows(EAST, NORTH), rows(3 * EAST, 0.1 * NORTH)
    assert cosine(images, texts).tolist() == [1, 1]
    assert clip_score(images, texts) == 100
    assert clipscore(images, texts).tolist() == [2.5, 2.5]


def test_the_place_of_the_floor() -> None:
    images, texts = rows(EAST, NORTH), rows(EAST, -NORTH)
    assert clip_score(images, texts) == 0
    assert clip_score(rows(EAST, EAST, NORTH), rows(EAST, EAST, -NORTH)) == pytest.approx(100 / 3)
    assert clipscore(images, texts).tolist() == [2.5, 0]
    assert clip_score(rows(EAST), rows(-EAST)) == 0


def test_pairs_are_compared_not_all_with_all() -> None:
    assert cosine(rows(EAST, NORTH), rows(NORTH, EAST)).tolist() == [0, 0]


def test_ref_clipscore_by_hand() -> None:
    image, text = rows(torch.tensor([1.0, 1.0])), rows(EAST)
    references = torch.stack([rows(NORTH, torch.tensor([1.0, math.sqrt(3)]))])
    a, b = 2.5 / math.sqrt(2), 0.5
    assert ref_clipscore(image, text, references).item() == pytest.approx(2 * a * b / (a + b))
    assert ref_clipscore(image, text, -references).item() == 0


def test_r_precision_counts_a_tie_as_a_miss() -> None:
    images, texts = rows(EAST, EAST), rows(EAST, EAST)
    distractors = torch.stack([rows(NORTH, -EAST), rows(NORTH, 2 * EAST)])
    assert r_precision(images, texts, distractors) == 0.5


def test_direction_of_an_edit() -> None:
    turned = directional_similarity(rows(EAST, EAST), rows(NORTH, NORTH), rows(EAST, NORTH), rows(NORTH, EAST))
    assert turned.tolist() == pytest.approx([1, -1])
    assert directional_similarity(rows(EAST), rows(EAST), rows(EAST), rows(NORTH)).item() == 0
    longer = directional_similarity(rows(EAST), 10 * rows(NORTH), rows(EAST), rows(NORTH))
    assert longer.item() == pytest.approx(1), "lengths do not count"


def test_clear_errors() -> None:
    with pytest.raises(ValueError, match=r"two \(B, D\)"):
        cosine(rows(EAST), rows(EAST, NORTH))
    with pytest.raises(ValueError, match="references"):
        ref_clipscore(rows(EAST), rows(EAST), rows(EAST))
    with pytest.raises(ValueError, match="distractors"):
        r_precision(rows(EAST), rows(EAST), rows(EAST))
    with pytest.raises(ValueError, match="four"):
        directional_similarity(rows(EAST), rows(EAST), rows(EAST), rows(EAST, EAST))
