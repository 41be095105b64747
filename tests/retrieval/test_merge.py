from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.index import build_index, finish_index, open_index, unit
from sfumato.retrieval.merge import (
    KINDS,
    add_shard,
    kind_for,
    kind_of,
    merge_shards,
    read_shard,
    train_coarse,
    write_shard,
)
from sfumato.retrieval.recall import Recall, Truth, fewest_probes, truth_of
from sfumato.retrieval.units import Stream

COUNT, WIDTH = 1500, 8


def stream(vectors: Tensor, size: int = 400) -> Stream:
    return Stream(lambda: iter(vectors.split(size)), *vectors.shape)


def bytes_of(index: object) -> bytes:
    return faiss.serialize_index(index).tobytes()


@pytest.fixture(scope="module")
def vectors() -> Tensor:
    return torch.randn(COUNT, WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", KINDS)
def test_shards_merge_to_what_one_go_gives(vectors: Tensor, kind: str) -> None:
    coarse = train_coarse(stream(vectors), kind)
    empty = bytes_of(coarse)
    whole = add_shard(coarse, stream(vectors))
    shards = [add_shard(coarse, stream(part)) for part in vectors.split((600, 0, 899, 1))]
    merged = merge_shards(coarse, iter(shards))
    assert merged.ntotal == COUNT and kind_of(merged) == kind
    queries = unit(torch.randn(20, WIDTH)).numpy()
    for ours, theirs in zip(merged.search(queries, 10), whole.search(queries, 10), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert bytes_of(merged) == bytes_of(whole)
    assert bytes_of(coarse) == empty, "neither filling nor merging changes what was trained"


@pytest.mark.parametrize("kind", ["exact", "ivf-fp16"])
def test_workers_that_share_files_build_the_same_index(tmp_path: Path, vectors: Tensor, kind: str) -> None:
    recall = 1.0 if kind == "exact" else 0.9
    whole = build_index(tmp_path, stream(vectors), recall=recall, kind=kind)
    truth = truth_of(stream(vectors))
    write_shard(train_coarse(stream(vectors), kind, left_out=truth.rows), tmp_path / "coarse")
    files = [tmp_path / f"shard-{number}" for number in range(3)]
    for file, part in zip(files, vectors.split(500), strict=True):
        write_shard(add_shard(read_shard(tmp_path / "coarse"), stream(part)), file)
    merged = merge_shards(read_shard(tmp_path / "coarse"), map(read_shard, files))
    assert finish_index(tmp_path, merged, truth, recall) == whole
    assert len(open_index(tmp_path, whole).search(unit(vectors[:3]), 4)[0]) == 3


def test_shards_of_another_training_are_refused(vectors: Tensor) -> None:
    coarse, other = (train_coarse(stream(vectors), "ivf-fp16", seed=seed) for seed in (0, 1))
    with pytest.raises(RetrievalError, match="shard 1 "):
        merge_shards(coarse, [add_shard(each, stream(vectors)) for each in (coarse, other)])
    with pytest.raises(RetrievalError, match="shard 0 "):
        merge_shards(coarse, [train_coarse(stream(vectors), "exact")])


def test_the_queries_are_not_learned_from(vectors: Tensor) -> None:
    spoiled, rows = vectors.clone(), np.arange(0, COUNT, 3)
    spoiled[rows] = 100 * torch.randn(len(rows), WIDTH)
    one, other = (train_coarse(stream(each), "ivf-flat", left_out=rows) for each in (vectors, spoiled))
    assert bytes_of(one) == bytes_of(other)


def test_a_shard_is_there_or_not(tmp_path: Path, vectors: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    index, file = add_shard(train_coarse(stream(vectors), "exact"), stream(vectors)), tmp_path / "shard"
    digest, size = write_shard(index, file)
    assert (len(digest), size) == (64, file.stat().st_size)

    def failed(self: Path, target: Path) -> None:
        raise OSError("gone")

    monkeypatch.setattr(Path, "replace", failed)
    with pytest.raises(OSError, match="gone"):
        write_shard(train_coarse(stream(vectors), "exact"), file)
    assert read_shard(file).ntotal == COUNT and len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_no_shard(tmp_path: Path) -> None:
    for content in (b"", b"IxFI", b"IwSq" + 200 * b"\xff"):
        (tmp_path / "shard").write_bytes(content)
        with pytest.raises(RetrievalError, match="damaged"):
            read_shard(tmp_path / "shard")
    with pytest.raises(RetrievalError, match="missing"):
        read_shard(tmp_path / "other")


def test_kinds_by_size() -> None:
    sizes = (1, 100_000, 100_001, 30_000_000, 30_000_001)
    assert [kind_for(size, 0.95) for size in sizes] == ["exact", "exact", "ivf-fp16", "ivf-fp16", "ivf-pq"]
    assert {kind_for(size, 1.0) for size in sizes} == {"exact"}


def test_recall_counts_by_hand() -> None:
    rows, queries = np.array([4, 7]), np.zeros((2, 2), np.float32)
    truth = Truth(queries, rows, np.array([[1, 2, 3], [5, 6, -1]]), count=2)
    answers = {"all": [[4, 3, 1], [7, 6, 5]], "half": [[4, 1, 9], [6, 8, -1]], "none": [[8, 9, 1], [-1, -1, -1]]}
    found = {name: truth.recall(lambda _, k, rows=rows: np.array(rows)[:, :k]) for name, rows in answers.items()}
    assert [found[name].share for name in answers] == [1.0, 0.5, 0.0]
    assert found["all"].high == 1 and 0 < found["all"].low < 1, "two queries prove little"
    assert (found["half"].low, found["half"].high) == pytest.approx((0.0945, 0.9055), abs=1e-3)


def test_the_truth_is_the_brute_force(vectors: Tensor) -> None:
    truth = truth_of(stream(vectors, 333), count=5, queries=200, seed=2)
    cosines = unit(vectors).double() @ unit(vectors).double().T
    wanted = cosines.fill_diagonal_(-2)[torch.from_numpy(truth.rows)].topk(5).indices.numpy()
    assert len(set(truth.rows.tolist())) == 200 and (np.diff(truth.rows) > 0).all()
    np.testing.assert_array_equal(truth.nearest[:, :5], wanted)
    assert (truth.nearest[:, 5:] == -1).all(), "nothing beyond the fifth is as near"


def test_the_fewest_probes_are_found() -> None:
    asked: list[int] = []

    def recall_at(probes: int) -> Recall:
        asked.append(probes)
        return Recall(min(probes / 70, 0.9), 0.0, 1.0, 10, 100)

    for wanted, fewest in ((0.01, 1), (0.5, 35), (0.6, 42), (0.9, 63)):
        found = fewest_probes(recall_at, 100, wanted)
        assert found is not None and found[0] == fewest and found[1].share == fewest / 70
    assert len(asked) < 50
    assert fewest_probes(recall_at, 100, 0.95) is None and max(asked) == 100


def test_wrong_arguments_are_refused(vectors: Tensor) -> None:
    with pytest.raises(ValueError, match="there is no index 'hnsw'"):
        train_coarse(stream(vectors), "hnsw")
    with pytest.raises(ValueError, match="cannot measure"):
        truth_of(stream(vectors[:10]))
    with pytest.raises(ValueError, match="cannot measure"):
        truth_of(stream(vectors), queries=0)


def test_blocks_begin_anew(vectors: Tensor) -> None:
    once: Callable[[], Iterator[Tensor]] = iter(vectors.split(400)).__iter__
    with pytest.raises(RetrievalError, match="there are 0 vectors"):
        truth_of(Stream(once, COUNT, WIDTH))
