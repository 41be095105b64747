"""The npm packages the pictures come from: pinned by version and SHA-256, read without unpacking to disk."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Package", "PackageError", "PACKAGES", "find", "download", "members"]

_LARGEST_MEMBER = 4_000_000


class PackageError(Exception):
    """A package is missing, damaged or not the pinned one; the message says which and what to do."""


@dataclass(frozen=True)
class Package:
    """One npm package that holds an emoji family.

    Args:
        style: the style word of the family in captions.
        name: npm name.
        version: exact npm version.
        sha256: hash of the tarball, 64 hexadecimal digits.
        pictures: pattern of its pictures' paths; group 1 is the code points.
        licence: SPDX name of the pictures' licence.
        credit: who made the pictures.
    """

    style: str
    name: str
    version: str
    sha256: str
    pictures: re.Pattern[str]
    licence: str
    credit: str

    @property
    def archive(self) -> str:
        """File name that ``npm pack`` gives the tarball."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


PACKAGES = (
    Package(
        style="glossy",
        name="emoji-datasource-google",
        version="16.0.0",
        sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
        pictures=re.compile(r"img/google/64/([0-9a-f-]+)\.png"),
        licence="Apache-2.0",
        credit="Noto Emoji, Google",
    ),
    Package(
        style="flat",
        name="emoji-datasource-twitter",
        version="16.0.0",
        sha256="f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
        pictures=re.compile(r"img/twitter/64/([0-9a-f-]+)\.png"),
        licence="CC-BY-4.0",
        credit="Twemoji, Twitter and contributors",
    ),
    Package(
        style="3d",
        name="@lobehub/fluent-emoji-3d",
        version="1.1.0",
        sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        pictures=re.compile(r"assets/([0-9a-f-]+)\.webp"),
        licence="MIT",
        credit="Fluent Emoji, Microsoft",
    ),
)


def find(package: Package, folder: Path) -> Path:
    """Where a package lies in a folder, as its tarball or unpacked.

    Looked for, in this order: the tarball that ``npm pack`` writes, ``node_modules/NAME``, ``NAME``. A tarball's hash
    is checked; of an unpacked package only name and version can be.

    Raises:
        PackageError: it is in none of these places, or is not the pinned one.
    """
    archive = folder / package.archive
    if archive.is_file():
        _check_hash(package, archive)
        return archive
    for place in (folder / "node_modules" / package.name, folder / package.name):
        if (place / "package.json").is_file():
            _check_version(package, place)
            return place
    raise PackageError(f"{folder} holds neither {package.archive} nor an unpacked {package.name}")


def _check_hash(package: Package, archive: Path) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise PackageError(f"{archive} is damaged or another version: its SHA-256 is {found}, not {package.sha256}")


def _check_version(package: Package, place: Path) -> None:
    said = json.loads((place / "package.json").read_text(encoding="utf-8"))
    if (said.get("name"), said.get("version")) != (package.name, package.version):
        raise PackageError(
            f"{place} is {said.get('name')} {said.get('version')}, but {package.name} {package.version} is needed"
        )


def download(package: Package, folder: Path) -> Path:
    """Have npm put the tarball into a folder, and check its hash.

    Raises:
        PackageError: npm is not installed, could not download, or delivered another file.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise PackageError(f"npm, which downloads {package.name}, is not on the PATH")
    order = [npm, "pack", "--silent", "--ignore-scripts", f"{package.name}@{package.version}"]
    done = subprocess.run(order, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise PackageError(f"npm could not download {package.name}@{package.version}: {reason}")
    return find(package, folder)


def members(place: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """The wanted files of a package, read into memory; nothing is written, so no path can escape.

    Args:
        place: a tarball or an unpacked package, as ``find`` returns it.
        wanted: is asked with each path inside the package, e.g. "img/google/64/1f34e.png".

    Raises:
        PackageError: a wanted file is larger than 4 MB, or the tarball is broken.
    """
    yield from _from_folder(place, wanted) if place.is_dir() else _from_archive(place, wanted)


def _from_folder(place: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    for file in sorted(place.rglob("*")):
        path = file.relative_to(place).as_posix()
        if wanted(path) and file.is_file() and not file.is_symlink():
            _check_size(path, file.stat().st_size)
            yield path, file.read_bytes()


def _from_archive(place: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(place, "r|gz") as archive:
            for member in archive:
                path = member.name.partition("/")[2]
                if member.isreg() and wanted(path):
                    _check_size(path, member.size)
                    content = archive.extractfile(member)
                    assert content is not None
                    yield path, content.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise PackageError(f"{place} cannot be read: {error}") from error


def _check_size(path: str, size: int) -> None:
    if size > _LARGEST_MEMBER:
        raise PackageError(f"{path} is {size} bytes; a picture or table of at most {_LARGEST_MEMBER} was expected")
