"""A folder of pictures, with captions in metadata.jsonl or in text files beside them."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sfumato.retrieval.fault import Fault
from sfumato.retrieval.item import LARGEST, Item, Slice, caption_of, digest_of_listing, is_picture, label
from sfumato.retrieval.opening import open_inside

__all__ = ["Folder", "list_files", "open_folder"]

_METADATA, _LARGEST_CAPTION, _LONGEST_LINE = "metadata.jsonl", 65536, 1_000_000


@dataclass(frozen=True, eq=False)
class Folder:
    """Picture files at any depth, in the order of their names.

    A link to a file counts if it leads to a file of the folder, else it is a fault; links to folders are not entered.
    A folder that cannot be entered is one fault.

    Args:
        name: of the folder.
        digest: over names and sizes, captions included.
        slices: of ``names``, by place.
        root: where it is, absolute and without links.
        names: of the pictures, below the root; that of a folder that could not be entered ends with "/".
        captions: from metadata.jsonl, by name; a picture without one may have a text file beside it.
    """

    name: str
    digest: str
    slices: Sequence[Slice] = field(repr=False)
    root: str
    names: Sequence[str] = field(repr=False)
    captions: Mapping[str, str] = field(repr=False)

    def read(self, part: Slice) -> Iterator[Item | Fault]:
        """The pictures of a slice, and a fault for each that cannot be read."""
        for name in self.names[part.start : part.stop]:
            try:
                content = _read_inside(self.root, name, LARGEST)
            except OSError as error:
                yield Fault(label(name), f"it cannot be read ({error.strerror})")
            except ValueError as error:
                yield Fault(label(name), str(error))
            else:
                yield Item(label(name), content, self.captions.get(name) or self._text_beside(name))

    def _text_beside(self, name: str) -> str | None:
        try:
            return caption_of(_read_inside(self.root, posixpath.splitext(name)[0] + ".txt", _LARGEST_CAPTION))
        except (OSError, ValueError):
            return None


def list_files(root: str) -> list[tuple[str, int]]:
    """All files below a folder that are not hidden, sorted: (name below it with "/", bytes).

    Links to folders are not entered. A folder that cannot be entered is listed itself, its name ending with "/"; a
    link that leads nowhere has the size -1.
    """
    found: list[tuple[str, int]] = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                seen = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError:
            found.append((folder, 0))
            continue
        for entry in seen:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(f"{folder}{entry.name}/")
            else:
                found.append((folder + entry.name, _size(entry)))
    return sorted(found)


def open_folder(root: str, name: str, files: Sequence[tuple[str, int]], size: int, text: str) -> Folder:
    """A corpus of the pictures among some files.

    Args:
        root: the folder, absolute and without links.
        name: of the corpus.
        files: as :func:`list_files` gives them.
        size: pictures in a slice at most.
        text: the column of metadata.jsonl that holds the captions; "" for none.

    Raises:
        ValueError: a metadata.jsonl cannot be read, is a link that leads out of the folder, or has a line of more than
            1 MB; or none has the column.
    """
    names = [file for file, _ in files if is_picture(file) or file.endswith("/")]
    captions = _captions(root, [file for file, _ in files if posixpath.basename(file) == _METADATA], text)
    starts = range(0, len(names), size)
    slices = [Slice(i, min(size, len(names) - at), "", at, min(at + size, len(names))) for i, at in enumerate(starts)]
    told = [each for each in files if is_picture(each[0]) or each[0].endswith(("/", ".txt", _METADATA))]
    return Folder(name, digest_of_listing([("folder", size, text), *told]), tuple(slices), root, tuple(names), captions)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return -1


def _read_inside(root: str, name: str, most: int) -> bytes:
    with open_inside(root, name) as file:
        content = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)
    if len(content) > most:
        raise ValueError(f"it is larger than the {most / 1e6:g} MB allowed")
    return content


def _captions(root: str, files: Sequence[str], text: str) -> dict[str, str]:
    """Captions by the names of pictures; of two that speak of one picture, the nearer metadata.jsonl counts."""
    captions: dict[str, str] = {}
    columns: dict[str, None] = {}
    for file in sorted(files, key=lambda name: name.count("/")):
        for row in _rows(root, file):
            columns |= dict.fromkeys(row)
            picture = posixpath.normpath(posixpath.join(posixpath.dirname(file), row["file_name"]))
            caption = caption_of(row.get(text))
            if caption is not None:
                captions[picture] = caption
    if text and columns and text not in columns:
        raise ValueError(f'{_METADATA} has no column "{text}"; it has {", ".join(columns)}; "" goes without captions')
    return captions


def _rows(root: str, file: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_lines(root, file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row["file_name"], str):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f'{label(file)}, line {number}, is no JSON object with a "file_name"') from error
        yield row


def _lines(root: str, file: str) -> Iterator[bytes]:
    """The lines of a table of captions.

    Raises:
        ValueError: it cannot be read, leads out of the corpus, or has a line that is too long; the sentence names it.
    """
    try:
        with open_inside(root, file) as lines:
            while line := lines.readline(_LONGEST_LINE + 1):
                if len(line) > _LONGEST_LINE:
                    raise ValueError(f"it has a line of more than the {_LONGEST_LINE / 1e6:g} MB allowed")
                yield line
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{label(file)} cannot be used ({reason}); correct it or take it away") from error
