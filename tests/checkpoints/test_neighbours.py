"""What a checkpoint says of neighbours: read back as written, and a sentence for what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sfumato.checkpoints.load import EMBEDDED, load
from sfumato.checkpoints.neighbours import (
    load_neighbour_tokens,
    load_training_vectors,
    save_neighbour_tokens,
    save_training_vectors,
)
from sfumato.checkpoints.safety import CheckpointError
from sfumato.encoders.joint import NeighbourTokens
from tests.tiny import write_emoji, write_sd1


def test_how_a_checkpoint_takes_neighbours(tmp_path: Path) -> None:
    emoji, sd1 = write_emoji(tmp_path / "emoji"), write_sd1(tmp_path / "sd1")
    assert load_neighbour_tokens(EMBEDDED["emoji"]) == NeighbourTokens(normalised=True, scale=384**0.5 / 2, alone=False)
    assert load_neighbour_tokens(emoji) == load(emoji).neighbours == NeighbourTokens(scale=32**0.5 / 2)
    for tokens in (NeighbourTokens(normalised=False, alone=True), NeighbourTokens(scale=0.1 + 0.2)):
        save_neighbour_tokens(emoji, tokens)
        assert load_neighbour_tokens(emoji) == load(emoji).neighbours == tokens
    assert load_neighbour_tokens(sd1) is load(sd1).neighbours is None


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"normalised": true, "scale": 1}', "[" * 100_000, '{"scale": 1, "scale": 2}'),
        '{"normalised": 1, "scale": 1, "alone": true}',
        '{"normalised": true, "scale": true, "alone": true}',
        '{"normalised": true, "scale": "1", "alone": true}',
        '{"normalised": true, "scale": NaN, "alone": true}',
        '{"normalised": true, "scale": Infinity, "alone": true}',
        '{"normalised": true, "scale": 1e999, "alone": true}',
        '{"normalised": true, "scale": -1, "alone": true}',
        '{"normalised": true, "scale": ' + "9" * 4000 + ', "alone": true}',
        '{"normalised": true, "scale": 1, "alone": true, "more": 1}',
    ],
)
def test_neighbours_json_that_cannot_be_used(tmp_path: Path, content: str) -> None:
    (tmp_path / "neighbours.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"neighbours\.json") as raised:
        load_neighbour_tokens(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_picture_encoder_without_a_width(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "config.json").write_text('{"projection_dim": "384"}')
    with pytest.raises(CheckpointError, match="no projection_dim"):
        load_neighbour_tokens(tmp_path)


def test_a_sample_of_the_training_pictures(tmp_path: Path) -> None:
    assert load_training_vectors(tmp_path) is None
    vectors = torch.randn(3000, 8, generator=torch.Generator().manual_seed(0)).half().float()
    save_training_vectors(tmp_path, vectors)
    found = load_training_vectors(tmp_path)
    assert found is not None and found.shape == (2048, 8)
    assert bool((found[:50, None] == vectors).all(2).any(1).all())
    save_training_vectors(tmp_path, vectors[:5])
    found = load_training_vectors(tmp_path)
    assert found is not None and len(found) == 5
    brought = load_training_vectors(EMBEDDED["emoji"])
    assert brought is not None and brought.shape == (2048, 384)


@pytest.mark.parametrize(
    "tensors",
    [
        {"others": torch.ones(3, 4)},
        {"vectors": torch.ones(3)},
        {"vectors": torch.ones(0, 4)},
        {"vectors": torch.zeros(3, 4)},
        {"vectors": torch.full((3, 4), torch.nan)},
        {"vectors": torch.ones(3, 4), "more": torch.ones(1)},
    ],
)
def test_training_vectors_that_cannot_be_used(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, tmp_path / "training_vectors.safetensors")
    with pytest.raises(CheckpointError, match=r"training_vectors\.safetensors"):
        load_training_vectors(tmp_path)
