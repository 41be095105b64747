"""The same build by several processes; one start of Ray for all of it, since that alone takes seconds."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.retrieval.build import build
from sfumato.retrieval.cluster import Workers, build_on_cluster, filled_on_cluster
from sfumato.retrieval.embed import Maker
from sfumato.retrieval.entry import Entry
from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.index import build_index
from sfumato.retrieval.part import Part, blocks_of, write_part
from sfumato.retrieval.units import Stream
from sfumato.retrieval.verify import verify
from tests.retrieval.small import WIDTH, Pictures, encode, maker, tree

CORPUS = Pictures("many", 60, 3, broken=(4, 30, 31, 32))


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray on this machine: two workers, a small store, nothing reported."""
    library = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        library.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
        yield library
        library.shutdown()


def slow_maker(pids: Path) -> Maker:
    """As ``maker()``, but slow, and it leaves word of the process that it is in."""

    def slow(images: torch.Tensor) -> torch.Tensor:
        (pids / str(os.getpid())).touch()
        time.sleep(0.1)
        return encode(images)

    torch.set_num_threads(1)
    return replace(maker(), encode=slow)


def kill_one(pids: Path, parts: Path, killed: list[int]) -> None:
    """Once some parts are there, kill a worker that is at work."""
    while len(list(parts.glob("0*"))) < 5:
        time.sleep(0.01)
    victim = max(pids.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    os.kill(int(victim.name), signal.SIGKILL)
    killed.append(int(victim.name))


def test_a_killed_worker_changes_nothing(ray: Any, tmp_path: Path):
    build(tmp_path / "alone", CORPUS, maker())
    pids, killed, told = tmp_path / "pids", list[int](), list[int]()
    pids.mkdir()
    killer = threading.Thread(target=kill_one, args=(pids, tmp_path / "D" / "parts", killed))
    killer.start()
    report = build_on_cluster(
        tmp_path / "D", CORPUS, partial(slow_maker, pids), workers=Workers(2), advance=told.append
    )
    killer.join()
    workers = {int(path.name) for path in pids.iterdir()}
    assert killed[0] in workers and os.getpid() not in workers and len(workers) >= 3
    assert tree(tmp_path / "D") == tree(tmp_path / "alone")
    assert verify(tmp_path / "D") == []
    assert (report.entries, report.faults) == (56, 4) and sum(told) == 60


def test_it_goes_on_with_what_was_begun_alone(ray: Any, tmp_path: Path):
    build(tmp_path / "alone", CORPUS, maker())
    told: list[int] = []

    def stop(units: int) -> None:
        told.append(units)
        if len(told) > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "D", CORPUS, maker(), advance=stop)
    said: list[str] = []
    report = build_on_cluster(tmp_path / "D", CORPUS, maker, workers=Workers(1), say=said.append)
    assert said[0] == "6 of 20 parts are there already" and report.pictures == 42
    assert tree(tmp_path / "D") == tree(tmp_path / "alone")
    assert build_on_cluster(tmp_path / "D", CORPUS, maker).pictures == 0
    assert tree(tmp_path / "D") == tree(tmp_path / "alone")


@pytest.mark.parametrize("kind", ["ivf-fp16", "exact"])
def test_an_index_that_tasks_fill_in_shards_is_the_same(ray: Any, tmp_path: Path, kind: str):
    vectors = torch.randn(1500, WIDTH, generator=torch.Generator().manual_seed(0))
    for number, some in enumerate(vectors.split(400)):
        said = [Entry(f"{number:08x}{row:08x}", "a.png", "d" * 32, (0, 0, 1, 1), None, b"") for row in range(len(some))]
        write_part(tmp_path / "parts", f"{number:06d}", some, said)
    names = sorted(place.name for place in (tmp_path / "parts").iterdir())
    stream = Stream(partial(blocks_of, [Part.open(tmp_path / "parts" / name) for name in names]), *vectors.shape)
    recall = 1.0 if kind == "exact" else 0.9
    alone = build_index(tmp_path, stream, recall=recall, kind=kind)
    fill = filled_on_cluster(tmp_path, names, shards=3)
    assert build_index(tmp_path, stream, recall=recall, kind=kind, fill=fill) == alone
    assert {place.name for place in tmp_path.iterdir()} == {"parts", alone.file}


def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RetrievalError, match=r"needs Ray; run `pip install 'sfumato\[cluster\]'`"):
        build_on_cluster(tmp_path / "D", CORPUS, maker)
    assert not (tmp_path / "D").exists()


def test_there_is_one_worker_or_more():
    with pytest.raises(ValueError, match="one worker or more"):
        Workers(0)
