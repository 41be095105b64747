"""The members of a tar file, from its headers alone.

Archives come from anywhere, so that the reader is one that cannot be led astray: each step goes forward, a name is at
most 64 kB long, nothing is unpacked, and the first thing that is not as POSIX and GNU write it ends the archive.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

__all__ = ["Member", "members"]

_BLOCK, _LONGEST_NAME = 512, 65536
_FILES, _WITHOUT_DATA, _SPARSE = (b"0", b"\0", b"7"), (b"1", b"2", b"3", b"4", b"5", b"6"), b"S"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_FOR_ALL = b"L", b"K", b"x", b"g"
_SAYING = (_LONG_NAME, _LONG_LINK, _PAX, _PAX_FOR_ALL)
_DAMAGED, _SHORT = "it is damaged, or no tar file", "it is cut short"
_ENDLESS = "it has no end mark, so that something may be missing"


@dataclass(frozen=True)
class Member:
    """One member.

    Args:
        name: as it is written; a label, which may well be "/etc/passwd".
        kind: a file, a folder, or anything else: links, devices.
        start: first byte of its headers.
        data: first byte of its content.
        size: bytes of its content.
    """

    name: str
    kind: Literal["file", "folder", "other"]
    start: int
    data: int
    size: int


def members(file: BinaryIO, start: int, stop: int) -> Iterator[Member]:
    """The members whose headers begin in a range of bytes.

    Args:
        file: the archive.
        start: where the headers of a member begin; 0 for the first.
        stop: byte after the range.

    Raises:
        ValueError: the archive is damaged, cut short or no tar file; after what is whole has been given.
        OSError: it cannot be read.
    """
    length = os.fstat(file.fileno()).st_size
    at = first = start
    said: dict[bytes, bytes] = {}
    while first < stop:
        header = _read(file, at, _BLOCK, length)
        if not any(header):
            return
        name, kind, size = _parse(header)
        data = at + _BLOCK
        if kind in _SAYING:
            said |= _said(kind, _read(file, data, min(size, _LONGEST_NAME + 1), length))
            at = data + _blocks(size)
            continue
        size = _number(said[b"size"], 10) if b"size" in said else size
        name = _text(said[b"path"]) if b"path" in said else name
        size = 0 if kind in _WITHOUT_DATA else size
        if data + size > length:
            raise ValueError(_SHORT)
        yield Member(name, _kind(kind, name), first, data, size)
        first = at = data + _blocks(size)
        said = {}
    if first >= length:
        raise ValueError(_ENDLESS)


def _kind(kind: bytes, name: str) -> Literal["file", "folder", "other"]:
    if kind == b"5" or (kind in _FILES and name.endswith("/")):
        return "folder"
    return "file" if kind in _FILES else "other"


def _read(file: BinaryIO, at: int, count: int, length: int) -> bytes:
    if at >= length:
        raise ValueError(_ENDLESS)
    file.seek(at)
    content = file.read(count)
    if len(content) < count:
        raise ValueError(_SHORT)
    return content


def _blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _parse(header: bytes) -> tuple[str, bytes, int]:
    """Name, kind and size of what follows a header."""
    if _number(header[148:156], 8) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise ValueError(_DAMAGED)
    kind = header[156:157]
    if kind == _SPARSE:
        raise ValueError("it holds a sparse file, which is not supported")
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    name = _text(header[:100])
    return (f"{prefix}/{name}" if prefix else name), kind, _number(header[124:136], 8)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _number(field: bytes, base: int) -> int:
    """A number >= 0 as digits, or as GNU writes large ones: in binary, after the byte 128."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0") or b"0"
    if not digits.isdigit() or len(digits) > 20 or (base == 8 and (b"8" in digits or b"9" in digits)):
        raise ValueError(_DAMAGED)
    return int(digits, base)


def _said(kind: bytes, content: bytes) -> dict[bytes, bytes]:
    """What a header in front of a header says of it: its name, and in POSIX's records also its size."""
    if len(content) > _LONGEST_NAME:
        raise ValueError("it is damaged: a name in it is longer than a name can be")
    if kind == _LONG_NAME:
        return {b"path": content}
    found: dict[bytes, bytes] = {}
    at = 0
    while kind == _PAX and at < len(content):
        digits = content[at : at + 8].partition(b" ")[0]
        stop = at + _number(digits, 10)
        key, equals, value = content[at + len(digits) + 1 : stop - 1].partition(b"=")
        if not equals or content[stop - 1 : stop] != b"\n":
            raise ValueError(_DAMAGED)
        found |= {key: value} if key in (b"path", b"size") else {}
        at = stop
    return found
