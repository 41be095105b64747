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
