"""The guide beside a checkpoint: found by its folder, checked like any part, locked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfumato.checkpoints.load import load, load_guide
from sfumato.checkpoints.safety import CheckpointError
from sfumato.core.noise import Noise
from sfumato.core.schedules import CosineSchedule
from tests.tiny import tiny_guide, write_emoji

X, LEVEL = Noise([1, 2])((2, 4, 16, 16)), CosineSchedule().at(torch.tensor(300.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint with a guide, to spoil."""
    write_emoji(tmp_path / "emoji")
    tiny_guide().save_pretrained(tmp_path / "emoji" / "guide")
    return tmp_path / "emoji"


def spoil(folder: Path, **changes: Any) -> None:
    path = folder / "guide/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(folder: Path, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence) as raised:
        load_guide(folder)
    assert "\n" not in str(raised.value)


def test_a_guide_is_loaded_locked(folder: Path) -> None:
    guide, plain = load_guide(folder), tiny_guide()
    assert guide is not None and not guide.training
    assert not any(weight.requires_grad or weight.is_meta for weight in guide.parameters())
    assert torch.equal(guide(X, LEVEL).sentence, plain(X, LEVEL).sentence)
    assert guide.words == plain.words
    assert load(folder).size == (32, 32), "the other parts load as before"


def test_half_precision_files_and_weights(folder: Path) -> None:
    tiny_guide().half().save_pretrained(folder / "guide")
    guide, half = load_guide(folder), load_guide(folder, torch.bfloat16)
    assert guide is not None and {weight.dtype for weight in guide.parameters()} == {torch.float32}
    assert half is not None and {weight.dtype for weight in half.parameters()} == {torch.bfloat16}


def test_a_checkpoint_without_a_guide_has_none(tmp_path: Path) -> None:
    assert load_guide(write_emoji(tmp_path / "emoji")) is None
    with pytest.raises(CheckpointError, match="there is no folder"):
        load_guide(tmp_path / "nothing")


@pytest.mark.parametrize("kind", ["UNet2DConditionModel", None, ["Guide"]])
def test_another_class(folder: Path, kind: Any) -> None:
    spoil(folder, _class_name=kind)
    refused(folder, "guide is of the class .*; known are Guide")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"words": {"concept": ["cat"] * 3, "style": ["flat", "3d"]}}, "occurs twice"),
        ({"words": {f"list{n}": ["a"] for n in range(99)}}, "1 to 16 lists"),
        ({"words": {"concept": ["x" * 10_000]}}, "1 to 100 letters"),
        ({"words": {"concept": ["\x1b[2J"]}}, "printable"),
        ({"words": {"keys": ["cat"]}}, "describes no Guide"),
        ({"words": 7}, "1 to 16 lists"),
        ({"block_out_channels": []}, "describes no Guide"),
        ({"block_out_channels": [8, 2**60]}, "describes no Guide"),
        ({"norm_num_groups": 3}, "describes no Guide"),
        ({"sentence_width": "wide"}, "describes no Guide"),
        ({"block_out_channels": [8, 16]}, "guide holds .*, which its config.json does not know"),
        (
            {"words": {"concept": ["cat", "dog"], "style": ["flat", "3d"]}},
            r"in another shape .*: \[3, 16\] instead of \[2",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_that_describe_no_such_guide(folder: Path, changes: dict[str, Any], sentence: str) -> None:
    spoil(folder, **changes)
    refused(folder, sentence)


def test_missing_files_and_tensors(folder: Path) -> None:
    weights = folder / "guide/diffusion_pytorch_model.safetensors"
    save_file({name: value for name, value in load_file(weights).items() if name != "conv_in.bias"}, weights)
    refused(folder, "guide lacks 'conv_in.bias'")
    weights.write_bytes(b"PK\x03\x04 a pickle")
    refused(folder, "is a pickle under a safetensors name")
    weights.unlink()
    refused(folder, "guide has no weights")
    (folder / "guide/config.json").unlink()
    refused(folder, "config.json is missing")
