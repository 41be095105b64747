"""What a memory knows of one picture, or of a patch of one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

__all__ = ["Box", "Entry", "digest_of", "id_of"]

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels of the picture as it is seen, the last two outside."""


@dataclass(frozen=True)
class Entry:
    """A picture, or a patch of one.

    Args:
        id: 16 hexadecimal digits, :func:`id_of`; the same in every memory made of the same pictures.
        source: where it was found, inside its corpus: "cats/1.jpg", "shard-00.tar/0001.jpg"; never an absolute path.
        digest: 32 hexadecimal digits of the picture file's content, by which copies are known.
        box: the part of the picture that it is.
        caption: its text, if it has one.
        thumbnail: a small WebP of the patch.
    """

    id: str
    source: str
    digest: str
    box: Box
    caption: str | None
    thumbnail: bytes


def digest_of(content: bytes) -> str:
    """What a picture file's content is known by: the first 32 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:32]


def id_of(source: str, digest: str, box: Box) -> str:
    """The name of an entry: 16 hexadecimal digits of the SHA-256 of where it was found, its content and its box."""
    return hashlib.sha256(repr((source, digest, box)).encode()).hexdigest()[:16]
