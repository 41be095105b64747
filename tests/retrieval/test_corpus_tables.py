import os
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sfumato.retrieval.corpus import open_corpus
from sfumato.retrieval.fault import Fault
from sfumato.retrieval.item import LARGEST, Item
from tests.retrieval.pictures import encoded
from tests.retrieval.test_corpus import everything, faults, items

PICTURES = [encoded(Random(number)) for number in range(20)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, count: int = 20, groups: int = 4, kind: Any = STRUCT, **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = [{"bytes": each, "path": "/somewhere/x.png"} if kind is STRUCT else each for each in PICTURES[:count]]
    columns = {"image": pa.array(values, kind), "text": [f"caption {number}" for number in range(count)], **more}
    pq.write_table(pa.table(columns), path, row_group_size=groups)
    return path


@pytest.mark.parametrize("kind", [STRUCT, pa.binary(), pa.large_binary()], ids=str)
@pytest.mark.parametrize("size", [1, 3, 4, 7, 9, 100])
def test_rows_come_in_order_whatever_the_slices(tmp_path: Path, kind: Any, size: int) -> None:
    corpus = open_corpus(str(write(tmp_path / "a.parquet", kind=kind)), size=size)
    expected = [Item(f"a.parquet/{row}", PICTURES[row], f"caption {row}") for row in range(20)]
    assert everything(corpus) == expected
    assert [found for part in corpus.slices[::-1] for found in list(corpus.read(part))[::-1]] == expected[::-1]
    assert all(part.count <= size for part in corpus.slices) and sum(part.count for part in corpus.slices) == 20


def test_slices_keep_row_groups_whole_where_they_fit(tmp_path: Path) -> None:
    corpus = open_corpus(str(write(tmp_path / "a.parquet", groups=6)), size=13)
    assert [(part.start, part.stop) for part in corpus.slices] == [(0, 12), (12, 20)]
    corpus = open_corpus(str(write(tmp_path / "a.parquet", groups=6)), size=4)
    assert [(part.start, part.stop) for part in corpus.slices] == [
        *((0, 4), (4, 6), (6, 10), (10, 12), (12, 16), (16, 20)),
    ]


def test_a_folder_of_tables(tmp_path: Path) -> None:
    write(tmp_path / "set" / "data" / "b.parquet", 3)
    write(tmp_path / "set" / "data" / "a.parquet", 2)
    corpus = open_corpus(str(tmp_path / "set"))
    assert [found.source for found in everything(corpus)] == [
        *("data/a.parquet/0", "data/a.parquet/1"),
        *("data/b.parquet/0", "data/b.parquet/1", "data/b.parquet/2"),
    ]
    first = corpus.digest
    assert open_corpus(str(tmp_path / "set"), size=2).digest != first
    write(tmp_path / "set" / "data" / "b.parquet", 4)
    assert open_corpus(str(tmp_path / "set")).digest != first


def test_columns_by_other_names_and_captions_in_lists(tmp_path: Path) -> None:
    captions = pa.array([["one", "another"], [], None], pa.list_(pa.string()))
    write(tmp_path / "a.parquet", 3, label=pa.array([1, 2, 3]), captions=captions, png=pa.array(PICTURES[3:6]))
    corpus = open_corpus(str(tmp_path / "a.parquet"), image="png", text="captions")
    found = list(items(corpus).values())
    assert [each.caption for each in found] == ["one", None, None] and found[0].content == PICTURES[3]
    assert {each.caption for each in items(open_corpus(str(tmp_path / "a.parquet"), text="")).values()} == {None}


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.parquet", 3, label=pa.array([1, 2, 3])))
    for image, text, message in (
        ("png", "text", 'a.parquet has no column "png"; it has image, text, label'),
        ("image", "caption", 'a.parquet has no column "caption"; it has image, text, label'),
        ("label", "text", 'the column "label" of a.parquet holds int64, no pictures'),
        ("text", "text", 'the column "text" of a.parquet holds string, no pictures'),
        ("image", "label", 'the column "label" of a.parquet holds int64, no text'),
    ):
        with pytest.raises(ValueError, match=message):
            open_corpus(path, image=image, text=text)


def test_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    columns = [pa.array(PICTURES[:2]), pa.array(PICTURES[2:4]), pa.array(["one", "two"])]
    pq.write_table(pa.Table.from_arrays(columns, ["image", "image", "text"]), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match='a.parquet has 2 columns "image", which cannot be told apart; rename all but'):
        open_corpus(str(tmp_path / "a.parquet"))


def test_another_table_in_the_place_of_the_listed_one_is_a_fault(tmp_path: Path) -> None:
    corpus = open_corpus(str(write(tmp_path / "a.parquet", 3)))
    pq.write_table(pa.table({"other": [1, 2, 3]}), tmp_path / "a.parquet")
    (reason,) = faults(corpus).values()
    assert 'has no column "image"' in reason


def test_a_table_may_be_a_link_and_no_pipe_is_waited_for(tmp_path: Path) -> None:
    write(tmp_path / "blobs" / "0123abcd", 1)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.parquet").symlink_to("../blobs/0123abcd")
    os.mkfifo(tmp_path / "set" / "pipe.parquet")
    corpus = open_corpus(str(tmp_path / "set"))
    assert set(items(corpus)) == {"a.parquet/0"}
    assert faults(corpus) == {"pipe.parquet": "it cannot be read (it is no file)"}


@pytest.mark.parametrize(("size", "fits"), [(20_000_000, True), (LARGEST + 1, False)])
def test_a_value_said_once_for_many_rows_is_held_for_one(tmp_path: Path, size: int, fits: bool) -> None:
    rows = pa.array([0] * 8, pa.int32())
    columns = {
        "image": pa.DictionaryArray.from_arrays(rows, pa.array([bytes(size)])),
        "text": pa.DictionaryArray.from_arrays(rows, pa.array(["x" * 20_000_000])),
    }
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False, dictionary_pagesize_limit=1 << 30)
    del columns
    assert path.stat().st_size < 30_000
    corpus, pool = open_corpus(str(path)), pa.default_memory_pool()
    before, most, found = pool.bytes_allocated(), 0, 0
    for each in corpus.read(corpus.slices[0]):
        found += 1
        most = max(most, pool.bytes_allocated() - before)
        assert isinstance(each, Item) == fits
        assert not isinstance(each, Item) or (len(each.content) == size and each.caption is None)
    assert found == 8 and most < 4 * (size + 20_000_000), "the page, what it says once, and one row"


def test_rows_without_a_picture_are_faults(tmp_path: Path) -> None:
    values = [None, {"bytes": None, "path": "x.png"}, {"bytes": b"", "path": None}, {"bytes": b"x", "path": None}]
    large = [{"bytes": bytes(LARGEST + 1), "path": None}]
    pq.write_table(pa.table({"image": pa.array(values + large, STRUCT)}), tmp_path / "a.parquet")
    corpus = open_corpus(str(tmp_path / "a.parquet"), text="")
    missing = {f"a.parquet/{row}": "its row holds no picture" for row in range(3)}
    assert faults(corpus) == {**missing, "a.parquet/4": "it is larger than the 64 MB allowed"}
    assert set(items(corpus)) == {"a.parquet/3"}


def test_a_table_without_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": pa.array([], STRUCT)}), tmp_path / "a.parquet")
    assert faults(open_corpus(str(tmp_path / "a.parquet"), text="")) == {
        "a.parquet": "it cannot be read (it has no rows)"
    }


def test_a_broken_file_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for name in "abcde":
        write(folder / f"{name}.parquet", 2)
    content = (folder / "a.parquet").read_bytes()
    (folder / "a.parquet").write_bytes(content[: len(content) // 2])
    (folder / "b.parquet").write_bytes(b"")
    (folder / "c.parquet").write_bytes(b"PAR1" + bytes(50) + b"\xff\xff\xff\x7fPAR1")
    (folder / "gone.parquet").symlink_to("nowhere")
    corpus = open_corpus(str(folder))
    (folder / "d.parquet").unlink()
    found = faults(corpus)
    assert set(found) == {f"{name}.parquet" for name in ("a", "b", "c", "d", "gone")}
    assert all(reason.startswith("it cannot be read (") and str(tmp_path) not in reason for reason in found.values())
    assert set(items(corpus)) == {"e.parquet/0", "e.parquet/1"}


def test_a_broken_row_group_stops_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", groups=5)
    chunk = pq.ParquetFile(path).metadata.row_group(2).column(0)
    content = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
    for size in (100, 5, 2):
        corpus = open_corpus(str(path), size=size)
        found = everything(corpus)
        lost = [each for each in found if isinstance(each, Fault)]
        assert {each.source for each in lost} == {"a.parquet"}
        assert all(each.reason.startswith("its row group 2 cannot be read from row 10 on") for each in lost)
        assert set(items(corpus)) == {f"a.parquet/{row}" for row in range(20) if not 10 <= row < 15}


def test_no_damage_is_more_than_a_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", groups=5)
    content = path.read_bytes()
    for number in range(150):
        random = Random(number)
        harmed = bytearray(content)
        at = random.randrange(len(content) - 1500 if number % 2 else 0, len(content))
        harmed[at : at + 8] = random.randbytes(min(8, len(content) - at))
        path.write_bytes(harmed)
        try:
            corpus = open_corpus(str(path), size=3)
        except ValueError as error:
            assert "column" in str(error)
            continue
        assert all(isinstance(found, Item | Fault) for found in everything(corpus))


def test_a_file_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    values = [Random(number).randbytes(250_000) for number in range(160)]
    table = pa.table({"image": pa.array(values)})
    pq.write_table(table, tmp_path / "a.parquet", use_dictionary=False, data_page_size=1 << 20, write_batch_size=4)
    del table
    corpus = open_corpus(str(tmp_path / "a.parquet"), text="")
    before, most = pa.total_allocated_bytes(), 0
    for number, found in enumerate(corpus.read(corpus.slices[0])):
        assert isinstance(found, Item) and found.content == values[number]
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 25_000_000, "of 40 MB"
