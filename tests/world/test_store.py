from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sfumato.world.store import STYLES, World, WorldError, cache_path, open_world, save_world, subset


def test_the_sample_has_every_concept_in_every_style(world: World) -> None:
    assert len(world.concepts) == 24 == len(world.core)
    for concept in world.concepts:
        assert world.concepts[concept.index] is concept
        for style in STYLES:
            picture = world.picture(concept, style)
            assert picture.shape == (64, 64, 4) and picture.dtype == np.uint8
            assert not picture.flags.writeable
            assert not picture[picture[..., 3] == 0].any()


def test_pictures_are_centred_and_fill_the_square(world: World) -> None:
    for style in STYLES:
        for concept in world.concepts:
            solid = world.picture(concept, style)[..., 3] > 8
            rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
            assert max(np.ptp(rows), np.ptp(columns)) + 1 in (59, 60)
            assert abs(rows[0] - (63 - rows[-1])) <= 2 and abs(columns[0] - (63 - columns[-1])) <= 2


def test_find_knows_names_aliases_and_keys(world: World) -> None:
    assert world.find("Car") == world.find("automobile")
    assert world.find("red-apple").name == "red apple"
    with pytest.raises(KeyError, match="did you mean.*rocket"):
        world.find("rockt")


def test_missing_styles_and_pictures_are_named(world: World) -> None:
    with pytest.raises(KeyError, match="no style 'oil'; there are glossy, flat, 3d"):
        world.picture(0, "oil")
    bare = World(world.concepts, {**world.rows, "3d": np.full(24, -1)}, world.pictures)
    assert not bare.has(0, "3d") and bare.has(0, "flat")
    with pytest.raises(KeyError, match="3d family has no picture of 'red apple'"):
        bare.picture(world.find("red apple"), "3d")


def test_save_and_open_are_inverse_and_replace_what_was_there(world: World, tmp_path: Path) -> None:
    small = subset(world, ["rocket", "car"])
    save_world(world, tmp_path / "cache")
    save_world(small, tmp_path / "cache")
    again = open_world(tmp_path / "cache")
    assert again.concepts == small.concepts and again.digest == small.digest != world.digest
    assert [concept.name for concept in again.concepts] == ["rocket", "car"]
    assert np.array_equal(again.picture(1, "flat"), world.picture(world.find("car"), "flat"))
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_folder_of_other_things_is_not_replaced(world: World, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(WorldError, match=r"is no cache of emoji pictures \(thesis.txt\); name a new folder"):
        save_world(world, tmp_path)
    with pytest.raises(WorldError, match=r"is no cache of emoji pictures \(a file\)"):
        save_world(world, tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "years"


def test_a_family_that_does_not_fit_is_told(world: World, tmp_path: Path) -> None:
    save_world(subset(world, ["rocket"]), tmp_path / "cache")
    small = np.zeros((1, 8, 8, 4), np.uint8)
    for changes in ({"pictures": small}, {"rows": np.array([0, 0])}, {"rows": np.array([7])}):
        with np.load(tmp_path / "cache" / "flat.npz") as family:
            held = dict(family)
        save_world(subset(world, ["rocket"]), tmp_path / "harmed")
        np.savez(tmp_path / "harmed" / "flat.npz", **{**held, **changes})
        with pytest.raises(WorldError, match="do not fit 1 concepts"):
            open_world(tmp_path / "harmed")
    whole = (tmp_path / "cache" / "flat.npz").read_bytes()
    (tmp_path / "cache" / "flat.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WorldError, match="damaged"):
        open_world(tmp_path / "cache")


def test_an_absent_cache_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="sfumato world fetch"):
        open_world(tmp_path)


@pytest.mark.parametrize("file", ["concepts.json", "flat.npz"])
def test_a_damaged_cache_is_told(world: World, tmp_path: Path, file: str) -> None:
    save_world(subset(world, ["rocket"]), tmp_path / "cache")
    (tmp_path / "cache" / file).write_bytes(b"not what it was")
    with pytest.raises(WorldError, match="damaged"):
        open_world(tmp_path / "cache")


def test_another_format_is_refused(world: World, tmp_path: Path) -> None:
    save_world(subset(world, ["rocket"]), tmp_path / "cache")
    table = tmp_path / "cache" / "concepts.json"
    table.write_text(json.dumps({**json.loads(table.read_text()), "format": 99}))
    with pytest.raises(WorldError, match="format 99"):
        open_world(tmp_path / "cache")


def test_the_cache_lies_where_the_environment_says(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    assert cache_path().parent == tmp_path
    save_world(subset(world, ["rocket"]), cache_path())
    assert open_world().concepts[0].name == "rocket"
    shutil.rmtree(cache_path())
    with pytest.raises(WorldError):
        open_world()


def test_the_sample_is_small_and_licensed() -> None:
    folder = Path(open_world.__code__.co_filename).parent / "sample"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 400_000
    text = (folder / "LICENSES.md").read_text(encoding="utf-8")
    assert all(licence in text for licence in ("Apache-2.0", "CC-BY-4.0", "MIT", "Twitter"))
