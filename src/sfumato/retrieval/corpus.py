"""Where the pictures of a memory come from: a folder, parquet files, webdataset archives, or the emoji world.

    for part in corpus.slices:
        for found in corpus.read(part):
            ...  # an Item, or the Fault of one that was passed over

A corpus is listed once, when it is opened; what it lists is cut into slices, and each slice is read by itself, in any
order and in any process. Nothing is decoded here and nothing is believed: names are labels, sizes are capped, and what
cannot be read is a fault and not an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Protocol

from sfumato.retrieval.archives import open_archives
from sfumato.retrieval.fault import Fault
from sfumato.retrieval.folders import list_files, open_folder
from sfumato.retrieval.item import SUFFIXES, Item, Slice, is_picture
from sfumato.retrieval.tables import open_tables
from sfumato.retrieval.world_pictures import open_world_pictures

__all__ = ["Corpus", "Item", "Slice", "open_corpus"]

_PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class Corpus(Protocol):
    """Pictures in an order that does not change; picklable, to be sent to other processes once."""

    @property
    def name(self) -> str:
        """Of its folder or file, or "world:3d"; never a path."""
        ...

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over the listing (names and sizes, in order) and how it is sliced."""
        ...

    @property
    def slices(self) -> Sequence[Slice]:
        """All of it, in order."""
        ...

    def read(self, part: Slice) -> Iterator[Item | Fault]:
        """The items of a slice in order, and a fault for each that cannot be had; nothing else is raised."""
        ...


def open_corpus(where: str, *, size: int = 1024, image: str = "image", text: str = "text") -> Corpus:
    """List what is at a place.

    A folder holds pictures, \\*.parquet or \\*.tar files at any depth, of one kind only; what is hidden (".cache") does
    not count. Folders that are links are not entered.

    Args:
        where: a folder; one .parquet or .tar file; "world" for the emoji of all styles, "world:3d" or
            "world:flat,glossy" for some, "world:sample" or "world:sample:3d" for the few that come with the library.
            A folder that is called "world" is "./world".
        size: items in a slice at most, >= 1.
        image: the column of a table that holds the pictures.
        text: the column of a table, or of a folder's metadata.jsonl, that holds the captions; "" for none.

    Raises:
        ValueError: nothing is there, or several kinds are; a column is missing; or an archive is packed.
        WorldError: the pictures of the world have not been fetched.
    """
    if size < 1:
        raise ValueError(f"a slice holds at least one item, not {size}")
    kind, _, rest = where.partition(":")
    if kind == "world":
        return open_world_pictures(rest, size)
    if os.path.isdir(where):
        return _open_folder(where, size, image, text)
    if not os.path.isfile(where):
        raise ValueError(f"there is no folder or file {where}")
    root, name = os.path.split(os.path.abspath(where))
    _refuse_packed([name])
    if name.lower().endswith(".parquet"):
        return open_tables(root, name, [name], size, (image, text))
    if name.lower().endswith(".tar"):
        return open_archives(root, name, [name], size)
    raise ValueError(f"{name} is no corpus; that is a folder, a .parquet or a .tar file, or world:STYLE")


def _open_folder(where: str, size: int, image: str, text: str) -> Corpus:
    root = os.path.realpath(where)
    name = os.path.basename(root) or "root"
    files = list_files(root)
    pictures = [file for file, _ in files if is_picture(file)]
    tables = [file for file, _ in files if file.lower().endswith(".parquet")]
    archives = [file for file, _ in files if file.lower().endswith(".tar")]
    found = {"pictures": pictures, "parquet files": tables, "tar files": archives}
    present = [f"{len(of_kind)} {word}" for word, of_kind in found.items() if of_kind]
    if len(present) > 1:
        raise ValueError(
            f"the folder {name} holds {' and '.join(present)}; a corpus is of one kind, so name one folder"
        )
    if pictures:
        return open_folder(root, name, files, size, text)
    if tables:
        return open_tables(root, name, tables, size, (image, text))
    if archives:
        return open_archives(root, name, archives, size)
    _refuse_packed([file for file, _ in files])
    raise ValueError(f"the folder {name} holds no pictures ({', '.join(SUFFIXES)}), no *.parquet and no *.tar files")


def _refuse_packed(names: Sequence[str]) -> None:
    packed = next((name for name in names if name.lower().endswith(_PACKED)), None)
    if packed is not None:
        raise ValueError(f"{packed} is a packed archive, which cannot be read in parts; unpack it to a .tar first")
