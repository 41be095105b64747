import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sfumato.retrieval.build import build, renew
from sfumato.retrieval.entry import Box, id_of
from sfumato.retrieval.memory import Memory, MemoryFacts, read_facts, write_facts
from sfumato.retrieval.part import write_part
from sfumato.retrieval.verify import verify
from tests.retrieval.small import Pictures, maker

CORPUS = Pictures("ten", 10, 4, broken=(9,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build(tmp_path / "D", CORPUS, maker())
    return tmp_path / "D"


def test_what_was_built_is_sound(folder: Path):
    told: list[int] = []
    assert verify(folder, advance=told.append) == [] and told == [1, 1, 1, 1]
    assert verify(folder, sample=1) == []


@pytest.mark.parametrize("file", ["vectors.npy", "entries.arrow", "faults.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_damaged_file_of_a_part_is_found(folder: Path, file: str, harm: str):
    path = folder / "parts" / "000001" / file
    content = path.read_bytes()
    match harm:
        case "flip":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "cut":
            path.write_bytes(content[:-1])
        case _:
            path.unlink()
    said = "has no" if harm == "delete" else "is damaged"
    (fault,) = verify(folder)
    assert f"the part 000001 {said}" in fault and file in fault


def test_every_fault_is_told(folder: Path):
    (folder / "parts" / "000000" / "part.json").write_text("{}")
    (folder / "parts" / "000002" / "vectors.npy").unlink()
    next(folder.glob("index-*")).unlink()
    faults = verify(folder)
    assert len(faults) == 3
    assert "000000 is missing or damaged" in faults[0] and "000002 has no vectors.npy" in faults[1]
    assert "is missing" in faults[2]


@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_a_damaged_index_is_found(folder: Path, harm: str):
    path = next(folder.glob("index-*"))
    content = path.read_bytes()
    path.write_bytes(content[:-1] if harm == "cut" else content[:-3] + b"\1" + content[-2:])
    (fault,) = verify(folder)
    assert path.name in fault and ("it is damaged" if harm == "cut" else "is not what was written") in fault


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (lambda facts: replace(facts, index=None), "has no index"),
        (lambda facts: replace(facts, parts=facts.parts[:2]), "index is of 9 entries"),
        (lambda facts: replace(facts, parts=(("000000", 3), *facts.parts[1:])), "000000 has 4 entries"),
        (lambda facts: replace(facts, parts=(*facts.parts, ("000009", 1))), "000009 is missing"),
    ],
)
def test_facts_that_are_not_those_of_the_parts_are_found(
    folder: Path, facts: Callable[[MemoryFacts], MemoryFacts], message: str
):
    write_facts(folder, facts(read_facts(folder)))
    assert any(message in fault for fault in verify(folder))


def test_a_folder_without_a_memory_is_one_fault(folder: Path):
    (folder / "memory.json").write_text(json.dumps({"format": 99}))
    (fault,) = verify(folder)
    assert "memory.json is damaged" in fault
    (folder / "memory.json").unlink()
    (fault,) = verify(folder)
    assert "holds no memory" in fault


def test_an_index_of_other_vectors_is_found(folder: Path):
    """Its file is what was written; what was written is wrong."""
    facts = read_facts(folder)
    part = Memory.open(folder).parts[2]
    rows = range(part.count)
    write_part(folder / "parts", "000002", torch.ones(part.count, 16), part.entries(rows), part.fault_list)
    (fault,) = verify(folder)
    assert fault == "the index does not find 1 of 9 rows by their own vectors, first 8"
    renew(folder, facts, 1.0)
    assert verify(folder) == []


def rewritten(folder: Path, box: Box | None = None, thumbnail: bytes | None = None, zero: bool = False) -> None:
    """Write the last part anew with something wrong in it, under its right hashes."""
    part = Memory.open(folder).parts[2]
    (entry,) = part.entries([0])
    if box:
        entry = replace(entry, box=box, id=id_of(entry.source, entry.digest, box))
    if thumbnail:
        entry = replace(entry, thumbnail=thumbnail)
    vectors = torch.zeros(1, 16) if zero else torch.from_numpy(part.vectors[:].copy())
    write_part(folder / "parts", "000002", vectors, [entry], part.fault_list)


def test_boxes_thumbnails_and_vectors_are_looked_at(folder: Path):
    rewritten(folder, box=(5, 5, 5, 9))
    assert any("box (5, 5, 5, 9) is none" in fault for fault in verify(folder))
    rewritten(folder, box=(0, 0, 4, 4))
    assert verify(folder) == []
    rewritten(folder, thumbnail=b"RIFF")
    (fault,) = verify(folder)
    assert fault.startswith("the thumbnail of the entry") and "not a PNG, JPEG or WebP" in fault
    rewritten(folder, zero=True)
    assert "the part 000002 has an embedding of length 0" in verify(folder)


def test_ids_are_of_their_pictures_and_of_one_entry(folder: Path):
    parts = Memory.open(folder).parts
    (entry,) = parts[0].entries([1])
    vectors = torch.from_numpy(parts[2].vectors[:].copy())
    write_part(folder / "parts", "000002", vectors, [entry], parts[2].fault_list)
    assert verify(folder) == [f"the id {entry.id} belongs to 2 entries"]
    write_part(folder / "parts", "000002", vectors, [replace(entry, id="../../etc")], parts[2].fault_list)
    assert verify(folder) == ["the part 000002 has an entry '../../etc' whose id does not follow from its picture"]
