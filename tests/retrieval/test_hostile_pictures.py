"""A thousand hostile files beside good ones: nothing is raised, nothing is lost, and memory stays below a cap."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sfumato.core.image import PictureError, open_picture
from sfumato.retrieval.corpus import Item, open_corpus
from sfumato.retrieval.item import label
from tests.retrieval.hostile import write_hostile
from tests.retrieval.pictures import write_good, write_odd

HOSTILE, GOOD = 1000, 20
CAP = 128
"""Megabytes over what the libraries take. The largest thing that a file of the set can make a reader hold is 64 MB of
texts (Pillow's own cap on a PNG's), and again as much while they are read; any picture over 32 million pixels, all of
which would need more, is refused before it is decoded."""

_READ = """
import json, sys
from pathlib import Path
from sfumato.core.image import PictureError, open_picture
from sfumato.retrieval.corpus import Item, open_corpus
from sfumato.retrieval.entry import digest_of
from sfumato.retrieval.patches import Crops, cut, thumbnail

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))

before, good, faults = peak(), [], {}
corpus = open_corpus(sys.argv[1], size=256)
for part in corpus.slices:
    for found in corpus.read(part):
        if not isinstance(found, Item):
            faults[found.source] = found.reason
            continue
        try:
            picture = open_picture(found.content)
        except PictureError as error:
            faults[found.source] = str(error)
            continue
        for box in Crops().boxes(*picture.size, digest_of(found.content)):
            assert cut(picture, box, 32).isfinite().all() and thumbnail(picture, box)
        good.append(found.source)
print(json.dumps({"good": good, "faults": faults, "peak": peak() - before}))
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("hostile")
    names = {
        "hostile": [label(name) for name in write_hostile(folder, HOSTILE)],
        "wanted": write_good(folder, GOOD) + [f"odd/{name}" for name in write_odd(folder / "odd")],
    }
    run = subprocess.run([sys.executable, "-c", _READ, str(folder)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    assert not run.stderr, "nothing is printed, no warning either"
    return {**names, **json.loads(run.stdout)}


def test_every_good_picture_comes_out(outcome: dict[str, Any]) -> None:
    assert sorted(outcome["good"]) == sorted(outcome["wanted"])


def test_every_hostile_file_is_a_fault_with_a_sentence(outcome: dict[str, Any]) -> None:
    assert len(set(outcome["hostile"])) == HOSTILE
    assert set(outcome["faults"]) == set(outcome["hostile"])
    for reason in outcome["faults"].values():
        assert 10 < len(reason) < 300 and reason.isprintable() and "/tmp" not in reason


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_memory_stays_below_the_cap(outcome: dict[str, Any]) -> None:
    assert outcome["peak"] < CAP


def test_hostile_files_are_the_same_again(tmp_path: Path) -> None:
    names = [write_hostile(tmp_path / place, 60) for place in ("one", "two")]
    assert names[0] == names[1]
    other = write_hostile(tmp_path / "three", 60, seed=1)
    contents = [
        [
            path.read_bytes()
            for path in sorted((tmp_path / place).rglob("*"))
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 10**7
        ]
        for place in ("one", "two", "three")
    ]
    assert contents[0] == contents[1] != contents[2] and len(other) == 60


def test_odd_pictures_are_read_up_to_the_number_of_pixels_allowed(tmp_path: Path) -> None:
    names = write_odd(tmp_path)
    corpus = open_corpus(str(tmp_path))
    for part in corpus.slices:
        for found in corpus.read(part):
            assert isinstance(found, Item)
            picture = open_picture(found.content)
            with pytest.raises(PictureError, match="million allowed"):
                open_picture(found.content, max_pixels=picture.width * picture.height - 1)
    assert len(names) == sum(part.count for part in corpus.slices)
