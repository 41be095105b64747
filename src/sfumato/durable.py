"""Files that are on the disk when a function returns, and what tells whether they still are what was written."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

__all__ = ["digest_of_file", "sync", "write_synced"]


def digest_of_file(file: Path) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, in place of a former one, and is on the disk when this returns."""
    fresh = path.with_name(f".{path.name}.part")
    fresh.write_bytes(content)
    sync(fresh)
    fresh.replace(path)
    sync(path.parent)
