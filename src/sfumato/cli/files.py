"""Picture files: names that are free, writing that is whole or not at all."""

from __future__ import annotations

import io
import os
import re
import secrets
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["OutputError", "next_index", "picture_bytes", "prepare_folder", "save_numbered", "slug", "write_whole"]

_LONGEST = 80


class OutputError(Exception):
    """The pictures cannot be written; the message is a sentence that names the place and the reason."""


def slug(text: str) -> str:
    """A file name made of a prompt's letters and digits: "A red apple!" gives "a-red-apple".

    Returns:
        at most 80 bytes of UTF-8, without separators of paths; "picture" if nothing is left.
    """
    words = re.sub(r"[\W_]+", "-", unicodedata.normalize("NFC", text[:1000]).casefold()).strip("-")
    return words.encode()[:_LONGEST].decode(errors="ignore").rstrip("-") or "picture"


def next_index(folder: Path, name: str, suffix: str = "png") -> int:
    """One more than the largest number of the folder's files NAME-0000.SUFFIX; 0 if there is none."""
    pattern = re.compile(re.escape(name) + r"-(\d{4,9})\." + suffix)
    found = [int(match[1]) for path in folder.iterdir() if (match := pattern.fullmatch(path.name))]
    return max(found, default=-1) + 1


def prepare_folder(folder: Path) -> None:
    """Make a folder and see that files can be written there, before an hour is spent on them.

    Raises:
        OutputError: it is no folder, or cannot be made or written.
    """
    probe = folder / f".sfumato-{secrets.token_hex(4)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)
        probe.unlink()
    except FileExistsError as error:
        raise OutputError(f"{folder} is a file, not a folder; choose another --output") from error
    except OSError as error:
        raise OutputError(f"cannot write into {folder} ({error.strerror}); choose another --output") from error


def save_numbered(content: bytes, folder: Path, name: str, first: int, *, force: bool, suffix: str = "png") -> Path:
    """Write NAME-0000.SUFFIX with the first number from ``first`` on that is free; with ``force``, with that itself.

    Returns:
        the path.

    Raises:
        OutputError: the disk is full, the folder is gone or not writable.
    """
    for index in range(first, first + 1_000_000):
        path = folder / f"{name}-{index:04d}.{suffix}"
        with suppress(FileExistsError):
            write_whole(content, path, replace=force)
            return path
    raise OutputError(f"{folder} has no free name {name}-NNNN.{suffix}; choose another --output")


def write_whole(content: bytes, path: Path, *, replace: bool) -> None:
    """Write a file that appears whole or not at all, whatever interrupts.

    Args:
        content: all bytes of it.
        path: its place.
        replace: whether a former file gives way.

    Raises:
        FileExistsError: there is a former file, and it is to stay.
        OutputError: the disk is full, the folder is gone or not writable.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _move(part, path, replace)
    except FileExistsError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def picture_bytes(picture: Image.Image, chunks: Mapping[str, str]) -> bytes:
    """A PNG file with text chunks.

    Args:
        picture: what it shows.
        chunks: keyword -> text; Latin-1 becomes tEXt, other text iTXt in UTF-8.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for keyword, text in chunks.items():
        info.add_text(keyword, text)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def _move(part: Path, path: Path, replace: bool) -> None:
    if replace:
        part.replace(path)
        return
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: claim the name, then fill it in one move
        path.open("xb").close()
        part.replace(path)
