from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.cli.conftest import Typed


def test_show_writes_a_contact_sheet(sfumato: Typed, tmp_path: Path) -> None:
    told = sfumato("world", "show", "--cache", "sample", "--count", 4, "-o", tmp_path, "--json")
    assert told.code == 0
    path = Path(told.objects[0]["path"])
    assert path == tmp_path / "scenes-0000.png"
    assert told.err == f"{path}\n"
    with Image.open(path) as sheet:
        assert sheet.width > 4 * 64


def test_show_keeps_what_is_there_unless_forced(sfumato: Typed, tmp_path: Path) -> None:
    for seed in (1, 2):
        assert sfumato("world", "show", "--cache", "sample", "--count", 1, "--seed", seed, "-o", tmp_path).code == 0
    first, second = ((tmp_path / f"scenes-000{i}.png").read_bytes() for i in range(2))
    assert first != second
    words = ("--count", 1, "--seed", 2, "-o", tmp_path, "--force", "--quiet")
    told = sfumato("world", "show", "--cache", "sample", *words)
    assert (told.code, told.err) == (0, "")
    assert (tmp_path / "scenes-0000.png").read_bytes() == second


def test_without_pictures_the_remedy_is_named(sfumato: Typed, tmp_path: Path) -> None:
    told = sfumato("world", "show", "--cache", tmp_path / "nowhere", "-o", tmp_path)
    assert told.code == 1
    assert "`sfumato world fetch`" in told.err
    assert told.err.count("\n") == 1


def test_fetch_from_an_empty_folder_names_all_that_is_missing(sfumato: Typed, tmp_path: Path) -> None:
    told = sfumato("world", "fetch", tmp_path, "--cache", tmp_path / "cache", "--quiet")
    assert told.code == 1
    for package in ("emoji-datasource-google", "emoji-datasource-twitter", "fluent-emoji-3d"):
        assert package in told.err
    assert "Traceback" not in told.err
    assert not (tmp_path / "cache").exists()


def test_wrong_words(sfumato: Typed, tmp_path: Path) -> None:
    for words in (["--count", 0], ["--seed", -1], ["--vocabulary", "all"]):
        assert sfumato("world", "show", *words, "-o", tmp_path).code == 2
    assert sfumato("world").code == 2
