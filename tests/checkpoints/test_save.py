"""Round trips: what is saved is opened by diffusers and by us, and makes the same pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from sfumato.checkpoints.load import Parts, load
from sfumato.checkpoints.save import save
from tests.parts import made
from tests.tiny import write_emoji, write_sd1, write_sd2, write_sdxl


def picture(parts: Parts) -> torch.Tensor:
    return made(parts, ["a red hat"], [5], steps=2, guidance=5.0)


@pytest.mark.parametrize("write", [write_sd1, write_sd2, write_sdxl, write_emoji])
def test_saved_and_loaded_again(write: Callable[[Path], Path], tmp_path: Path) -> None:
    parts = load(write(tmp_path / "first"))
    folder = save(parts, tmp_path / "second")
    again = load(folder)
    assert torch.equal(picture(again), picture(parts))
    assert dict(again.scheduler) == dict(parts.scheduler)
    assert not list(folder.rglob("*.bin")) and (folder / "model_index.json").is_file()


@pytest.mark.parametrize("write", [write_sd1, write_sd2, write_sdxl])
def test_diffusers_opens_it(write: Callable[[Path], Path], tmp_path: Path) -> None:
    parts = load(write(tmp_path / "first"))
    folder = save(parts, tmp_path / "second")
    kind = "StableDiffusionXLPipeline" if write is write_sdxl else "StableDiffusionPipeline"
    pipelines = [DiffusionPipeline.from_pretrained(path) for path in (tmp_path / "first", folder)]
    assert [type(pipeline).__name__ for pipeline in pipelines] == [kind, kind]
    pictures = []
    for pipeline in pipelines:
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(5)
        pictures.append(pipeline("a red hat", num_inference_steps=2, generator=generator, output_type="pt").images)
    assert torch.equal(*pictures)


def test_shards_and_dtype(tmp_path: Path) -> None:
    parts = load(write_emoji(tmp_path / "first"))
    folder = save(parts, tmp_path / "second", dtype=torch.float16, shard_size="100KB")
    shards = list((folder / "unet").glob("*.safetensors"))
    assert len(shards) > 2 and max(shard.stat().st_size for shard in shards) < 200_000
    assert parts.network.dtype == torch.float32
    torch.testing.assert_close(picture(load(folder)), picture(parts), rtol=0, atol=0.02)


def test_a_folder_is_never_written_over(tmp_path: Path) -> None:
    parts = load(write_emoji(tmp_path / "first"))
    with pytest.raises(FileExistsError, match="never written over"):
        save(parts, tmp_path / "first")


def test_nothing_stays_of_a_failure(tmp_path: Path) -> None:
    parts = load(write_emoji(tmp_path / "first"))
    with pytest.raises(ValueError, match="many"):
        save(parts, tmp_path / "second", shard_size="many")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are told from /proc")
def test_files_folders_and_the_new_name_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    really = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        really(descriptor)

    parts = load(write_emoji(tmp_path / "first"))
    monkeypatch.setattr("os.fsync", watched)
    folder = save(parts, tmp_path / "second")
    *within, last = synced
    assert last == tmp_path and within[-1].parent == tmp_path and within[-1].name.startswith(".second-")
    found = {path.relative_to(within[-1]) for path in within}
    assert found == {path.relative_to(folder) for path in (folder, *folder.rglob("*"))}
