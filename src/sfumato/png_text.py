"""The text chunks of a PNG file, read as untrusted input: nothing is decoded but text, and all sizes are bounded."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import BinaryIO

__all__ = ["MAX_TEXT", "PngError", "read_text_chunks"]

MAX_TEXT = 1_000_000
"""Longest text of one chunk, in bytes, unpacked."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS = 100_000
_TEXT = (b"tEXt", b"zTXt", b"iTXt")


class PngError(ValueError):
    """The file is no PNG, or a broken one; the message is one sentence that names the file and the reason."""


def read_text_chunks(path: Path, keywords: frozenset[str]) -> dict[str, str]:
    """The texts of a PNG file under some keywords; of several under one keyword, the first.

    Args:
        path: the file; pictures are skipped, not decoded.
        keywords: which texts are wanted.

    Returns:
        keyword -> text, for those that are there.

    Raises:
        PngError: no such file, no PNG, broken, or a wanted text longer than ``MAX_TEXT``.
    """
    try:
        with path.open("rb") as file:
            return _texts(file, str(path), keywords)
    except OSError as error:
        raise PngError(f"{path}: {error.strerror}") from error


def _texts(file: BinaryIO, name: str, keywords: frozenset[str]) -> dict[str, str]:
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        raise PngError(f"{name}: not a PNG picture")
    found: dict[str, str] = {}
    for _ in range(_MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            raise PngError(f"{name}: cut off before its end")
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IEND":
            return found
        if kind not in _TEXT:
            file.seek(length + 4, 1)
            continue
        keyword, text = _text(file, kind, length, name, keywords)
        if text is not None:
            found.setdefault(keyword, text)
    raise PngError(f"{name}: more than {_MAX_CHUNKS} chunks")


def _text(file: BinaryIO, kind: bytes, length: int, name: str, keywords: frozenset[str]) -> tuple[str, str | None]:
    start = file.read(min(length, 80))
    keyword = start.partition(b"\0")[0].decode("latin-1")
    if keyword not in keywords or b"\0" not in start:
        file.seek(length - len(start) + 4, 1)
        return keyword, None
    if length > MAX_TEXT + 1000:
        raise PngError(f"{name}: its text '{keyword}' is longer than {MAX_TEXT} bytes")
    content = start + file.read(length - len(start))
    if zlib.crc32(kind + content).to_bytes(4, "big") != file.read(4):
        raise PngError(f"{name}: its text '{keyword}' is damaged")
    try:
        return keyword, _decoded(kind, content.partition(b"\0")[2])
    except (zlib.error, UnicodeDecodeError, ValueError, IndexError) as error:
        raise PngError(f"{name}: its text '{keyword}' cannot be read ({error})") from error


def _decoded(kind: bytes, content: bytes) -> str:
    if kind == b"tEXt":
        return _bounded(content).decode("latin-1")
    if kind == b"zTXt":
        return _unpacked(content[1:]).decode("latin-1")
    packed, rest = content[0], content[2:]
    text = rest.split(b"\0", 2)[2]
    return (_unpacked(text) if packed else _bounded(text)).decode("utf-8")


def _unpacked(packed: bytes) -> bytes:
    return _bounded(zlib.decompressobj().decompress(packed, MAX_TEXT + 1))


def _bounded(text: bytes) -> bytes:
    if len(text) > MAX_TEXT:
        raise ValueError(f"longer than {MAX_TEXT} bytes")
    return text
