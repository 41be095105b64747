from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from PIL import Image

from sfumato.cli.files import OutputError, next_index, picture_bytes, prepare_folder, save_numbered, slug, write_whole


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red apple!", "a-red-apple"),
        ("../../etc/passwd", "etc-passwd"),
        ("  ...  ", "picture"),
        ("", "picture"),
        ("猫と犬", "猫と犬"),
        ("a\x00b\nc", "a-b-c"),
        ("snake_case", "snake-case"),
    ],
)
def test_slug(prompt: str, name: str) -> None:
    assert slug(prompt) == name


@pytest.mark.parametrize("prompt", ["word " * 1000, "é" * 500, "猫" * 500])
def test_a_slug_is_short_enough_for_any_file_system(prompt: str) -> None:
    assert 0 < len(slug(prompt).encode()) <= 80


def test_numbers_go_on_after_the_largest(tmp_path: Path) -> None:
    assert next_index(tmp_path, "cat") == 0
    for name in ("cat-0000.png", "cat-0007.png", "cat-x.png", "cats-0100.png", "cat-grid-0050.png", "cat-0009.txt"):
        (tmp_path / name).touch()
    assert next_index(tmp_path, "cat") == 8


def test_nothing_existing_is_overwritten_without_force(tmp_path: Path) -> None:
    (tmp_path / "cat-0000.png").write_bytes(b"old")
    assert save_numbered(b"new", tmp_path, "cat", 0, force=False) == tmp_path / "cat-0001.png"
    assert (tmp_path / "cat-0000.png").read_bytes() == b"old"
    assert save_numbered(b"new", tmp_path, "cat", 0, force=True) == tmp_path / "cat-0000.png"
    assert (tmp_path / "cat-0000.png").read_bytes() == b"new"


def test_writing_leaves_no_partial_files_and_usual_permissions(tmp_path: Path) -> None:
    write_whole(b"content", tmp_path / "a", replace=False)
    with pytest.raises(FileExistsError):
        write_whole(b"other", tmp_path / "a", replace=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"content"
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def test_a_lost_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        save_numbered(b"x", tmp_path / "gone", "cat", 0, force=False)


def test_prepare_folder(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file, not a folder"):
        prepare_folder(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot write into"):
        prepare_folder(tmp_path / "file" / "below")


def test_picture_bytes_carry_their_texts() -> None:
    import io

    content = picture_bytes(Image.new("RGB", (4, 4), "red"), {"parameters": "a caf\u00e9", "other": "\u732b"})
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        assert picture.info == {"parameters": "a caf\u00e9", "other": "\u732b"}
        assert picture.getpixel((0, 0)) == (255, 0, 0)
