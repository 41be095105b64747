"""What a corpus gives: picture files with their captions, in slices that are read together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["LARGEST", "SUFFIXES", "Item", "Slice", "caption_of", "digest_of_listing", "is_picture", "label"]

LARGEST = 64_000_000
"""Bytes of the largest picture file that is read."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Of picture files, in lower case."""

_LONGEST_LABEL, _LONGEST_CAPTION = 1000, 10_000


@dataclass(frozen=True)
class Item:
    """A picture file.

    Args:
        source: where it is inside its corpus: "cats/1.jpg", "shard-00.tar/0001.jpg", "a.parquet/17", "3d/1f600". A
            printable :func:`label`, never absolute, never leading outside.
        content: the file, still encoded and not yet believed.
        caption: its text, if it has one.
    """

    source: str
    content: bytes
    caption: str | None


@dataclass(frozen=True)
class Slice:
    """Some items of a corpus that are read together; small, and the same whenever the listing is the same.

    Args:
        number: its place among the slices, from 0 on.
        count: pictures that it should give, as far as the listing tells.
        file: of the corpus that it lies in, if it lies in one.
        start: where it begins, in what its corpus counts: places of a listing, rows of a table, bytes of an archive.
        stop: where it ends, outside.
    """

    number: int
    count: int
    file: str
    start: int
    stop: int


def is_picture(name: str) -> bool:
    """Whether a file is called like a picture: PNG, JPEG or WebP."""
    return name.lower().endswith(SUFFIXES)


def label(*names: str) -> str:
    """One printable name that leads nowhere: "a.tar", "/../x\\n.jpg" give "a.tar/x\\\\n.jpg".

    Args:
        names: of files and of what is in them; steps up and roots are dropped, what cannot be printed is escaped.
    """
    steps = [step for name in names for step in name.split("/") if step not in ("", ".", "..")]
    text = "/".join(steps)[:_LONGEST_LABEL]
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def caption_of(text: object) -> str | None:
    """What was found as a text, as one: without surrounding blanks, valid Unicode, of at most 10,000 characters.

    Args:
        text: a string, UTF-8, or several strings, of which the first counts; anything else is no caption.
    """
    if isinstance(text, list | tuple):
        text = next(iter(text), None)
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if not isinstance(text, str):
        return None
    return text[:_LONGEST_CAPTION].encode("utf-8", "replace").decode().strip() or None


def digest_of_listing(lines: Iterable[object]) -> str:
    """What a listing is known by: 16 hexadecimal digits over its lines, in order."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(repr(line).encode() + b"\n")
    return digest.hexdigest()[:16]
