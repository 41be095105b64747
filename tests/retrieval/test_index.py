import dataclasses
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.index import Index, IndexFacts, build_index, open_index, unit
from sfumato.retrieval.nearest import nearest
from sfumato.retrieval.units import Stream

WIDTH = 16


def clustered(count: int, seed: int = 0, width: int = WIDTH) -> Tensor:
    """Vectors around 40 centres, of lengths from 0.1 to 10."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(40, width, generator=torch.Generator().manual_seed(99))
    chosen = torch.randint(40, (count,), generator=generator)
    lengths = 10 ** (2 * torch.rand(count, 1, generator=generator) - 1)
    return (centres[chosen] + 0.6 * torch.randn(count, width, generator=generator)) * lengths


def stream(vectors: Tensor, size: int = 700) -> Stream:
    return Stream(lambda: iter(vectors.split(size)), *vectors.shape)


def built(folder: Path, vectors: Tensor, recall: float = 1.0, kind: str | None = None, seed: int = 0) -> IndexFacts:
    return build_index(folder, stream(vectors), recall=recall, kind=kind, seed=seed)


def opened(folder: Path, vectors: Tensor, recall: float = 1.0, kind: str | None = None) -> Index:
    return open_index(folder, built(folder, vectors, recall, kind))


def brute(vectors: Tensor, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Rows and cosines by a product of matrices."""
    cosines, rows = (unit(queries).double() @ unit(vectors).double().T).topk(count, dim=1)
    return rows, cosines.float()


@pytest.fixture(scope="module")
def large() -> Tensor:
    return clustered(3000)


@pytest.fixture(scope="module")
def approximate(large: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Index:
    return opened(tmp_path_factory.mktemp("fp16"), large, 0.95, "ivf-fp16")


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(request.param)
    yield request.param
    faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("count", [1, 7, 150])
def test_exact_search_equals_brute_force(tmp_path: Path, threads: int, count: int) -> None:
    vectors, queries = torch.randn(2000, 32), torch.randn(50, 32)
    rows, cosines = opened(tmp_path, vectors).search(unit(queries), count)
    wanted, exact = brute(vectors, queries, count)
    found = (unit(vectors)[rows] * unit(queries)[:, None]).sum(2)
    torch.testing.assert_close(found, exact, rtol=0, atol=3e-6)  # within 1e-6 the smaller row comes first
    assert (rows == wanted).float().mean() > 0.99
    torch.testing.assert_close(cosines, found, rtol=0, atol=1e-6)
    assert (rows.dtype, cosines.dtype) == (torch.int64, torch.float32)


@pytest.mark.parametrize("factor", [1e-30, 2.0**-8, 3.7, 1e30])
def test_the_length_of_queries_does_not_matter(tmp_path: Path, factor: float) -> None:
    index, queries = opened(tmp_path, torch.randn(500, WIDTH)), torch.randn(8, WIDTH)
    rows, cosines = index.search(unit(queries), 5)
    scaled_rows, scaled_cosines = index.search(unit(factor * queries), 5)
    assert torch.equal(rows, scaled_rows)
    torch.testing.assert_close(cosines, scaled_cosines, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["exact", "ivf-fp16"])
def test_queries_in_chunks_find_what_they_find_together(tmp_path: Path, large: Tensor, kind: str) -> None:
    index = opened(tmp_path, large, 1.0 if kind == "exact" else 0.9, kind)
    queries = unit(torch.randn(4100, WIDTH))  # more than are searched for at a time
    rows, cosines = index.search(queries, 3)
    for size in (1, 19, 1000):
        parts = [index.search(part, 3) for part in queries[-1100:].split(size)]
        assert torch.equal(torch.cat([part[0] for part in parts]), rows[-1100:])
        torch.testing.assert_close(torch.cat([part[1] for part in parts]), cosines[-1100:], rtol=0, atol=1e-6)


def test_a_row_finds_itself_first_and_copies_in_their_order(tmp_path: Path) -> None:
    vectors = torch.cat([torch.randn(30, WIDTH)] * 4)
    rows, cosines = opened(tmp_path, vectors).search(unit(vectors[:30]), 4)
    assert torch.equal(rows, torch.arange(30)[:, None] + torch.tensor([0, 30, 60, 90]))
    assert cosines.max() <= 1 and cosines.min() > 0.9999


def test_copies_are_in_their_order_in_large_batches_too(tmp_path: Path) -> None:
    """Matrix products give copies at different places cosines that differ in the last bit."""
    vectors = torch.randn(700, 384, generator=torch.Generator().manual_seed(0)).half().float()
    index = opened(tmp_path, torch.cat([vectors] * 3))
    for count in (1, 2, 3):
        rows, _ = index.search(unit(vectors), count)
        assert torch.equal(rows, torch.arange(700)[:, None] + 700 * torch.arange(count))


class Noisy:
    """An index of 40 rows, all but the last equally near to any query, whose cosines are not exact."""

    ntotal = 40

    def search(self, asked: np.ndarray, wide: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(3)
        cosines = np.append(0.5 + 2e-7 * generator.random((len(asked), 39)), np.full((len(asked), 1), 0.4), 1)
        order = np.argsort(-cosines, 1)[:, :wide]
        return np.take_along_axis(cosines, order, 1).astype(np.float32), order


@pytest.mark.parametrize("count", [1, 7, 30, 39, 40])
def test_cosines_that_differ_in_the_last_bits_are_equal(count: int) -> None:
    rows, cosines = nearest(Noisy(), np.zeros((5, 2), np.float32), count)
    assert (rows == np.arange(count)).all()
    assert (cosines[:, :39] >= 0.5).all() and cosines.shape == (5, count)


@pytest.mark.parametrize("kind", ["exact", "ivf-flat"])
@pytest.mark.parametrize("count", [1, 2, 6, 40])
def test_the_smallest_of_equal_rows_come_at_the_last_place_too(tmp_path: Path, kind: str, count: int) -> None:
    """Whatever the place where they lie: the nearest is last, and 300 copies of another one are everywhere."""
    vectors = clustered(1500, width=8)
    places = torch.randperm(1499)[:300].sort().values
    query = unit(vectors[-1:])
    vectors[places] = query + 0.3 * unit(torch.ones(1, 8))
    index = opened(tmp_path, vectors, 1.0 if kind == "exact" else 0.9, kind)
    others = (unit(vectors) @ query[0] > (unit(vectors[places[:1]]) @ query[0])).nonzero()[:, 0].tolist()
    first = [row for row in others if row not in places.tolist()]
    rows, cosines = index.search(query, len(first) + count)
    assert rows[0, len(first) :].tolist() == places[:count].tolist()
    assert set(rows[0, : len(first)].tolist()) == set(first) and (cosines.diff() <= 0).all()


def test_a_row_that_comes_late_and_is_near_takes_none_of_the_first(tmp_path: Path) -> None:
    half = [0.5, 3**0.5 / 2]
    vectors = torch.tensor([half, half, [0.9, 0.19**0.5]])
    rows, _ = opened(tmp_path, vectors).search(torch.tensor([[1.0, 0.0]]), 2)
    assert rows.tolist() == [[2, 0]]


def test_blocks_may_be_cut_anywhere(tmp_path: Path, large: Tensor) -> None:
    found = {build_index(tmp_path, stream(large, size)).digest for size in (37, 700, 3000)}
    assert len(found) == 1


@pytest.mark.parametrize("kind", ["ivf-flat", "ivf-fp16", "ivf-pq"])
def test_the_recall_of_the_facts_is_that_of_a_brute_force(tmp_path: Path, kind: str) -> None:
    vectors = clustered(1500, width=8)
    index = opened(tmp_path, vectors, 0.9, kind)
    facts = index.facts
    assert (facts.kind, facts.entries, facts.width, facts.count, facts.queries) == (kind, 1500, 8, 10, 375)
    assert facts.recall >= 0.9 and facts.low <= facts.recall <= facts.high
    wanted, _ = brute(vectors, vectors, 11)
    rows, _ = index.search(unit(vectors), 11)
    shares = [
        len((set(ours) - {row}) & (set(theirs) - {row})) / 10
        for row, (ours, theirs) in enumerate(zip(rows.tolist(), wanted.tolist(), strict=True))
    ]
    assert sum(shares) / len(shares) == pytest.approx(facts.recall, abs=0.02), "of all rows, not of the sample alone"


def test_one_probe_fewer_finds_too_little(tmp_path: Path, large: Tensor, approximate: Index) -> None:
    loose = built(tmp_path, large, 0.7, "ivf-fp16")
    assert 1 <= loose.probes < approximate.facts.probes
    assert 0.7 <= loose.recall < approximate.facts.recall


def test_cosines_of_half_precision_are_those_of_the_vectors(large: Tensor, approximate: Index) -> None:
    queries = torch.randn(64, WIDTH)
    rows, cosines = approximate.search(unit(queries), 10)
    exact = (unit(queries)[:, None] * unit(large)[rows]).sum(2)
    torch.testing.assert_close(cosines, exact, rtol=0, atol=2**-11)
    assert (cosines.diff(dim=1) <= 0).all()


def test_threads_do_not_change_what_is_found(large: Tensor, approximate: Index, threads: int) -> None:
    queries = unit(clustered(300, seed=5))
    rows, cosines = approximate.search(queries, 10)
    faiss.omp_set_num_threads(3 - threads)
    other_rows, other_cosines = approximate.search(queries, 10)
    assert torch.equal(rows, other_rows) and torch.equal(cosines, other_cosines)


@pytest.mark.parametrize("kind", ["ivf-flat", "ivf-fp16", "ivf-pq"])
def test_as_many_as_there_are_can_be_asked_for(tmp_path: Path, kind: str) -> None:
    vectors = clustered(1100, width=8)
    index = opened(tmp_path, vectors, 0.5, kind)
    few, all_of_them = index.search(unit(vectors[:3]), 40)[0], index.search(unit(vectors[:3]), 1100)[0]
    assert few.min() >= 0
    assert torch.equal(all_of_them.sort(dim=1).values, torch.arange(1100).expand(3, 1100))


def test_a_full_recall_is_exact_and_so_is_a_small_memory(tmp_path: Path, large: Tensor) -> None:
    assert built(tmp_path, large).kind == built(tmp_path, large, 0.9).kind == "exact"
    assert built(tmp_path, large, 0.9) == built(tmp_path, large)


@pytest.mark.parametrize(("apart", "kind"), [(1e-2, "ivf-flat"), (1e-4, "exact")])
def test_what_codes_cannot_tell_apart_gets_a_finer_index(tmp_path: Path, apart: float, kind: str) -> None:
    vectors = torch.ones(1200, 8) + apart * torch.randn(1200, 8)
    facts = built(tmp_path, vectors, 0.99, "ivf-pq")
    assert facts.kind == kind and facts.recall >= 0.99
    assert [file.name for file in tmp_path.iterdir()] == [facts.file], "what was tried leaves nothing"


def test_copies_are_as_good_as_one_another(tmp_path: Path) -> None:
    facts = built(tmp_path, torch.cat([clustered(100)] * 15), 0.95, "ivf-flat")
    assert facts.recall >= 0.95 and facts.probes < 20


def test_the_same_vectors_and_seed_give_the_same_file(tmp_path: Path, large: Tensor, threads: int) -> None:
    one, same = (built(tmp_path, large, 0.9, "ivf-fp16") for _ in range(2))
    faiss.omp_set_num_threads(3 - threads)
    assert one == same == built(tmp_path, large, 0.9, "ivf-fp16")
    assert built(tmp_path, large, 0.9, "ivf-fp16", seed=1).digest != one.digest


def test_the_file_is_named_by_its_hash_and_nothing_is_left_beside_it(tmp_path: Path, large: Tensor) -> None:
    facts = built(tmp_path, large)
    assert facts.file == f"index-{facts.digest[:16]}.faiss"
    assert [file.name for file in tmp_path.iterdir()] == [facts.file]
    assert (tmp_path / facts.file).stat().st_size == facts.size


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, large: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        built(tmp_path, large)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("recall", [1.0, 0.9])
def test_a_vector_without_direction_is_named(tmp_path: Path, large: Tensor, value: float, recall: float) -> None:
    broken = large.clone()
    broken[1234] = value
    with pytest.raises(RetrievalError, match="row 1234 "):
        built(tmp_path, broken, recall, None if recall == 1 else "ivf-fp16")
    with pytest.raises(ValueError, match="no direction"):
        unit(broken)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("entries", "width"), [(2999, WIDTH), (3001, WIDTH), (3000, WIDTH + 1)])
def test_other_vectors_than_were_promised(tmp_path: Path, large: Tensor, entries: int, width: int) -> None:
    with pytest.raises(RetrievalError, match="vectors"):
        build_index(tmp_path, Stream(stream(large).blocks, entries, width))


@pytest.mark.parametrize(
    ("entries", "recall", "kind"),
    [(0, 1.0, None), (3000, 0.0, None), (3000, 1.1, None), (3000, 1.0, "ivf-fp16"), (3000, 0.9, "hnsw")],
)
def test_wrong_arguments_are_refused(tmp_path: Path, large: Tensor, entries: int, recall: float, kind: str) -> None:
    with pytest.raises(ValueError, match="recall"):
        build_index(tmp_path, Stream(stream(large).blocks, entries, WIDTH), recall=recall, kind=kind)


def test_too_few_for_lists(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="make an exact one"):
        built(tmp_path, clustered(1000), 0.9, "ivf-fp16")


def test_wrong_queries_are_refused(approximate: Index) -> None:
    with pytest.raises(ValueError, match="queries must be"):
        approximate.search(torch.ones(2, WIDTH + 1), 1)
    for count in (0, 3001):
        with pytest.raises(ValueError, match="3000 entries"):
            approximate.search(unit(torch.ones(2, WIDTH)), count)
    rows, cosines = approximate.search(torch.empty(0, WIDTH), 4)
    assert rows.shape == cosines.shape == (0, 4)


def test_unit_keeps_shapes_and_takes_other_numbers() -> None:
    vectors = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(unit(vectors).norm(dim=-1), torch.ones(2, 3, 4))
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        assert unit(vectors.to(kind)).dtype == torch.float32
    assert unit(vectors[0, 0, 0]).shape == (5,) and unit(torch.empty(0, 5)).shape == (0, 5)
    assert not unit(vectors.requires_grad_()).requires_grad


@pytest.mark.parametrize(
    "name", ["../index-0123456789abcdef.faiss", "/etc/passwd", "index.faiss", "", "index-0.faiss\n"]
)
def test_a_name_that_leads_elsewhere(tmp_path: Path, large: Tensor, name: str) -> None:
    with pytest.raises(RetrievalError, match="cannot be called"):
        open_index(tmp_path, dataclasses.replace(built(tmp_path, large), file=name))


def test_a_missing_file(tmp_path: Path, large: Tensor) -> None:
    facts = built(tmp_path, large)
    (tmp_path / facts.file).unlink()
    with pytest.raises(RetrievalError, match="missing"):
        open_index(tmp_path, facts)


@pytest.mark.parametrize("kind", ["exact", "ivf-fp16"])
def test_a_file_that_is_cut_short_or_something_else(tmp_path: Path, large: Tensor, kind: str) -> None:
    facts = built(tmp_path, large, 1.0 if kind == "exact" else 0.9, kind)
    file = tmp_path / facts.file
    content = file.read_bytes()
    for left in (0, 3, 40, facts.size // 2, facts.size - 1):
        file.write_bytes(content[:left])
        with pytest.raises(RetrievalError, match="bytes and not"):
            open_index(tmp_path, facts)
        with pytest.raises(RetrievalError):
            open_index(tmp_path, dataclasses.replace(facts, size=left, entries=1))
    file.write_bytes(b"\0" * facts.size)
    with pytest.raises(RetrievalError, match="damaged"):
        open_index(tmp_path, facts)


@pytest.mark.parametrize(
    "other",
    [{"entries": 2999}, {"width": 17}, {"kind": "ivf-fp16"}, {"probes": 3}],
    ids=lambda other: next(iter(other)),
)
def test_facts_of_another_index(tmp_path: Path, large: Tensor, other: dict[str, int]) -> None:
    with pytest.raises(RetrievalError, match="not the index of this memory"):
        open_index(tmp_path, dataclasses.replace(built(tmp_path, large), **other))


def test_an_index_of_distances_is_none_of_ours(tmp_path: Path, large: Tensor) -> None:
    facts = built(tmp_path, large)
    distances = faiss.IndexFlatL2(WIDTH)
    distances.add(large.numpy())
    faiss.write_index(distances, str(tmp_path / facts.file))
    with pytest.raises(RetrievalError, match="not the index of this memory"):
        open_index(tmp_path, facts)


@pytest.mark.parametrize(
    "wrong", [{"recall": 1.5}, {"low": float("nan")}, {"entries": -1}, {"entries": "3"}, {"file": 3}, {"recall": "1"}]
)
def test_facts_that_cannot_be(tmp_path: Path, large: Tensor, wrong: dict[str, object]) -> None:
    facts = built(tmp_path, large)
    with pytest.raises((ValueError, TypeError)):
        IndexFacts(**{**dataclasses.asdict(facts), **wrong})
