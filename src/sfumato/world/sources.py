"""The emoji families: filling the cache of their pictures, and opening it.

| style word | family | licence | use |
|---|---|---|---|
| glossy | Noto Emoji | Apache-2.0 | training |
| flat | Twemoji | CC-BY-4.0 | training |
| 3d | Fluent Emoji 3D | MIT | training |

OpenMoji (CC-BY-SA-4.0) may be used for evaluation only, and is neither fetched nor shipped. The families of Apple and
Facebook are not free and never used.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sfumato.world.names import Concept, concepts_of
from sfumato.world.packages import PACKAGES, Package, PackageError, download, find, members
from sfumato.world.pictures import SIZE, Rgba, normalise
from sfumato.world.store import STYLES, World, WorldError, cache_path, check_replaceable, open_world, save_world, subset

__all__ = ["STYLES", "Concept", "World", "WorldError", "cache_path", "fetch", "open_world", "save_world", "subset"]

_SKIN_TONE = re.compile(r"-1f3f[b-f]")


def fetch(folder: Path | None = None, cache: Path | None = None, say: Callable[[str], None] = lambda _: None) -> Path:
    """Fill the cache from npm, or from a folder that holds the packages.

    The cache appears whole or not at all; a former one stays until then.

    Args:
        folder: holds the tarballs made by ``npm pack`` or the unpacked packages; None asks npm for them.
        cache: where to keep the pictures; ``cache_path()`` if None.
        say: is told each step in a few words.

    Returns:
        The cache folder.

    Raises:
        WorldError: packages are missing or damaged; all of them are named, and so is the remedy. Or the cache's place
            holds other things, which is seen before anything is asked for.
    """
    target = cache or cache_path()
    check_replaceable(target)
    with _places(folder, say) as places:
        say("reading pictures")
        world = _read(places)
    save_world(world, target)
    say(f"wrote {len(world.concepts)} concepts to {target}")
    return target


@contextmanager
def _places(folder: Path | None, say: Callable[[str], None]) -> Generator[list[Path]]:
    with tempfile.TemporaryDirectory() as temporary:
        places: list[Path] = []
        faults: list[str] = []
        for package in PACKAGES:
            say(f"{'downloading' if folder is None else 'checking'} {package.name} {package.version}")
            try:
                found = download(package, Path(temporary)) if folder is None else find(package, folder)
                places.append(found)
            except PackageError as error:
                faults.append(str(error))
        if faults:
            raise WorldError(_remedy(faults))
        yield places


def _remedy(faults: Sequence[str]) -> str:
    wanted = " ".join(f"{package.name}@{package.version}" for package in PACKAGES)
    return (
        f"the emoji pictures could not be fetched: {'; '.join(faults)}. "
        f"On a machine with npm and a network run `npm pack {wanted}`, and give the folder with the three files."
    )


def _read(places: Sequence[Path]) -> World:
    table: list[dict[str, Any]] = []
    families: list[dict[str, Rgba]] = []
    for package, place in zip(PACKAGES, places, strict=True):
        family, entries = _read_package(package, place)
        families.append(family)
        table = table or entries
    plain = [{_plain(codes): picture for codes, picture in family.items()} for family in families]
    if not table:
        raise WorldError(f"no emoji.json with the names was found in {places[0]} or {places[1]}; get the packages anew")
    codes = [entry["unified"].lower() for entry in table]
    everywhere = frozenset(code for code in codes if all(_plain(code) in family for family in plain))
    concepts = concepts_of(table, everywhere)
    stacked = [_stack(concepts, family) for family in plain]
    return World(
        concepts,
        rows={style: rows for style, (rows, _) in zip(STYLES, stacked, strict=True)},
        pictures={style: pictures for style, (_, pictures) in zip(STYLES, stacked, strict=True)},
    )


def _plain(codes: str) -> str:
    """Code points without the variation selectors and leading zeros, in which the families differ."""
    return "-".join(code.lstrip("0") for code in codes.split("-") if code != "fe0f")


def _read_package(package: Package, place: Path) -> tuple[dict[str, Rgba], list[dict[str, Any]]]:
    family: dict[str, Rgba] = {}
    entries: list[dict[str, Any]] = []
    for path, content in members(place, lambda path: path == "emoji.json" or bool(package.pictures.fullmatch(path))):
        match = package.pictures.fullmatch(path)
        if match is None:
            entries = json.loads(content)
        elif not _SKIN_TONE.search(match[1]):
            family[match[1]] = _picture(content, f"{path} in {place}")
    if not family:
        raise WorldError(f"{place} holds no pictures of the {package.style} family; get the package anew")
    return family, entries


def _picture(content: bytes, origin: str) -> Rgba:
    try:
        return normalise(Image.open(io.BytesIO(content)))
    except (OSError, ValueError) as error:
        raise WorldError(f"{origin} is no picture that can be read: {error}") from error


def _stack(concepts: Sequence[Concept], family: Mapping[str, Rgba]) -> tuple[NDArray[np.int64], Rgba]:
    found = [_plain(concept.codepoints) in family for concept in concepts]
    rows = np.where(found, np.cumsum(found) - 1, -1)
    shown = [family[_plain(c.codepoints)] for c, there in zip(concepts, found, strict=True) if there]
    return rows, np.stack(shown) if shown else np.zeros((0, SIZE, SIZE, 4), np.uint8)
