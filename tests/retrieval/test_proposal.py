"""The proposal: by hand on a toy case, with all cosines of a real memory, and its limits."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from sfumato.core.noise import Noise
from sfumato.retrieval.proposal import propose
from tests.retrieval.random_memory import counted_by_hand, normal, remembered

TOY = torch.tensor([[0, 3], [3, 1], [3, 0], [3, 5]])
"""Four training pictures, k = 2: row 3 is used 4 times of 8, row 0 twice, rows 1 and 5 once, the others never."""


def _table(neighbours: torch.Tensor, entries: int, share: float = 1.0, *, weighted: bool = True) -> dict[int, float]:
    found = propose(neighbours, entries, share, weighted=weighted)
    return dict(zip(found.rows.tolist(), found.shares.tolist(), strict=True))


def test_the_toy_case_is_as_counted_by_hand() -> None:
    assert _table(TOY, 10) == {3: 0.5, 0: 0.25, 1: 0.125, 5: 0.125}


def test_it_sums_to_one_and_never_names_what_no_picture_is_near_to() -> None:
    neighbours = torch.randint(0, 50, (200, 4), generator=torch.Generator().manual_seed(0))
    found = propose(neighbours, 80)
    assert float(found.shares.sum()) == pytest.approx(1, abs=1e-12)
    assert set(found.rows.tolist()) == set(neighbours.flatten().tolist())


def test_keeping_a_share_renormalises_what_is_left() -> None:
    assert _table(TOY, 10, 0.2) == {3: pytest.approx(2 / 3), 0: pytest.approx(1 / 3)}


def test_the_smallest_share_is_the_entry_that_is_used_most() -> None:
    assert _table(TOY, 10, 1 / 10) == {3: 1.0}
    assert _table(TOY, 10, 1e-6) == {3: 1.0}


def test_uniform_takes_all_that_is_kept_alike() -> None:
    assert _table(TOY, 8, 0.5, weighted=False) == {3: 0.25, 0: 0.25, 1: 0.25, 5: 0.25}
    assert set(_table(TOY, 10, weighted=False)) == set(range(10))


def test_it_changes_with_the_training_set_and_with_the_memory() -> None:
    assert _table(TOY[1:], 10) != _table(TOY, 10)
    assert _table((TOY + 1) % 6, 10) != _table(TOY, 10)


@pytest.mark.parametrize("k", [1, 4])
def test_of_a_real_memory_it_is_as_counted_with_all_cosines(tmp_path: Path, k: int) -> None:
    """With training pictures, with others, and with one entry more that is near to many of the first."""
    vectors, middle = 3 * normal(40, 0), normal(1, 3)
    memories = [remembered(tmp_path / str(len(rows)), rows) for rows in (vectors, torch.cat([vectors, middle]))]
    training, others = normal(50, 2) + middle, normal(50, 2) - middle
    tables: list[dict[int, float]] = []
    for memory, given in ((memories[0], training), (memories[0], others), (memories[1], training)):
        shares = counted_by_hand(memory, given, k)
        tables.append(_table(memory.search(given, k).rows, len(memory)))
        assert tables[-1] == {row: pytest.approx(share) for row, share in enumerate(shares.tolist()) if share}
    first, of_others, of_more = tables
    assert sum(abs(first.get(row, 0) - of_others.get(row, 0)) for row in range(40)) > 1, "of 2 at most"
    assert of_more[40] > 0.1 and sum(of_more.values()) == pytest.approx(1)


def test_draws_follow_the_shares() -> None:
    found = propose(TOY, 10)
    rows = found.draw(Noise(range(4000)))
    for row, share in zip(found.rows, found.shares, strict=True):
        spread = math.sqrt(float(share * (1 - share)) / 4000)
        assert float((rows == row).double().mean()) == pytest.approx(float(share), abs=4 * spread)


def test_a_draw_belongs_to_its_seed() -> None:
    found = propose(TOY, 10)
    together = found.draw(Noise([5, 6, 7]))
    assert [int(found.draw(Noise([seed]))) for seed in (5, 6, 7)] == together.tolist()


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        propose(TOY, 10, share)


def test_rows_of_another_memory_are_refused() -> None:
    with pytest.raises(ValueError, match="another memory"):
        propose(TOY, 5)
    with pytest.raises(ValueError, match="neighbours"):
        propose(torch.empty(0, 4, dtype=torch.int64), 5)
