"""Neighbours of training pictures: the nearest, without the picture itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.memory import Found
from sfumato.retrieval.neighbours import check_disjoint, neighbours_of


class Exact:
    """A memory that is searched by one product of matrices."""

    def __init__(self, vectors: Tensor, digests: list[str] | None = None) -> None:
        self.vectors = torch.nn.functional.normalize(vectors, dim=1)
        self._digests = digests or [f"{row:032x}" for row in range(len(vectors))]

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Tensor, count: int) -> Found:
        cosines, rows = (torch.nn.functional.normalize(queries, dim=1) @ self.vectors.T).topk(count)
        return Found(rows, cosines)

    def digests(self) -> list[str]:
        return self._digests


def _random(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 16, generator=torch.Generator().manual_seed(seed))


def test_they_are_the_nearest() -> None:
    memory, pictures = Exact(_random(100)), _random(30, 1)
    assert torch.equal(neighbours_of(memory, pictures, 5, batch=7), memory.search(pictures, 5).rows)


def test_a_picture_of_the_memory_is_not_its_own_neighbour() -> None:
    vectors = _random(50)
    found = neighbours_of(Exact(vectors), 3 * vectors, 4)
    assert not (found == torch.arange(50)[:, None]).any()
    assert torch.equal(found, Exact(vectors).search(vectors, 5).rows[:, 1:])


def test_copies_are_left_out_however_far_their_vectors_are() -> None:
    vectors = _random(20)
    memory = Exact(vectors)
    nearest = int(memory.search(vectors[:1], 2).rows[0, 1])
    digests = memory.digests()[nearest : nearest + 1]
    found = neighbours_of(memory, vectors[:1], 3, digests=digests, near=1.0)
    assert nearest not in found.tolist()[0]


def test_near_duplicates_are_left_out_even_when_they_are_many() -> None:
    centre = _random(1)
    memory = Exact(torch.cat([centre + 1e-4 * _random(40, 2), _random(10, 3)]))
    found = neighbours_of(memory, centre, 5)
    assert bool((found >= 40).all())


def test_too_few_that_are_no_copies_is_told() -> None:
    with pytest.raises(RetrievalError, match="only 9 neighbours"):
        neighbours_of(Exact(_random(10)), _random(10)[:1], 10)


def test_a_memory_of_the_training_pictures_is_refused() -> None:
    memory = Exact(_random(3), ["a" * 32, "b" * 32, "c" * 32])
    check_disjoint(memory, ["d" * 32, "e" * 32])
    with pytest.raises(RetrievalError, match="1 of the 2 training pictures"):
        check_disjoint(memory, ["b" * 32, "e" * 32])


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="2 vectors and 1 digests"):
        neighbours_of(Exact(_random(9)), _random(2), 1, digests=["a"])
    with pytest.raises(ValueError, match="near"):
        neighbours_of(Exact(_random(9)), _random(2), 1, near=0.0)
