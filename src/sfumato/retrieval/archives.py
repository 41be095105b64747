"""Webdataset archives: tar files whose members of one base name are a picture and its caption.

    0001.jpg, 0001.txt, 0002.png, 0002.json ...

Nothing is unpacked: listing reads the headers, a slice is a range of bytes, and a picture is read where it lies.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from sfumato.retrieval.fault import Fault
from sfumato.retrieval.item import LARGEST, SUFFIXES, Item, Slice, caption_of, digest_of_listing, label
from sfumato.retrieval.opening import open_regular
from sfumato.retrieval.tar_headers import Member, members

__all__ = ["Archives", "open_archives"]

_LARGEST_CAPTION, _CAPTIONS = 1_000_000, (".txt", ".json")
_EMPTY = f"it holds no pictures ({', '.join(SUFFIXES)})"
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True, eq=False)
class Archives:
    """Tar files, one after the other.

    A sample is what follows one another with one name up to the first dot: pictures (.jpg, .jpeg, .png, .webp), and
    their caption from .txt, or "caption" or "text" of a .json. Other members, and hidden ones, are passed by; links,
    devices and pictures above the cap are faults, and of pictures of one name and size in an archive all but the
    first; a caption that cannot be read is none. An archive that is damaged gives what comes before the damage, and
    one fault; one without pictures is a fault. An archive may itself be a link, which is followed wherever it leads.

    Args:
        name: of the folder or file.
        digest: over the archives' names and sizes and their members'.
        slices: ranges of bytes of an archive.
        root: the folder, absolute.
        size: pictures in a slice at most.
        doubled: pictures whose name and size occur before them in their archive: it, and where their headers begin.
    """

    name: str
    digest: str
    slices: Sequence[Slice] = field(repr=False)
    root: str
    size: int
    doubled: Set[tuple[str, int]] = field(repr=False, default=frozenset())

    def read(self, part: Slice) -> Iterator[Item | Fault]:
        """The pictures of a slice, and a fault for each that cannot be read."""
        given = 0
        try:
            with open_regular(os.path.join(self.root, part.file)) as file:
                for sample in _samples(members(file, part.start, part.stop), self.size):
                    given += len(sample.given)
                    yield from self._found(file, part.file, sample)
            if not given:
                raise ValueError(_EMPTY)
        except OSError as error:
            yield Fault(label(part.file), f"it cannot be read ({error.strerror})")
        except ValueError as error:
            yield Fault(label(part.file), str(error))

    def _found(self, file: BinaryIO, archive: str, sample: _Sample) -> Iterator[Item | Fault]:
        caption = None if sample.caption is None else _caption(file, sample.caption)
        for member in sample.given:
            source = label(archive, member.name)
            if member.kind == "other":
                yield Fault(source, "it is a link or a device, which is not followed")
            elif (archive, member.start) in self.doubled:
                yield Fault(source, "its archive has a picture of that name and size before it, which counts")
            elif member.size > LARGEST:
                yield Fault(source, f"it is larger than the {LARGEST / 1e6:g} MB allowed")
            else:
                yield Item(source, _content(file, member), caption)


def open_archives(root: str, name: str, files: Sequence[str], size: int) -> Archives:
    """A corpus of tar files.

    Args:
        root: the folder that they are in, absolute.
        name: of the corpus.
        files: their names below the root, in order.
        size: pictures in a slice at most.

    Raises:
        ValueError: one is packed.
    """
    slices: list[Slice] = []
    told: list[object] = [("archives", size)]
    doubled: set[tuple[str, int]] = set()
    for file in files:
        ranges = _listed(root, file, size, told, doubled)
        slices += [Slice(len(slices) + n, count, file, start, stop) for n, (count, start, stop) in enumerate(ranges)]
    return Archives(name, digest_of_listing(told), tuple(slices), root, size, frozenset(doubled))


def _listed(
    root: str, file: str, size: int, told: list[object], doubled: set[tuple[str, int]]
) -> list[tuple[int, int, int]]:
    """The ranges of an archive; of one that cannot be read, one in whose place the fault will be."""
    nothing = [(0, 0, 1)]
    try:
        stream = open_regular(os.path.join(root, file))
    except (OSError, ValueError):
        return nothing
    with stream:
        try:
            _refuse_packed(stream, file)
            told.append((file, os.fstat(stream.fileno()).st_size))
            return _ranges(stream, file, size, told, doubled)
        except OSError:
            return nothing


@dataclass
class _Sample:
    """Members of one name: where the first begins, what is to be given, and the caption."""

    key: str
    start: int
    given: list[Member] = field(default_factory=list[Member])
    caption: Member | None = None


def _samples(found: Iterable[Member], most: int) -> Iterator[_Sample]:
    """The samples of an archive in order; one of more than ``most`` pictures is several.

    Raises:
        ValueError: the archive is damaged; after what is whole has been given.
    """
    sample, damage = _Sample("", 0), None
    try:
        for member in found:
            key, suffix = _split(member.name)
            given = bool(key) and (member.kind == "other" or (member.kind == "file" and suffix in SUFFIXES))
            if key != sample.key or (given and len(sample.given) >= most):
                yield sample
                sample = _Sample(key, member.start)
            if given:
                sample.given.append(member)
            elif key and member.kind == "file" and suffix in _CAPTIONS:
                sample.caption = member
    except ValueError as error:
        damage = error
    yield sample
    if damage is not None:
        raise damage


def _split(name: str) -> tuple[str, str]:
    """What the members of a sample have in common, and the suffix; both empty for what is hidden."""
    folder, base = posixpath.split(name)
    stem, dot, suffix = base.partition(".")
    return (posixpath.join(folder, stem), (dot + suffix).lower()) if stem else ("", "")


def _ranges(
    stream: BinaryIO, file: str, size: int, told: list[object], doubled: set[tuple[str, int]]
) -> list[tuple[int, int, int]]:
    """An archive as (pictures, first byte, byte after the last), at most ``size`` pictures each.

    What is there is appended to ``told``, and what has the name and size of one before it is put into ``doubled``; of
    its content nothing is read here.
    """
    length = os.fstat(stream.fileno()).st_size
    starts, counts, seen = [0], [0], set[tuple[str, int]]()
    try:
        for sample in _samples(members(stream, 0, length), size):
            if counts[-1] + len(sample.given) > size:
                starts.append(sample.start)
                counts.append(0)
            counts[-1] += len(sample.given)
            told += [(member.name, member.size) for member in (*sample.given, sample.caption) if member is not None]
            for member in sample.given:
                known = (label(file, member.name), member.size)
                if known in seen:
                    doubled.add((file, member.start))
                elif member.kind == "file":
                    seen.add(known)
    except ValueError:
        pass  # it is read again with its slice, and is a fault there
    return list(zip(counts, starts, [*starts[1:], length], strict=True))


def _caption(file: BinaryIO, member: Member) -> str | None:
    if member.size > _LARGEST_CAPTION:
        return None
    content = _content(file, member)
    if member.name.lower().endswith(".txt"):
        return caption_of(content)
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return None
    table = cast("dict[str, object]", told) if isinstance(told, dict) else {}
    return caption_of(table.get("caption")) or caption_of(table.get("text"))


def _content(file: BinaryIO, member: Member) -> bytes:
    file.seek(member.data)
    return file.read(member.size)


def _refuse_packed(stream: BinaryIO, file: str) -> None:
    if stream.read(8).startswith(_PACKED):
        raise ValueError(f"{label(file)} is a packed archive, which cannot be read in parts; unpack it first")
