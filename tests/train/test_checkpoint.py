import shutil
from pathlib import Path

import pytest
import torch

from sfumato.train import checkpoint


def write(run: Path, step: int, keep: int = 3) -> Path:
    return checkpoint.write(run, step, {"weights": {"a": torch.full((3,), float(step))}}, {"step": step}, keep)


def test_what_is_written_is_read(tmp_path: Path):
    tensors, state = checkpoint.read(write(tmp_path, 7))
    assert tensors["weights"]["a"].tolist() == [7, 7, 7]
    assert state["step"] == 7


def test_the_oldest_are_pruned(tmp_path: Path):
    for step in (1, 2, 10):
        write(tmp_path, step, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [checkpoint.name_at(2), checkpoint.name_at(10)]


def test_what_a_user_keeps_beside_is_not_counted_and_not_pruned(tmp_path: Path):
    shutil.copytree(write(tmp_path, 1), tmp_path / "checkpoint-best")
    for step in (2, 3):
        write(tmp_path, step, keep=1)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [checkpoint.name_at(3), "checkpoint-best"]
    assert checkpoint.newest(tmp_path)[0] == tmp_path / checkpoint.name_at(3)


def test_a_later_checkpoint_that_is_damaged_displaces_no_whole_one(tmp_path: Path):
    (write(tmp_path, 6) / "weights.safetensors").unlink()
    for step in (4, 5):
        assert write(tmp_path, step, keep=1) == tmp_path / checkpoint.name_at(step)
        assert checkpoint.newest(tmp_path)[0] == tmp_path / checkpoint.name_at(step)
    write(tmp_path, 6, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name_at(6)]


@pytest.mark.parametrize("manifest", ["[]", "{}", "7", '{"weights.safetensors": 3}'])
def test_a_manifest_that_is_none_is_passed_over(tmp_path: Path, manifest: str):
    (write(tmp_path, 1) / "manifest.json").write_text(manifest)
    assert checkpoint.newest(tmp_path)[0] is None


@pytest.mark.parametrize("harm", ["truncate", "delete", "flip", "manifest"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, harm: str):
    good, bad = write(tmp_path, 1), write(tmp_path, 2)
    weights = bad / "weights.safetensors"
    content = weights.read_bytes()
    match harm:
        case "truncate":
            weights.write_bytes(content[:-1])
        case "flip":
            weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "delete":
            weights.unlink()
        case _:
            (bad / "manifest.json").write_text("{")
    found, problems = checkpoint.newest(tmp_path)
    assert found == good
    assert len(problems) == 1 and bad.name in problems[0]
    with pytest.raises(ValueError, match=bad.name):
        checkpoint.read(bad)


def test_an_interrupted_write_leaves_nothing_that_counts(tmp_path: Path):
    good = write(tmp_path, 1)
    (tmp_path / ".writing-xyz").mkdir()
    (tmp_path / ".writing-xyz" / "weights.safetensors").write_bytes(b"half")
    assert checkpoint.newest(tmp_path) == (good, [])
    write(tmp_path, 2)
    assert not list(tmp_path.glob(".writing-*"))


def test_a_failed_write_harms_nothing(tmp_path: Path):
    good = write(tmp_path, 1)
    with pytest.raises(TypeError):
        checkpoint.write(tmp_path, 2, {"weights": {}}, {"step": object()}, 1)
    assert checkpoint.newest(tmp_path) == (good, [])
