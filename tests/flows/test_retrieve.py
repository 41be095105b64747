"""From queries to contexts: what is in them, whose draws they follow, and queries that nobody made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sfumato.core.noise import Noise
from sfumato.flows.retrieve import Recall, Unasked, recall, unasked
from sfumato.retrieval.memory import Memory
from tests.retrieval.random_memory import counted_by_hand, normal, remembered

COUNT = 60


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    return remembered(tmp_path_factory.mktemp("memory"), 3 * normal(COUNT, 0))


def test_the_three_fillings(memory: Memory) -> None:
    queries, noise = normal(2, 1), Noise([0, 1])
    near = memory.search(queries, 4)
    alone = recall(memory, queries, Recall(4, "query"), noise)
    found = recall(memory, queries, Recall(4, "neighbours"), noise)
    both = recall(memory, queries, Recall(4, "both"), noise)
    assert torch.equal(alone.vectors, queries[:, None]) and alone.rows.shape == (2, 0)
    assert torch.equal(found.rows, near.rows) and torch.equal(found.cosines, near.cosines)
    assert torch.equal(found.vectors, memory.vectors(near.rows))
    assert torch.equal(both.rows, near.rows[:, :3])
    assert torch.equal(both.vectors, torch.cat([queries[:, None], found.vectors[:, :3]], 1))


def test_one_picture_of_both_is_the_query_alone(memory: Memory) -> None:
    assert torch.equal(recall(memory, normal(1, 1), Recall(1, "both"), Noise([0])).vectors[:, 0], normal(1, 1))


def test_a_pool_is_drawn_from_by_seed(memory: Memory) -> None:
    queries, how = normal(1, 1).expand(30, -1), Recall(3, "neighbours", pool=10)
    found = recall(memory, queries, how, Noise(range(30)))
    allowed = set(memory.search(queries[:1], 10).rows[0].tolist())
    drawn = [tuple(rows) for rows in found.rows.tolist()]
    assert {row for rows in drawn for row in rows} == allowed
    assert len(set(drawn)) > 10 and all(len(set(rows)) == 3 for rows in drawn)
    assert bool((found.cosines.diff(dim=1) <= 0).all())
    again = recall(memory, queries[:1], how, Noise([7]))
    assert torch.equal(again.rows[0], found.rows[7])


def test_a_pool_as_large_as_the_context_draws_nothing(memory: Memory) -> None:
    queries = normal(1, 1)
    drawn, plain = (recall(memory, queries, Recall(3, pool=pool), Noise([5])) for pool in (3, 0))
    assert torch.equal(drawn.rows, plain.rows)


def test_a_query_that_nobody_made_finds_itself_first(memory: Memory) -> None:
    queries = unasked(memory, normal(50, 2), Unasked(), Noise(range(20)))
    found = recall(memory, queries, Recall(4), Noise(range(20)))
    assert torch.equal(found.vectors[:, 0], queries)
    assert bool((found.cosines[:, 0] > 1 - 1e-5).all())
    alone = unasked(memory, normal(50, 2), Unasked(), Noise([4]))
    assert torch.equal(alone[0], queries[4])


def test_draws_follow_p_d_of_the_training_pictures_and_of_the_memory(memory: Memory, tmp_path: Path) -> None:
    """p_D is counted with all cosines; with other training pictures, or one entry more, another one is followed."""
    draws, middle = 4000, normal(1, 3)
    training, others = normal(50, 2) + middle, normal(50, 2) - middle
    larger = remembered(tmp_path, torch.cat([3 * normal(COUNT, 0), middle]))

    def frequencies(memory: Memory, training: Tensor) -> Tensor:
        queries = unasked(memory, training, Unasked(neighbours=4), Noise(range(draws)))
        entries = larger.vectors(torch.arange(len(larger)))
        rows = (queries[:, None] == entries).all(2).double().argmax(1)
        return torch.bincount(rows, minlength=len(larger)).double() / draws

    def off(found: Tensor, wanted: Tensor) -> float:
        """The largest deviation of an entry, in units of the spread that its draws have."""
        wanted = torch.nn.functional.pad(wanted, (0, len(larger) - len(wanted)))
        return float(((found - wanted).abs() / (wanted * (1 - wanted) / draws + 1e-9).sqrt()).max())

    cases = [(memory, training), (memory, others), (larger, training)]
    wanted = [counted_by_hand(*case, 4) for case in cases]
    assert wanted[2][COUNT] > 0.1, "the new entry is near to most of them"
    for index, case in enumerate(cases):
        found = frequencies(*case)
        assert [off(found, each) < 4 for each in wanted] == [each == index for each in range(3)]


def test_a_small_share_starts_from_fewer(memory: Memory) -> None:
    def different(proposal: Unasked) -> int:
        return len(unasked(memory, normal(50, 2), proposal, Noise(range(200))).unique(dim=0))

    assert different(Unasked(1 / COUNT)) == 1
    assert different(Unasked(0.1)) == 6 < different(Unasked())


def test_what_cannot_be_is_told(memory: Memory, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 queries and 1 seeds"):
        recall(memory, normal(2, 0), Recall(), Noise([0]))
    with pytest.raises(ValueError, match="cannot find 61"):
        recall(memory, normal(1, 0), Recall(61), Noise([0]))
    with pytest.raises(ValueError, match="a pool of 3"):
        Recall(4, pool=3)
    with pytest.raises(ValueError, match="at least one"):
        Recall(0)
    with pytest.raises(ValueError, match="filled by"):
        Recall(fill="text")  # pyright: ignore
