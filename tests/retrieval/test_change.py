import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sfumato.retrieval.build import build
from sfumato.retrieval.change import add, export, remove
from sfumato.retrieval.embed import COPY
from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.memory import Memory
from sfumato.retrieval.patches import Crops
from sfumato.retrieval.verify import verify
from tests.retrieval.small import WIDTH, Pictures, facts_of, maker, run_and_die, tree

FIRST = Pictures("first", 8, 4, broken=(6,))
MORE = Pictures("more", 6, 3, first=8, broken=(9,))
GONE = (1, 5)
FEW, FEWER = Pictures("few", 3, 2), Pictures("fewer", 1, 1, first=8)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory where there is such a disk, so that syncing costs nothing."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        build(Path(folder) / "D", FIRST, maker())
        yield Path(folder)


def sources(folder: Path) -> list[int]:
    """Numbers of the pictures, and that the memory is what it says."""
    memory = Memory.open(folder)
    assert verify(folder) == []
    return [int(entry.source[:5]) for entry in memory.entries(range(len(memory)))]


def ids(folder: Path, numbers: tuple[int, ...]) -> list[str]:
    memory = Memory.open(folder)
    return [entry.id for entry in memory.entries(range(len(memory))) if int(entry.source[:5]) in numbers]


def test_more_pictures_follow_the_others(place: Path):
    told: list[int] = []
    report = add(place / "D", MORE, maker(), advance=told.append)
    assert sources(place / "D") == [0, 1, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13]
    assert (report.entries, report.pictures, report.faults, report.copies, sum(told)) == (12, 6, 1, 0, 6)
    assert [fault.source for fault in report.passed_over] == ["00009.png"], "and none of the memory's own"
    facts = Memory.open(place / "D").facts
    assert facts.corpora == ("first", "more")
    assert [name for name, _ in facts.parts] == ["000000", "000001", "000002", "000003"]
    assert not list((place / "D").glob("adding*")) and len(list((place / "D").glob("index-*"))) == 1


def test_the_index_is_the_one_of_a_memory_built_at_once(place: Path):
    build(place / "once", Pictures("all", 14, broken=(6, 9)), maker(1))
    build(place / "twice", FIRST, maker(1))
    add(place / "twice", MORE, maker(1))
    once, twice = Memory.open(place / "once"), Memory.open(place / "twice")
    assert once.facts.index == twice.facts.index
    assert once.entries(range(12)) == twice.entries(range(12))


def test_copies_are_left_out_and_counted(place: Path):
    report = add(place / "D", Pictures("again", 6, 3, first=4), maker())
    assert sources(place / "D") == [0, 1, 2, 3, 4, 5, 7, 6, 8, 9]
    assert (report.entries, report.pictures, report.faults, report.copies) == (10, 6, 0, 3)
    assert [fault.reason for fault in Memory.open(place / "D").parts[-1].fault_list] == [COPY]


def test_copies_alone_change_nothing(place: Path):
    before = tree(place / "D")
    report = add(place / "D", replace(FIRST, name="again"), maker())
    assert tree(place / "D") == before
    assert (report.entries, report.copies, report.faults) == (7, 7, 1)
    assert [fault.source for fault in report.passed_over] == ["00006.png"], "though its part is gone"


def test_other_vectors_and_other_patches_are_refused(place: Path):
    before = tree(place / "D")
    with pytest.raises(RetrievalError, match=r"of the encoder noise \(0f\), not of clip \(1e\)"):
        add(place / "D", MORE, replace(maker(), facts=facts_of("clip", "1e")))
    with pytest.raises(RetrievalError, match="cut as 'whole', not as 'crops 8 4 2 3'"):
        add(place / "D", MORE, replace(maker(), patches=Crops(8, 4)))
    assert tree(place / "D") == before


def test_there_must_be_a_memory(tmp_path: Path):
    with pytest.raises(RetrievalError, match="holds no memory"):
        add(tmp_path, MORE, maker())
    with pytest.raises(RetrievalError, match="holds no memory"):
        remove(tmp_path, ["0"])
    assert tree(tmp_path) == {}


def test_entries_are_removed(place: Path):
    before = Memory.open(place / "D")
    rows = torch.tensor([0, 2, 3, 4, 6])
    vectors, entries = before.vectors(rows), before.entries(rows.tolist())
    facts = remove(place / "D", ids(place / "D", GONE))
    after = Memory.open(place / "D")
    assert after.facts == facts and sources(place / "D") == [0, 2, 3, 4, 7]
    assert facts.parts == (("000000-1", 3), ("000001-1", 2))
    assert torch.equal(after.vectors(torch.arange(5)), vectors) and after.entries(range(5)) == entries
    assert [fault.source for fault in after.parts[1].fault_list] == ["00006.png"]
    assert sorted(path.name for path in (place / "D" / "parts").iterdir()) == ["000000-1", "000001-1"]


def test_parts_without_them_stay(place: Path):
    remove(place / "D", ids(place / "D", (0, 1, 2, 3)))
    remove(place / "D", ids(place / "D", (4,)))
    assert Memory.open(place / "D").facts.parts == (("000000-1", 0), ("000001-1", 2))
    remove(place / "D", ids(place / "D", (7,)))
    assert Memory.open(place / "D").facts.parts == (("000000-1", 0), ("000001-2", 1))
    add(place / "D", FIRST, maker())
    assert sources(place / "D") == [5, 0, 1, 2, 3, 4, 7]
    assert [name for name, _ in Memory.open(place / "D").facts.parts] == ["000000-1", "000001-2", "000002", "000003"]


def test_unknown_ids_are_named_and_nothing_is_removed(place: Path):
    before = tree(place / "D")
    with pytest.raises(RetrievalError, match="has no entry ffffffffffffffff"):
        remove(place / "D", [*ids(place / "D", GONE), "f" * 16])
    with pytest.raises(RetrievalError, match="all 7 entries of .* would be removed"):
        remove(place / "D", ids(place / "D", tuple(range(8))))
    assert tree(place / "D") == before


def test_a_changed_memory_is_not_built_over(place: Path):
    remove(place / "D", ids(place / "D", GONE))
    before = tree(place / "D")
    with pytest.raises(RetrievalError, match="was changed after it was built"):
        build(place / "D", FIRST, maker())
    assert tree(place / "D") == before


def test_another_addition_begins_anew(place: Path):
    for at in range(25, 75, 25):
        run_and_die(add, place / "D", (MORE, maker()), at)
    other = Pictures("other", 2, 2, first=30)
    add(place / "D", other, maker())
    assert sources(place / "D") == [0, 1, 2, 3, 4, 5, 7, 30, 31]


def add_fewer(folder: Path) -> None:
    add(folder, FEWER, maker())


def remove_one(folder: Path) -> None:
    remove(folder, ids(folder, (1,)))


@pytest.mark.parametrize("change", [add_fewer, remove_one])
def test_killed_before_every_step_it_is_the_former_memory_or_the_new(place: Path, change: Callable[[Path], None]):
    """Every time that Python opens, makes, moves or deletes something there, once."""
    for name in ("former", "new"):
        build(place / name, FEW, maker())
    change(place / "new")
    former, new = tree(place / "former"), tree(place / "new")
    seen: set[bytes] = set()
    for at in range(1000):
        folder = place / str(at)
        shutil.copytree(place / "former", folder)
        died = run_and_die(change, folder, (), at)
        found = tree(folder)
        seen.add(found["memory.json"])
        wanted = new if found["memory.json"] == new["memory.json"] else former
        assert {name: found.get(name) for name in wanted} == wanted, f"killed before step {at}"
        assert verify(folder) == []
        if wanted is former or change is add_fewer:
            change(folder)
            assert tree(folder) == new, f"killed before step {at}"
        if not died:
            break
    assert 30 < at < 999 and seen == {former["memory.json"], new["memory.json"]}


def test_all_of_it_becomes_one_table(place: Path):
    memory = Memory.open(place / "D")
    export(memory, place / "all.parquet")
    table = pq.read_table(place / "all.parquet")
    assert table.column_names == ["id", "source", "digest", "box", "caption", "thumbnail", "embedding"]
    assert table.schema.field("embedding").type == pa.list_(pa.float16(), WIDTH)
    rows = table.to_pylist()
    for row, entry in zip(rows, memory.entries(range(7)), strict=True):
        assert tuple(row["box"]) == entry.box
        assert all(row[name] == getattr(entry, name) for name in ("id", "source", "digest", "caption", "thumbnail"))
    vectors = torch.tensor([[float(value) for value in row["embedding"]] for row in rows])
    assert torch.equal(vectors, memory.vectors(torch.arange(7)))
    said = json.loads(table.schema.metadata[b"sfumato"])
    assert said["encoder"]["name"] == "noise" and said["patches"] == "whole" and said["corpora"] == ["first"]


def test_a_table_is_there_as_a_whole_or_not_at_all(place: Path):
    memory = Memory.open(place / "D")
    with pytest.raises(RetrievalError, match="cannot write"):
        export(memory, place / "nowhere" / "all.parquet")
    (place / "all.parquet").write_bytes(b"former")
    entries = place / "D" / "parts" / "000001" / "entries.arrow"
    entries.write_bytes(entries.read_bytes()[:100])
    with pytest.raises(RetrievalError, match="damaged"):
        export(memory, place / "all.parquet")
    assert (place / "all.parquet").read_bytes() == b"former"
    assert sorted(path.name for path in place.iterdir()) == ["D", "all.parquet"]
