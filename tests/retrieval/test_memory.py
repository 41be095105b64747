import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sfumato.retrieval.entry import Entry, digest_of, id_of
from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.index import build_index, unit
from sfumato.retrieval.memory import EncoderFacts, Memory, MemoryFacts, read_facts, write_facts
from sfumato.retrieval.part import write_part

WIDTH, SIZES = 8, (5, 0, 7, 1)
COUNT = sum(SIZES)


def entry(row: int) -> Entry:
    source, digest, box = f"{row}.png", digest_of(bytes([row % 10])), (0, 0, 4, 4)
    return Entry(id_of(source, digest, box), source, digest, box, f"picture {row}", b"webp")


def vectors() -> Tensor:
    return torch.randn(COUNT, WIDTH, generator=torch.Generator().manual_seed(0))


def written(folder: Path, index: bool = True) -> Memory:
    """A memory of four parts, one of them empty."""
    row, parts = 0, list[tuple[str, int]]()
    for number, size in enumerate(SIZES):
        entries = [entry(each) for each in range(row, row + size)]
        write_part(folder / "parts", f"{number:06d}", vectors()[row : row + size], entries)
        parts.append((f"{number:06d}", size))
        row += size
    facts = MemoryFacts(EncoderFacts("noise", "0f", WIDTH, 4), "whole", ("pictures",), tuple(parts), None)
    write_facts(folder, facts)
    if index:
        made = build_index(folder, Memory.open(folder).stream)
        write_facts(folder, replace(facts, index=made))
    return Memory.open(folder)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    memory = written(tmp_path)
    assert read_facts(tmp_path) == memory.facts
    assert (len(memory), memory.width, memory.facts.entries) == (COUNT, WIDTH, COUNT)
    assert memory.facts.index is not None and (memory.facts.index.entries, memory.facts.index.recall) == (COUNT, 1)


def test_rows_go_through_all_parts_in_order(tmp_path: Path) -> None:
    memory, kept = written(tmp_path), vectors().half().float()
    rows = torch.tensor([[12, 0, 4], [5, 11, 5]])
    assert torch.equal(memory.vectors(rows), kept[rows])
    assert memory.vectors(rows).shape == (2, 3, WIDTH)
    assert memory.vectors(torch.empty(0, dtype=torch.int64)).shape == (0, WIDTH)
    assert memory.entries([12, 0, 4, 5, 11, 5]) == [entry(row) for row in (12, 0, 4, 5, 11, 5)]
    assert memory.digests() == [entry(row).digest for row in range(COUNT)]


@pytest.mark.parametrize("most", [1, 2, 5, 100])
def test_blocks_are_all_vectors_in_order(tmp_path: Path, most: int) -> None:
    blocks = list(written(tmp_path).blocks(most))
    assert torch.equal(torch.cat(blocks), vectors().half().float())
    assert all(0 < len(block) <= most and block.dtype == torch.float32 for block in blocks)


@pytest.mark.parametrize("row", [-1, COUNT, 2**40])
def test_rows_that_are_not_there(tmp_path: Path, row: int) -> None:
    memory = written(tmp_path)
    with pytest.raises(IndexError, match=f"no row {row}; it has {COUNT}"):
        memory.entries([0, row])
    with pytest.raises(IndexError, match=f"no row {row}"):
        memory.vectors(torch.tensor([row]))


@pytest.mark.parametrize("factor", [1.0, 1e-20, 250.0])
def test_search_is_by_cosine(tmp_path: Path, factor: float) -> None:
    memory, queries = written(tmp_path), torch.randn(6, WIDTH)
    found = memory.search(factor * queries, 5)
    cosines, rows = (unit(queries) @ unit(memory.vectors(torch.arange(COUNT))).T).topk(5)
    assert torch.equal(found.rows, rows)
    torch.testing.assert_close(found.cosines, cosines, rtol=0, atol=1e-6)


def test_an_entry_retrieves_itself_first(tmp_path: Path) -> None:
    memory = written(tmp_path)
    found = memory.search(memory.vectors(torch.arange(COUNT)), 3)
    assert torch.equal(found.rows[:, 0], torch.arange(COUNT))
    torch.testing.assert_close(found.cosines[:, 0], torch.ones(COUNT), rtol=0, atol=1e-6)


def test_all_rows_can_be_asked_for(tmp_path: Path) -> None:
    found = written(tmp_path).search(torch.randn(2, WIDTH), COUNT)
    assert torch.equal(found.rows.sort(dim=1).values, torch.arange(COUNT).expand(2, COUNT))


@pytest.mark.parametrize(
    ("queries", "count", "reason"),
    [
        (torch.ones(2, WIDTH + 1), 1, "queries must be"),
        (torch.ones(WIDTH), 1, "queries must be"),
        (torch.ones(2, WIDTH), 0, "cannot find 0"),
        (torch.ones(2, WIDTH), COUNT + 1, "cannot find 14"),
        (torch.zeros(2, WIDTH), 1, "no direction"),
        (torch.full((2, WIDTH), torch.nan), 1, "no direction"),
    ],
)
def test_wrong_queries_are_refused(tmp_path: Path, queries: Tensor, count: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        written(tmp_path).search(queries, count)


def test_a_memory_without_an_index_says_how_to_get_one(tmp_path: Path) -> None:
    memory = written(tmp_path, index=False)
    assert len(list(memory.blocks())) == 3
    with pytest.raises(RetrievalError, match="has no index.*sfumato memory build"):
        memory.search(torch.ones(1, WIDTH), 1)


def test_a_folder_without_a_memory(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(RetrievalError, match="holds no memory.*sfumato memory build"):
            Memory.open(folder)


@pytest.mark.parametrize("harm", ["part", "facts", "index", "vectors"])
def test_something_missing_is_named(tmp_path: Path, harm: str) -> None:
    memory = written(tmp_path)
    assert memory.facts.index is not None
    gone, said = {
        "part": ("parts/000002/part.json", "the part 000002 is missing"),
        "facts": ("memory.json", "holds no memory"),
        "index": (memory.facts.index.file, "is missing; `sfumato memory build`"),
        "vectors": ("parts/000000/vectors.npy", "the part 000000 is damaged"),
    }[harm]
    (tmp_path / gone).unlink()
    with pytest.raises(RetrievalError, match=said):
        reopened = Memory.open(tmp_path)
        reopened.search(reopened.vectors(torch.tensor([0])), 1)


def changed(folder: Path, change: dict[str, object]) -> None:
    file = folder / "memory.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))


@pytest.mark.parametrize(
    "parts",
    [
        [["../../etc", 5]],
        [["..", 5]],
        [["/etc", 5]],
        [["a/b", 5]],
        [["a\\b", 5]],
        [["", 5]],
        [["A", 5]],
        [[5, 5]],
        [[None, 5]],
        [["000000", "many"]],
        [["000000", None]],
        [["000000", 5], ["000000", 5]],
        [["000000"]],
        ["000000"],
        "000000",
        None,
        5,
        [["000000\n", 5]],
    ],
)
def test_parts_that_cannot_be_are_refused(tmp_path: Path, parts: object) -> None:
    written(tmp_path)
    changed(tmp_path, {"parts": parts})
    with pytest.raises(RetrievalError, match="memory.json is damaged or of another version"):
        Memory.open(tmp_path)


@pytest.mark.parametrize("count", [-5, 4, 6, 10**30])
def test_a_part_of_another_size_is_refused(tmp_path: Path, count: int) -> None:
    written(tmp_path)
    changed(tmp_path, {"parts": [["000000", count]]})
    with pytest.raises(RetrievalError, match=f"the part 000000 has 5 entries .* not {count}"):
        Memory.open(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": None},
        {"encoder": None},
        {"encoder": {"name": "x"}},
        {"encoder": {"name": "x", "fingerprint": "0", "width": 8, "side": 4, "code": "import os"}},
        {"corpora": 3},
        {"index": []},
        {"index": {"file": "x"}},
    ],
)
def test_facts_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    written(tmp_path)
    changed(tmp_path, change)
    with pytest.raises(RetrievalError, match="memory.json is damaged or of another version"):
        Memory.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("file", "../index-0123456789abcdef.faiss", "cannot be called"),
        ("file", "/etc/passwd", "cannot be called"),
        ("file", "parts", "cannot be called"),
        ("file", 3, "damaged or of another version"),
        ("recall", "high", "damaged or of another version"),
        ("recall", float("nan"), "damaged or of another version"),
        ("entries", -1, "damaged or of another version"),
        ("entries", 12, "not the index of this memory"),
        ("width", 9, "not the index of this memory"),
        ("kind", "ivf-pq", "not the index of this memory"),
        ("size", 10**30, "bytes and not"),
    ],
)
def test_an_index_that_cannot_be_is_refused(tmp_path: Path, name: str, value: object, reason: str) -> None:
    written(tmp_path)
    index = json.loads((tmp_path / "memory.json").read_text())["index"]
    changed(tmp_path, {"index": {**index, name: value}})
    with pytest.raises(RetrievalError, match=reason):
        _ = Memory.open(tmp_path).index


@pytest.mark.parametrize("width", [9, "wide", None])
def test_an_encoder_of_another_width_is_refused(tmp_path: Path, width: object) -> None:
    written(tmp_path)
    changed(tmp_path, {"encoder": {"name": "noise", "fingerprint": "0f", "width": width, "side": 4}})
    with pytest.raises(RetrievalError):
        Memory.open(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b"{}"])
def test_facts_that_are_none_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "memory.json").write_bytes(content)
    with pytest.raises(RetrievalError, match="memory.json is damaged or of another version"):
        Memory.open(tmp_path)


def test_facts_that_are_huge_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "memory.json").open("wb") as file:
        file.truncate(100_000_001)
    with pytest.raises(RetrievalError, match="larger than facts can be"):
        Memory.open(tmp_path)


def test_what_memory_json_does_not_name_is_not_there(tmp_path: Path) -> None:
    memory = written(tmp_path)
    write_part(tmp_path / "parts", "000009", vectors()[:1], [entry(1)])
    (tmp_path / "parts" / ".writing-abc").mkdir()
    assert len(Memory.open(tmp_path)) == len(memory)
