import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sfumato.retrieval.build import build
from sfumato.retrieval.corpus import Item, Slice, open_corpus
from sfumato.retrieval.embed import Maker, make_part
from sfumato.retrieval.entry import digest_of, id_of
from sfumato.retrieval.fault import Fault, RetrievalError
from sfumato.retrieval.index import unit
from sfumato.retrieval.item import label
from sfumato.retrieval.memory import Memory
from sfumato.retrieval.patches import Crops
from sfumato.retrieval.verify import verify
from tests.retrieval.hostile import write_hostile
from tests.retrieval.pictures import write_good
from tests.retrieval.small import (
    SIDE,
    WIDTH,
    Pictures,
    encode,
    facts_of,
    maker,
    process,
    run_and_die,
    tree,
)

TWO = Pictures("two", 6, 3, broken=(4,))
MANY = Pictures("many", 80, 2, broken=(3, 50, 51))


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in memory where there is such a disk, so that syncing costs nothing."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


def whole(folder: Path, corpus: Pictures = TWO) -> dict[str, bytes]:
    build(folder, corpus, maker())
    return tree(folder)


def test_a_memory_holds_every_picture_in_order(tmp_path: Path):
    report = build(tmp_path / "D", Pictures("ten", 10), maker())
    memory = Memory.open(tmp_path / "D")
    items = [item for part in Pictures("ten", 10).slices for item in Pictures("ten", 10).read(part)]
    entries = memory.entries(range(10))
    assert [entry.source for entry in entries] == [item.source for item in items]
    assert [entry.caption for entry in entries] == [item.caption for item in items]
    assert [entry.digest for entry in entries] == [digest_of(item.content) for item in items]
    assert all(entry.id == id_of(entry.source, entry.digest, entry.box) for entry in entries)
    assert all(entry.box == (0, 1, 10, 11) for entry in entries)
    assert (report.entries, report.pictures, report.faults, report.copies) == (10, 10, 0, 0)
    assert report.bytes >= sum(len(content) for content in tree(tmp_path / "D").values()) and report.per_second > 0
    assert (memory.facts.corpora, memory.facts.patches, memory.facts.encoder) == (("ten",), "whole", facts_of())
    found = memory.search(memory.vectors(torch.arange(10)), 1)
    assert found.rows[:, 0].tolist() == list(range(10))
    assert verify(tmp_path / "D") == []


def test_the_encoder_sees_images_of_its_side_in_full_batches(tmp_path: Path):
    shapes: list[tuple[int, ...]] = []

    def watched(images: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(images.shape))
        assert images.min() >= -1 and images.max() <= 1 and images.min() < -0.5
        return encode(images)

    build(tmp_path / "D", Pictures("ten", 10, 7), replace(maker(), encode=watched))
    assert shapes == [(count, 3, SIDE, SIDE) for count in (3, 3, 1, 3)]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(tmp_path: Path, threads: int):
    corpus = Pictures("forty", 40, 40, broken=(7, 39))
    alone, together = (make_part(corpus, corpus.slices[0], maker(4, count)) for count in (1, threads))
    assert torch.equal(alone.vectors, together.vectors)
    assert (alone.entries, alone.faults, alone.pictures) == (together.entries, together.faults, together.pictures)


def test_slices_and_their_order_do_not_change_an_entry(tmp_path: Path):
    build(tmp_path / "a", Pictures("ten", 10, 10), maker(1))
    build(tmp_path / "b", Pictures("ten", 10, 3), maker(1))
    a, b = Memory.open(tmp_path / "a"), Memory.open(tmp_path / "b")
    assert a.entries(range(10)) == b.entries(range(10))
    assert torch.equal(a.vectors(torch.arange(10)), b.vectors(torch.arange(10)))


def test_crops_are_entries_of_one_picture(tmp_path: Path):
    crops = Crops(short_side=10, side=4, least=2, most=3)
    report = build(tmp_path / "D", Pictures("five", 5), replace(maker(), patches=crops))
    memory = Memory.open(tmp_path / "D")
    entries = memory.entries(range(len(memory)))
    assert report.entries == len(memory) > 8 and len({entry.digest for entry in entries}) == 5
    assert memory.facts.patches == crops.name
    assert verify(tmp_path / "D") == []


def test_broken_pictures_are_named_and_passed_over(place: Path):
    told: list[int] = []
    report = build(place / "D", MANY, maker(), advance=told.append)
    memory = Memory.open(place / "D")
    faults = [fault for part in memory.parts for fault in part.fault_list]
    assert [fault.source for fault in faults] == ["00003.png", "00050.png", "00051.png"]
    assert all("cannot be read as a picture" in fault.reason for fault in faults)
    assert (report.entries, report.faults, report.pictures, sum(told)) == (77, 3, 80, 80)
    assert memory.facts.parts[25] == ("000025", 0)


def test_an_embedding_without_direction_is_a_fault(tmp_path: Path):
    def lame(images: torch.Tensor) -> torch.Tensor:
        vectors = encode(images)
        vectors[0], vectors[1] = 0, torch.nan
        return vectors

    build(tmp_path / "D", Pictures("three", 3), replace(maker(), encode=lame))
    memory = Memory.open(tmp_path / "D")
    assert [entry.source for entry in memory.entries([0])] == ["00002.png"] and len(memory) == 1
    assert {fault.reason for fault in memory.parts[0].fault_list} == {"its embedding is zero or not finite"}


def test_without_a_picture_there_is_no_memory(tmp_path: Path):
    with pytest.raises(RetrievalError, match="nothing of three can be used; 00000.png: cannot be .*; and 2 more"):
        build(tmp_path / "D", Pictures("three", 3, broken=(0, 1, 2)), maker())
    assert tree(tmp_path / "D") == {}
    build(tmp_path / "D", Pictures("three", 3), maker())
    with pytest.raises(RetrievalError, match="holds no pictures"):
        build(tmp_path / "E", Pictures("none", 0), maker())


@pytest.mark.parametrize("name", [None, "1.tiff", "notes.txt"])
def test_an_archive_without_pictures_leaves_nothing(tmp_path: Path, name: str | None):
    with tarfile.open(tmp_path / "scans.tar", "w") as archive:
        if name:
            archive.addfile(tarfile.TarInfo(name))
    message = r"nothing of scans.tar can be used; scans.tar: it holds no pictures \(.png, .jpg, .jpeg, .webp\)$"
    with pytest.raises(RetrievalError, match=message):
        build(tmp_path / "D", open_corpus(str(tmp_path / "scans.tar")), maker())
    assert tree(tmp_path / "D") == {}
    build(tmp_path / "D", Pictures("three", 3), maker())


def test_a_corpus_that_gives_nothing_leaves_nothing(tmp_path: Path):
    class Silent(Pictures):
        def read(self, part: Slice) -> Iterator[Item | Fault]:
            return iter(())

    with pytest.raises(RetrievalError, match="^silent holds no pictures"):
        build(tmp_path / "D", Silent("silent", 3), maker())
    assert tree(tmp_path / "D") == {}


def test_a_picture_twice_in_an_archive_is_one_entry(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in (0, 1, 2, 3, 1):
            (item,) = Pictures("one", 1, first=number).read(Slice(0, 1, "", 0, 1))
            facts = tarfile.TarInfo(item.source)
            facts.size = len(item.content)
            archive.addfile(facts, io.BytesIO(item.content))
    report = build(tmp_path / "D", open_corpus(str(tmp_path / "a.tar"), size=2), maker())
    assert (report.entries, report.faults, report.copies) == (4, 1, 0)
    assert [fault.source for fault in report.passed_over] == ["a.tar/00001.png"]
    assert verify(tmp_path / "D") == []


def test_wrong_settings_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="batch and threads"):
        maker(0)
    with pytest.raises(ValueError, match="recall"):
        build(tmp_path / "D", TWO, maker(), recall=0)
    with pytest.raises(ValueError, match=r"is to give \(3, 16\), gave \(3, 192\)"):
        build(tmp_path / "D", TWO, replace(maker(), encode=lambda images: images.flatten(1)))


def test_a_finished_build_is_left_as_it_is(tmp_path: Path):
    first, said, told = whole(tmp_path), list[str](), list[int]()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != ".lock"}
    report = build(tmp_path, TWO, maker(threads=1), say=said.append, advance=told.append)
    assert tree(tmp_path) == first and report.pictures == 0 and report.faults == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert said == ["2 of 2 parts are there already"] and sum(told) == 6


@pytest.mark.parametrize("harm", ["part", "vectors", "entries", "index", "memory.json", "half a part"])
def test_what_is_lost_is_made_again(tmp_path: Path, harm: str):
    first = whole(tmp_path)
    part = tmp_path / "parts" / "000001"
    match harm:
        case "part":
            part.rename(tmp_path / "parts" / ".writing-000001")
        case "vectors":
            (part / "vectors.npy").write_bytes((part / "vectors.npy").read_bytes()[:-1])
        case "entries":
            (part / "entries.arrow").write_bytes(b"")
        case "half a part":
            (part / "faults.json").unlink()
        case "index":
            next(tmp_path.glob("index-*")).unlink()
        case _:
            (tmp_path / "memory.json").unlink()
    build(tmp_path, TWO, maker())
    assert tree(tmp_path) == first


@pytest.mark.parametrize(
    "words",
    [
        (replace(TWO, first=9), maker(), "digest 0006000300090001 instead of 0006000300000001"),
        (replace(TWO, name="three"), maker(), "corpus three instead of two"),
        (TWO, maker(batch=2), "batch 2 instead of 3"),
        (TWO, replace(maker(), facts=facts_of("other", "1e")), r"encoder other \(1e\) instead of noise \(0f\)"),
        (TWO, replace(maker(), patches=Crops(8, 4)), "patches crops 8 4 2 3 instead of whole"),
    ],
)
def test_another_build_does_not_go_on_with_it(tmp_path: Path, words: tuple[Pictures, Maker, str]):
    first = whole(tmp_path)
    corpus, other, message = words
    with pytest.raises(RetrievalError, match=f"is of another build .*{message}.*choose another folder"):
        build(tmp_path, corpus, other)
    assert tree(tmp_path) == first


def test_other_folders_are_left_alone(tmp_path: Path):
    (tmp_path / "index-of-my-life.faiss").write_text("mine")
    with pytest.raises(RetrievalError, match="'index-of-my-life.faiss', which no build has left"):
        build(tmp_path, TWO, maker())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(RetrievalError, match="cannot make"):
        build(tmp_path / "index-of-my-life.faiss", TWO, maker())


def test_recall_may_change_without_new_parts(tmp_path: Path):
    whole(tmp_path)
    report = build(tmp_path, TWO, maker(), recall=0.9)
    assert report.pictures == 0
    assert b'"recall": 0.9' in tree(tmp_path)["plan.json"]
    assert verify(tmp_path) == []


def test_two_at_once_are_one_too_many(tmp_path: Path):
    def second(images: torch.Tensor) -> torch.Tensor:
        with pytest.raises(RetrievalError, match="being changed by another process"):
            build(tmp_path, TWO, maker())
        return encode(images)

    build(tmp_path, TWO, replace(maker(), encode=second))
    assert verify(tmp_path) == []


def limited(folder: Path, largest: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    with pytest.raises(RetrievalError, match="cannot go on with .*; what is done is kept"):
        build(folder, TWO, maker())


@pytest.mark.parametrize("largest", [0, 100, 700, 1500])
def test_a_disk_that_takes_no_more_is_a_sentence(tmp_path: Path, largest: int):
    whole(tmp_path / "D")
    child = process(limited, tmp_path / "E", largest)
    child.join(60)
    assert child.exitcode == 0
    build(tmp_path / "E", TWO, maker())
    assert tree(tmp_path / "E") == tree(tmp_path / "D")


_HOSTILE = """
import json, sys
from pathlib import Path
import torch
from sfumato.retrieval.build import build
from sfumato.retrieval.corpus import open_corpus
from tests.retrieval.small import maker

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))

torch.set_num_threads(1)
build(Path(sys.argv[1]) / "first", open_corpus(sys.argv[1] + "/good"), maker())
before = peak()
report = build(Path(sys.argv[1]) / "D", open_corpus(sys.argv[1] + "/all", size=256), maker())
print(json.dumps([report.entries, report.faults, report.pictures, peak() - before]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_a_thousand_hostile_files_stop_nothing_and_take_no_more_than_the_cap(place: Path):
    """The cap: 64 MB of texts in a PNG for each thread, and as much again while they are read; see ``hostile``."""
    hostile, good = write_hostile(place / "all", 1000), write_good(place / "all", 20)
    write_good(place / "good", 3)
    command = [sys.executable, "-c", _HOSTILE, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and not done.stderr, done.stderr[-2000:]
    *counts, peak = json.loads(done.stdout)
    assert counts == [20, 1000, 1020] and peak < 256, peak
    memory = Memory.open(place / "D")
    faults = [fault for part in memory.parts for fault in part.fault_list]
    assert {fault.source for fault in faults} == {label(name) for name in hostile}
    assert all(10 < len(fault.reason) < 300 and fault.reason.isprintable() for fault in faults)
    assert sorted(entry.source for entry in memory.entries(range(20))) == sorted(good)
    assert verify(place / "D") == []


def test_killed_before_every_step_it_ends_with_the_same_memory(place: Path):
    """Every time that Python opens, makes, moves or deletes something there, once."""
    first = whole(place / "whole")
    for at in range(1000):
        folder = place / str(at)
        died = run_and_die(build, folder, (TWO, maker()), at)
        build(folder, TWO, maker())
        assert tree(folder) == first, f"killed before step {at}"
        if not died:
            break
    assert 50 < at < 999


def test_killed_at_any_moment_it_ends_with_the_same_memory(place: Path):
    begun = time.perf_counter()
    first = whole(place / "whole", MANY)
    seconds, draw, killed = time.perf_counter() - begun, random.Random(0), 0
    for _ in range(12):
        child = process(build, place / "D", MANY, maker())
        child.join(0.3 * seconds * draw.random() + 0.01)
        child.kill()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
    build(place / "D", MANY, maker())
    assert tree(place / "D") == first and killed > 3
    assert unit(Memory.open(place / "D").vectors(torch.arange(77))).shape == (77, WIDTH)
