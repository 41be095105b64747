"""Parquet files with a column of pictures, as data sets are published: a struct of bytes and path, or plain bytes."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sfumato.retrieval.fault import Fault
from sfumato.retrieval.item import LARGEST, Item, Slice, caption_of, digest_of_listing, label
from sfumato.retrieval.opening import open_regular

__all__ = ["Tables", "open_tables"]

_BUFFER, _LARGEST_CAPTION = 1 << 20, 1_000_000


@dataclass(frozen=True, eq=False)
class Tables:
    """Parquet files, one after the other; read page by page and row by row, never as a whole.

    A slice is some row groups, or a part of one that is larger; the later its part, the more of the group is read
    before it. A picture's source is its file and row. What cannot be read of a group is one fault of its file; a
    caption above 1 MB is none. A few bytes may say one large value for many rows, so that no two rows are held at a
    time and no value is taken out before its length is known. A file may itself be a link, which is followed wherever
    it leads.

    Args:
        name: of the folder or file.
        digest: over the files' names and sizes and the rows of their groups.
        slices: rows of a file.
        root: the folder, absolute.
        image: column of the pictures.
        text: column of the captions; "" for none.
    """

    name: str
    digest: str
    slices: Sequence[Slice] = field(repr=False)
    root: str
    image: str
    text: str

    def read(self, part: Slice) -> Iterator[Item | Fault]:
        """The pictures of a slice, and a fault for each that is missing or cannot be read."""
        try:
            with _open(self.root, part.file) as file:
                _check_columns(file.schema_arrow, (self.image, self.text), label(part.file))
                groups = list(_groups(file))
                if not part.stop:
                    raise ValueError("it has no rows")
                for number, (first, after) in enumerate(groups):
                    if first < part.stop and after > part.start:
                        yield from self._group(file, part, number, first)
        except (OSError, ValueError, pa.ArrowException) as error:
            yield Fault(label(part.file), f"it cannot be read ({_reason(error, self.root)})")

    def _group(self, file: pq.ParquetFile, part: Slice, number: int, first: int) -> Iterator[Item | Fault]:
        row = first
        columns = [self.image, *([self.text] if self.text else [])]
        try:
            for batch in file.iter_batches(1, row_groups=[number], columns=columns, use_threads=False):
                if row >= part.start:
                    yield self._found(label(part.file, str(row)), batch)
                row += 1
                if row >= part.stop:
                    return
        except (OSError, ValueError, pa.ArrowException) as error:
            reason = _reason(error, self.root)
            yield Fault(label(part.file), f"its row group {number} cannot be read from row {row} on ({reason})")

    def _found(self, source: str, row: pa.RecordBatch) -> Item | Fault:
        column = row.column(self.image)
        column = _bytes_of(column) if pa.types.is_struct(column.type) else column
        length = _length(column)
        if not length:
            return Fault(source, "its row holds no picture")
        if length > LARGEST:
            return Fault(source, f"it is larger than the {LARGEST / 1e6:g} MB allowed")
        return Item(source, column[0].as_py(), self._caption(row))

    def _caption(self, row: pa.RecordBatch) -> str | None:
        if not self.text:
            return None
        column = row.column(self.text)
        column = column.flatten() if pa.types.is_list(column.type) else column
        return caption_of(column[0].as_py()) if 0 < _length(column) <= _LARGEST_CAPTION else None


def open_tables(root: str, name: str, files: Sequence[str], size: int, columns: tuple[str, str]) -> Tables:
    """A corpus of parquet files.

    Args:
        root: the folder that they are in, absolute.
        name: of the corpus.
        files: their names below the root, in order.
        size: rows in a slice at most.
        columns: of the pictures and of the captions; "" for no captions.

    Raises:
        ValueError: a file has no such column, several of that name, or one that holds something else.
    """
    slices: list[Slice] = []
    told: list[object] = [("tables", size, columns)]
    for file in files:
        rows, length = _rows(root, file, columns)
        told.append((file, length, rows))
        for start, stop in _ranges(rows, size) or [(0, 0)]:
            slices.append(Slice(len(slices), stop - start, file, start, stop))
    return Tables(name, digest_of_listing(told), tuple(slices), root, *columns)


@contextmanager
def _open(root: str, file: str) -> Generator[pq.ParquetFile]:
    with open_regular(os.path.join(root, file)) as stream:
        yield pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False)


def _bytes_of(column: pa.Array) -> pa.Array:
    """The pictures of a column of structs; none where the struct is none."""
    return pc.struct_field(column, "bytes")  # pyright: ignore


def _length(column: pa.Array) -> int:
    """Bytes of the first value of a column; 0 if there is none. The value itself stays where it is."""
    length = pc.binary_length(column[:1])[0].as_py() if len(column) else None  # pyright: ignore
    return length or 0


def _rows(root: str, file: str, columns: tuple[str, str]) -> tuple[list[int], int]:
    """The rows of each group of a file, and its bytes; no rows, if it cannot be read."""
    path = os.path.join(root, file)
    try:
        length = os.path.getsize(path)
        with _open(root, file) as opened:
            schema = opened.schema_arrow
            rows = [after - first for first, after in _groups(opened)]
    except (OSError, ValueError, pa.ArrowException):
        return [], -1  # it is opened again with its slice, and is a fault there
    _check_columns(schema, columns, label(file))
    return rows, length


def _groups(file: pq.ParquetFile) -> Iterator[tuple[int, int]]:
    """First row of each group, and the row after its last.

    Raises:
        ValueError: its numbers cannot be.
    """
    metadata, row = file.metadata, 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if not 0 <= group.num_rows <= max(1, group.total_byte_size):
            raise ValueError(f"its row group {number} claims {group.num_rows} rows")
        yield row, row + group.num_rows
        row += group.num_rows


def _ranges(rows: Sequence[int], size: int) -> list[tuple[int, int]]:
    """Ranges of at most ``size`` rows: as many whole groups as fit, a larger group in parts."""
    cuts = [0]
    row = 0
    for count in rows:
        if row > cuts[-1] and row + count - cuts[-1] > size:
            cuts.append(row)
        row += count
        while row - cuts[-1] > size:
            cuts.append(cuts[-1] + size)
    cuts.append(row)
    return [(start, stop) for start, stop in zip(cuts, cuts[1:], strict=False) if stop > start]


def _check_columns(schema: pa.Schema, columns: tuple[str, str], file: str) -> None:
    for column in filter(None, columns):
        count = schema.names.count(column)
        if not count:
            raise ValueError(f'{file} has no column "{column}"; it has {", ".join(schema.names)}')
        if count > 1:
            raise ValueError(f'{file} has {count} columns "{column}", which cannot be told apart; rename all but one')
    image, text = columns
    kind = schema.field(image).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise ValueError(f'the column "{image}" of {file} holds {kind}, no pictures')
    kind = schema.field(text).type if text else pa.string()
    kind = kind.value_type if pa.types.is_list(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ValueError(f'the column "{text}" of {file} holds {kind}, no text')


def _reason(error: Exception, root: str) -> str:
    """What a library says, on one line and without where things are."""
    said = getattr(error, "strerror", None) or str(error)
    return " ".join(said.replace(os.path.join(root, ""), "").split())[:300]
