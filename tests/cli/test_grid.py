"""``sfumato grid``: cells with recipes, one labelled sheet, and going on after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.conftest import Typed


@pytest.fixture
def grid(sfumato: Typed, sd1: Path, tmp_path: Path) -> Typed:
    """``sfumato grid`` of a cat with the tiny model, two steps and one thread."""

    def run(*words: object) -> Any:
        flags = ["--model", sd1, "--steps", 2, "--threads", 1, "--dtype", "float32", "-o", tmp_path]
        return sfumato("grid", "a cat", *flags, *words)

    return run


def cells(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of each cell."""
    found = sorted((folder / "a-cat-cells").iterdir())
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def test_each_cell_is_the_picture_of_its_settings(grid: Typed, sfumato: Typed, sd1: Path, tmp_path: Path) -> None:
    told = grid("--x", "guidance=1,6", "--y", "steps=2,3", "--json")
    assert told.code == 0
    assert [Path(path).name for path in told.objects[0]["cells"]] == [
        "steps-2-guidance-1.png",
        "steps-2-guidance-6.png",
        "steps-3-guidance-1.png",
        "steps-3-guidance-6.png",
    ]
    words = ("--seed", 0, "--steps", 3, "--guidance", 6, "--model", sd1, "--threads", 1, "--dtype", "float32")
    assert sfumato("generate", "a cat", *words, "-o", tmp_path).code == 0
    made = (tmp_path / "a-cat-0000.png").read_bytes()
    assert cells(tmp_path)["steps-3-guidance-6.png"][0] == made
    with Image.open(tmp_path / "a-cat-grid-0000.png") as sheet:
        assert sheet.width > 2 * 32 and sheet.height > 2 * 32


def test_a_cell_that_is_there_is_not_made_again(grid: Typed, tmp_path: Path) -> None:
    assert grid("--x", "guidance=1,6").code == 0
    before = cells(tmp_path)
    (tmp_path / "a-cat-cells" / "guidance-6.png").unlink()
    (tmp_path / "a-cat-cells" / ".half-written.part").write_bytes(b"")
    assert grid("--x", "guidance=1,6,9").code == 0
    after = cells(tmp_path)
    assert after["guidance-1.png"] == before["guidance-1.png"]
    assert after["guidance-6.png"][0] == before["guidance-6.png"][0]
    assert "guidance-9.png" in after


def test_a_cell_of_another_recipe_stays_and_force_replaces_it(grid: Typed, tmp_path: Path) -> None:
    assert grid("--x", "guidance=1,6").code == 0
    before = cells(tmp_path)
    told = grid("--x", "guidance=1,6", "--negative", "blurry", "--json")
    more = cells(tmp_path)
    assert told.code == 0 and len(more) == 4 and before.items() <= more.items()
    names = [Path(path).name for path in told.objects[0]["cells"]]
    assert not set(names) & set(before) and all(
        name.startswith(f"guidance-{g}-") for name, g in zip(names, (1, 6), strict=True)
    )
    assert grid("--x", "guidance=1,6", "--negative", "blurry").code == 0 and cells(tmp_path) == more
    assert grid("--x", "guidance=1,6", "--negative", "dull", "--force").code == 0
    forced = cells(tmp_path)
    assert forced.keys() == more.keys() and forced["guidance-6.png"][0] != before["guidance-6.png"][0]


def test_long_values_are_cells_of_their_own(grid: Typed, tmp_path: Path) -> None:
    long = "a small red car that stands beside a very large and very old green tree on a hill by the sea"
    assert grid("--x", f"prompt={long}|{long} at night").code == 0
    assert len(cells(tmp_path)) == 2


def test_prompts_lists_and_three_axes(grid: Typed, tmp_path: Path) -> None:
    assert grid("--x", "prompt=a cat|a dog, a hat", "--y", "seed=1,2", "--z", "scheduler=ddim,euler_a").code == 0
    assert len(cells(tmp_path)) == 8
    assert grid("--x", "and=a dog:1|a hat:0.5").code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "something is missing: --x"),
        (("--x", "guidance"), "an axis needs NAME=VALUE,VALUE"),
        (("--x", "guidence=1,2"), "no setting 'guidence' for an axis; did you mean 'guidance'"),
        (("--x", "output=a,b"), "no setting 'output' for an axis"),
        (("--x", "threads=1,2"), "no setting 'threads' for an axis"),
        (("--x", "guidance=1,1"), "has a value twice"),
        (("--x", "guidance=1,2", "--y", "guidance=3,4"), "two axes change the same setting"),
        (("--x", "steps=1,many"), "--steps: needs a whole number"),
        (("--x", "steps=1,2", "--count", 3), "no flag --count"),
        (("--x", "steps=1,2", "--no-metadata"), "a cell is one picture"),
        (("--x", "steps=1,2", "--structure", "--show-parse"), "a cell is one picture"),
    ],
)
def test_wrong_axes_get_a_sentence(grid: Typed, tmp_path: Path, words: tuple[object, ...], sentence: str) -> None:
    told = grid(*words)
    assert told.code == 2
    assert sentence in told.err
    assert list(tmp_path.iterdir()) == []
