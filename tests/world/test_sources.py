from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.world.packages import PACKAGES
from sfumato.world.sources import World, WorldError, fetch, open_world

_ENTRIES = [
    ("1F34E", "RED APPLE", ["apple"], "Food & Drink", 1),
    ("1F697", "AUTOMOBILE", ["car", "red_car"], "Travel & Places", 2),
    ("2764-FE0F", "HEAVY BLACK HEART", ["heart"], "Smileys & Emotion", 0),
    ("1F44B", "WAVING HAND SIGN", ["wave"], "People & Body", 3),
    ("1F3FB", "EMOJI MODIFIER FITZPATRICK TYPE-1-2", ["skin-tone-2"], "Component", 4),
]


def _table() -> str:
    return json.dumps(
        [
            {
                "unified": code, "name": name, "short_names": short, "short_name": short[0],
                "category": group, "subcategory": "some", "sort_order": order,
            }
            for code, name, short, group, order in _ENTRIES
        ]
    )  # fmt: skip


@pytest.fixture
def packages(world: World, tmp_path: Path) -> Path:
    """Unpacked packages made of sample pictures: three concepts everywhere, the heart not in 3d."""
    folders = ("img/google/64", "img/twitter/64", "assets")
    for package, folder, suffix in zip(PACKAGES, folders, ("png", "png", "webp"), strict=True):
        place = tmp_path / "packages" / package.name
        (place / folder).mkdir(parents=True)
        (place / "package.json").write_text(json.dumps({"name": package.name, "version": package.version}))
        (place / "emoji.json").write_text(_table())
        names = {"1f34e": "red apple", "1f697": "car", "1f44b": "dog", "1f44b-1f3fd": "cat", "2764-fe0f": "red heart"}
        if suffix == "webp":
            names.pop("2764-fe0f")
        for codes, name in names.items():
            picture = Image.fromarray(world.picture(world.find(name), package.style))
            picture.save(place / folder / f"{codes}.{suffix}", lossless=True)
    return tmp_path / "packages"


def test_fetch_fills_the_cache_from_a_folder(world: World, packages: Path, tmp_path: Path) -> None:
    said: list[str] = []
    target = fetch(packages, tmp_path / "cache", said.append)
    found = open_world(target)
    assert [concept.name for concept in found.concepts] == ["red heart", "red apple", "car", "waving hand"]
    assert [concept.name for concept in found.core] == ["red apple", "car"], "people are not core; the heart lacks 3d"
    assert found.find("car").names == ("car", "automobile"), "a 'red car' would contradict recolouring"
    assert found.has(0, "flat") and not found.has(0, "3d")
    for style in ("glossy", "flat", "3d"):
        change = found.picture(1, style).astype(int) - world.picture(world.find("red apple"), style)
        assert np.abs(change).mean() < 3, "a picture in normal form hardly changes"
    assert any("emoji-datasource-google" in line for line in said)


def test_fetch_names_all_that_is_missing_and_leaves_a_former_cache(packages: Path, tmp_path: Path) -> None:
    fetch(packages, tmp_path / "cache")
    before = open_world(tmp_path / "cache").digest
    with pytest.raises(WorldError) as error:
        fetch(tmp_path, tmp_path / "cache")
    assert all(package.archive in str(error.value) for package in PACKAGES)
    assert "npm pack" in str(error.value)
    assert open_world(tmp_path / "cache").digest == before


def test_fetch_refuses_broken_pictures_and_empty_packages(packages: Path, tmp_path: Path) -> None:
    apple = packages / PACKAGES[1].name / "img/twitter/64/1f34e.png"
    apple.write_bytes(b"no picture")
    with pytest.raises(WorldError, match=r"1f34e\.png in .* is no picture"):
        fetch(packages, tmp_path / "cache")
    for file in apple.parent.iterdir():
        file.unlink()
    with pytest.raises(WorldError, match="holds no pictures of the flat family"):
        fetch(packages, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_fetch_without_npm_tells_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WorldError, match="give the folder with the three files"):
        fetch(cache=tmp_path / "cache")
