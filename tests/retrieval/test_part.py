import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.durable import digest_of_file, write_synced
from sfumato.retrieval import part as part_file
from sfumato.retrieval.entry import Entry, digest_of, id_of
from sfumato.retrieval.fault import Fault, RetrievalError
from sfumato.retrieval.part import Part, write_part

WIDTH = 8
FILES = ("vectors.npy", "entries.arrow", "faults.json")


def entry(number: int) -> Entry:
    source, digest, box = f"cats/{number}.jpg", digest_of(bytes([number])), (0, number, 32, 32 + number)
    caption = None if number % 3 == 0 else f"cat {number}, 'é' \n"
    return Entry(id_of(source, digest, box), source, digest, box, caption, bytes(range(number)))


def vectors(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def written(parts: Path, count: int = 5, name: str = "000000") -> Part:
    entries = [entry(number) for number in range(count)]
    return write_part(parts, name, vectors(count), entries, [Fault("dogs/1.jpg", "not a picture")])


def everything(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written(tmp_path)
    found = Part.open(tmp_path / "000000")
    assert (found.count, found.faults, found.width) == (5, 1, WIDTH)
    np.testing.assert_array_equal(found.vectors, vectors(5).half().numpy())
    assert not found.vectors.flags.owndata and not found.vectors.flags.writeable
    assert found.entries([4, 0, 4]) == [entry(4), entry(0), entry(4)]
    assert found.column("digest") == [entry(number).digest for number in range(5)]
    assert found.fault_list == [Fault("dogs/1.jpg", "not a picture")]
    assert found.fault() is None


def test_a_part_may_be_empty(tmp_path: Path) -> None:
    found = written(tmp_path, 0)
    assert found.vectors.shape == (0, WIDTH) and found.entries([]) == [] and found.fault() is None


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    assert everything(written(tmp_path).folder) == everything(written(tmp_path, name="000001").folder)


def test_a_former_part_is_replaced(tmp_path: Path) -> None:
    written(tmp_path)
    assert written(tmp_path, 3).count == 3
    assert Part.open(tmp_path / "000000").entries([2]) == [entry(2)]
    assert [place.name for place in tmp_path.iterdir()] == ["000000"]


def test_ids_tell_source_content_and_box_apart() -> None:
    same = ("a", digest_of(b"x"), (0, 0, 4, 4))
    ids = {id_of(*same), id_of("b", *same[1:]), id_of("a", digest_of(b"y"), same[2]), id_of(*same[:2], (0, 0, 4, 5))}
    assert len(ids) == 4 and {len(each) for each in ids} == {16} and len(same[1]) == 32
    assert id_of(*same) == id_of(*same)


@pytest.mark.parametrize("bad", [vectors(4), vectors(5)[0], vectors(5) * 1e6, torch.full((5, WIDTH), torch.nan)])
def test_vectors_that_do_not_fit_are_refused(tmp_path: Path, bad: Tensor) -> None:
    with pytest.raises(ValueError, match="as many finite vectors"):
        write_part(tmp_path, "000000", bad, [entry(number) for number in range(5)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("after", range(5))
def test_a_part_that_is_half_written_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    synced: list[Path] = []

    def fails(path: Path) -> None:
        if len(synced) == after:
            raise OSError("no space left")
        synced.append(path)

    monkeypatch.setattr(part_file, "sync", fails)
    with pytest.raises(OSError, match="no space"):
        written(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(RetrievalError, match="000000 is missing"):
        Part.open(tmp_path / "000000")


def test_what_a_killed_process_leaves_is_no_part(tmp_path: Path) -> None:
    written(tmp_path).folder.rename(tmp_path / ".writing-abc")
    (tmp_path / ".writing-abc" / "part.json").unlink()
    with pytest.raises(RetrievalError, match="missing or damaged"):
        Part.open(tmp_path / ".writing-abc")
    assert written(tmp_path).count == 5


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("harm", ["missing", "cut", "flipped", "empty"])
def test_damage_is_found(tmp_path: Path, file: str, harm: str) -> None:
    damaged = written(tmp_path).folder / file
    content = damaged.read_bytes()
    match harm:
        case "missing":
            damaged.unlink()
        case "cut":
            damaged.write_bytes(content[:-1])
        case "flipped":
            damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case _:
            damaged.write_bytes(b"")
    fault = Part.open(damaged.parent).fault()
    assert fault is not None and file in fault and "000000" in fault


@pytest.mark.parametrize("file", ["vectors.npy", "entries.arrow"])
@pytest.mark.parametrize("content", [None, b"?", b"\x93NUMPY\x01\x00", b"ARROW1\0\0" + bytes(64)])
def test_files_that_cannot_be_read_are_said_so(tmp_path: Path, file: str, content: bytes | None) -> None:
    damaged = written(tmp_path)
    (damaged.folder / file).unlink()
    if content is not None:
        (damaged.folder / file).write_bytes(content)
    with pytest.raises(RetrievalError, match="000000 is damaged"):
        damaged.vectors if file == "vectors.npy" else damaged.entries([0])


def test_files_of_another_part_are_not_taken(tmp_path: Path) -> None:
    ours, other = written(tmp_path), written(tmp_path, 4, "000001")
    for file in ("vectors.npy", "entries.arrow"):
        (ours.folder / file).write_bytes((other.folder / file).read_bytes())
    with pytest.raises(RetrievalError, match="shape"):
        _ = ours.vectors
    with pytest.raises(RetrievalError, match="not 5 of ours"):
        ours.entries([0])


def test_pickles_and_other_numbers_are_not_opened(tmp_path: Path) -> None:
    ours = written(tmp_path)
    np.save(ours.folder / "vectors.npy", np.array([{"a": 1}] * 5, dtype=object), allow_pickle=True)
    with pytest.raises(RetrievalError, match="damaged"):
        _ = ours.vectors
    np.save(ours.folder / "vectors.npy", vectors(5).numpy())
    with pytest.raises(RetrievalError, match="damaged"):
        _ = Part.open(ours.folder).vectors


def test_infinite_vectors_are_found(tmp_path: Path) -> None:
    ours = written(tmp_path)
    spoiled = np.array(ours.vectors)
    spoiled[3, 3] = np.inf
    np.save(ours.folder / "vectors.npy", spoiled)
    facts = json.loads((ours.folder / "part.json").read_text())
    facts["hashes"]["vectors.npy"] = digest_of_file(ours.folder / "vectors.npy")
    (ours.folder / "part.json").write_text(json.dumps(facts))
    fault = Part.open(ours.folder).fault()
    assert fault is not None and "infinite" in fault


@pytest.mark.parametrize(
    "change",
    [
        {"count": -1},
        {"faults": -1},
        {"width": 0},
        {"count": "many"},
        {"count": None},
        {"hashes": []},
        {"hashes": {}},
        {"hashes": {"../../secret": "0", "entries.arrow": "0", "faults.json": "0"}},
    ],
)
def test_facts_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    file = written(tmp_path).folder / "part.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(RetrievalError, match="000000"):
        Part.open(file.parent)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'"count"', b"{}", b" " * 1_000_001])
def test_facts_that_are_none_are_refused(tmp_path: Path, content: bytes) -> None:
    file = written(tmp_path).folder / "part.json"
    file.write_bytes(content)
    with pytest.raises(RetrievalError, match="missing or damaged"):
        Part.open(file.parent)


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    write_synced(file, b"old")
    write_synced(file, b"new")
    assert file.read_bytes() == b"new" and [place.name for place in tmp_path.iterdir()] == ["facts.json"]


def test_parts_that_are_mapped_keep_no_file_open(tmp_path: Path) -> None:
    parts = [
        write_part(tmp_path, f"{number:06d}", vectors(3), [entry(row) for row in range(3)]) for number in range(30)
    ]
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    assert sum(float(part.vectors.astype(np.float32).sum()) for part in parts) != 0
    assert [len(part.entries([0])) for part in parts] == [1] * 30
    after = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    assert after - before < 5
