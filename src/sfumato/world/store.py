"""A world of pictures: every concept in every style, on disk and in memory."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from sfumato.world.names import Concept
from sfumato.world.packages import PACKAGES
from sfumato.world.pictures import SIZE, Rgba

__all__ = [
    "STYLES",
    "World",
    "WorldError",
    "cache_path",
    "check_replaceable",
    "open_world",
    "save_world",
    "subset",
]

STYLES = tuple(package.style for package in PACKAGES)
_FORMAT = 1
_SAMPLE = Path(__file__).parent / "sample"


class WorldError(Exception):
    """The pictures are not there, or cannot be had; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class World:
    """Every concept and its pictures in three styles.

    Args:
        concepts: all concepts; ``concepts[i].index == i``.
        rows: for each style, the row of each concept in ``pictures``, or -1; int (concepts,).
        pictures: for each style, uint8 (rows, 64, 64, 4), straight alpha.
    """

    concepts: tuple[Concept, ...]
    rows: Mapping[str, NDArray[np.int64]] = field(repr=False)
    pictures: Mapping[str, Rgba] = field(repr=False)

    @cached_property
    def core(self) -> tuple[Concept, ...]:
        """The everyday concepts, each with a picture in every style."""
        return tuple(concept for concept in self.concepts if concept.core)

    @cached_property
    def _by_name(self) -> dict[str, Concept]:
        return {name: concept for concept in self.concepts for name in (concept.key, *concept.names)}

    @cached_property
    def names(self) -> frozenset[str]:
        """The first name of every concept."""
        return frozenset(concept.name for concept in self.concepts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names and pictures, for model cards and result tables; 64 hexadecimal digits."""
        digest = hashlib.sha256(json.dumps([concept.names for concept in self.concepts]).encode())
        for style in STYLES:
            digest.update(self.rows[style].tobytes())
            digest.update(self.pictures[style].tobytes())
        return digest.hexdigest()

    def has(self, concept: Concept | int, style: str) -> bool:
        """Whether a family draws a concept."""
        return bool(self._row(concept, style) >= 0)

    def picture(self, concept: Concept | int, style: str) -> Rgba:
        """The picture of a concept.

        Args:
            concept: a concept or its index.
            style: "glossy", "flat" or "3d".

        Returns:
            uint8 (64, 64, 4), straight alpha; read-only.

        Raises:
            KeyError: the style is unknown, or the family has no such picture.
        """
        row = self._row(concept, style)
        if row < 0:
            index = concept if isinstance(concept, int) else concept.index
            raise KeyError(f"the {style} family has no picture of {self.concepts[index].name!r}")
        return self.pictures[style][row]

    def find(self, name: str) -> Concept:
        """The concept that goes by a name, an alias or a key.

        Raises:
            KeyError: no concept does; the message names the nearest.
        """
        wanted = name.strip().lower()
        if wanted in self._by_name:
            return self._by_name[wanted]
        near = difflib.get_close_matches(wanted, self._by_name, n=3)
        raise KeyError(f"no concept {name!r}" + (f"; did you mean {', '.join(near)}?" if near else ""))

    def _row(self, concept: Concept | int, style: str) -> int:
        if style not in self.rows:
            raise KeyError(f"no style {style!r}; there are {', '.join(STYLES)}")
        return int(self.rows[style][concept if isinstance(concept, int) else concept.index])


def cache_path() -> Path:
    """Where the pictures are kept: below the folder SFUMATO_CACHE, else below the user's cache folder."""
    chosen = os.environ.get("SFUMATO_CACHE")
    return (Path(chosen) if chosen else user_cache_path("sfumato")) / f"emoji-{_FORMAT}"


def subset(world: World, names: Iterable[str]) -> World:
    """A smaller world: the named concepts in the given order, with new indices.

    Args:
        world: where they come from.
        names: names, aliases or keys.

    Raises:
        KeyError: a name is unknown.
    """
    chosen = [world.find(name) for name in names]
    kept = {style: [c for c in chosen if world.has(c, style)] for style in STYLES}
    numbers = {style: {c.index: row for row, c in enumerate(kept[style])} for style in STYLES}
    return World(
        concepts=tuple(replace(concept, index=index) for index, concept in enumerate(chosen)),
        rows={style: np.array([numbers[style].get(c.index, -1) for c in chosen]) for style in STYLES},
        pictures={style: world.pictures[style][[world.rows[style][c.index] for c in kept[style]]] for style in STYLES},
    )


def save_world(world: World, target: Path) -> None:
    """Write a world as a cache folder, whole or not at all: one table and one array file a style.

    Args:
        world: what to write.
        target: the folder; a former cache is replaced at the very end.

    Raises:
        WorldError: the folder holds other things than a cache, which would be lost.
    """
    check_replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        table = {"format": _FORMAT, "concepts": [asdict(concept) for concept in world.concepts]}
        (fresh / "concepts.json").write_text(json.dumps(table), encoding="utf-8")
        for style in STYLES:
            np.savez_compressed(fresh / f"{style}.npz", rows=world.rows[style], pictures=world.pictures[style])
        fresh.chmod(0o755)
        _replace(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def check_replaceable(target: Path) -> None:
    """See that a folder is free for a cache: not there, empty, or a cache itself.

    Raises:
        WorldError: it holds other things, which would be lost.
    """
    own = {"concepts.json", *(f"{style}.npz" for style in STYLES)}
    others = sorted({path.name for path in target.iterdir()} - own) if target.is_dir() else []
    if others or (target.exists() and not target.is_dir()):
        raise WorldError(f"{target} is no cache of emoji pictures ({', '.join(others) or 'a file'}); name a new folder")


def _replace(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.rename(target)
        return
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as former:
        target.rename(Path(former) / "former")
        fresh.rename(target)


def open_world(cache: Path | str | None = None) -> World:
    """Open a cache of pictures.

    Args:
        cache: a folder; "sample" for the two dozen concepts that come with the library; None for ``cache_path()``.

    Raises:
        WorldError: there is no cache at that place, it is damaged, or of another format.
    """
    place = _SAMPLE if cache == "sample" else Path(cache) if cache else cache_path()
    if not (place / "concepts.json").is_file():
        raise WorldError(f"there are no emoji pictures in {place}; `sfumato world fetch` gets them")
    try:
        return _load(place)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise WorldError(
            f"the emoji pictures in {place} are damaged ({error}); `sfumato world fetch` renews them"
        ) from error


def _load(place: Path) -> World:
    table = json.loads((place / "concepts.json").read_text(encoding="utf-8"))
    if table["format"] != _FORMAT:
        raise ValueError(f"format {table['format']} instead of {_FORMAT}")
    concepts = tuple(replace(Concept(**fields), names=tuple(fields["names"])) for fields in table["concepts"])
    rows: dict[str, NDArray[np.int64]] = {}
    pictures: dict[str, Rgba] = {}
    for style in STYLES:
        with np.load(place / f"{style}.npz", allow_pickle=False) as family:
            rows[style], pictures[style] = family["rows"], family["pictures"]
        _check_family(rows[style], pictures[style], len(concepts), style)
        pictures[style].flags.writeable = False
    return World(concepts, rows, pictures)


def _check_family(rows: NDArray[np.int64], pictures: Rgba, concepts: int, style: str) -> None:
    fits = rows.shape == (concepts,) and pictures.shape[1:] == (SIZE, SIZE, 4) and pictures.dtype == np.uint8
    if not fits or rows.size and not -1 <= rows.min() <= rows.max() < len(pictures):
        raise ValueError(f"{style}.npz holds {pictures.shape[0]} pictures that do not fit {concepts} concepts")
