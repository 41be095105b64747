from __future__ import annotations

import pytest
import torch

from sfumato.evaluate.intervals import wilson
from sfumato.evaluate.precision_recall import density_coverage, neighbour_radii, precision_recall, recall_interval


def cloud(count: int, seed: int, centre: float = 0.0) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed)) + centre


def test_identical_sets_are_perfect_and_far_sets_worthless() -> None:
    x = cloud(80, 1)
    same, far = precision_recall(x, x), precision_recall(x, x + 100)
    assert (same.precision, same.recall) == (1, 1)
    assert (far.precision, far.recall) == (0, 0)
    near, away = density_coverage(x, x), density_coverage(x, x + 100)
    assert near.coverage == 1 and near.density >= 1
    assert (away.density, away.coverage) == (0, 0)


def test_one_mode_of_two_keeps_precision_and_halves_recall() -> None:
    real = torch.cat([cloud(200, 1), cloud(200, 2, 50)])
    found = precision_recall(real, cloud(200, 3))
    assert found.precision > 0.8
    assert found.recall == pytest.approx(0.5, abs=0.1)
    assert density_coverage(real, cloud(200, 3)).coverage == pytest.approx(0.5, abs=0.05)


def test_swapping_the_sets_swaps_the_two() -> None:
    x, y = cloud(70, 1), cloud(90, 2) * 1.8
    there, back = precision_recall(x, y), precision_recall(y, x)
    assert (there.precision, there.recall) == (back.recall, back.precision)
    assert there.precision != there.recall


def test_a_point_is_not_its_own_neighbour() -> None:
    copies = torch.cat([torch.full((4, 3), 0.1), torch.full((3, 3), 5.0)])
    radii = neighbour_radii(copies, 3)
    assert (radii[:4] == 0).all() and (radii[4:] > 0).all()
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert neighbour_radii(line, 1).tolist() == [1, 1, 2, 4]
    assert neighbour_radii(line, 2, chunk=2).tolist() == [3, 2, 3, 6]


def test_density_by_hand() -> None:
    real = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    found = density_coverage(real, torch.tensor([[0.5], [0.6]]), k=1)
    assert (found.density, found.coverage) == (2, 0.5)


def test_blur_lowers_precision_and_a_dropped_mode_lowers_recall() -> None:
    real = torch.cat([cloud(150, 1), cloud(150, 2, 12)])
    good = torch.cat([cloud(150, 3), cloud(150, 4, 12)])
    blurred = torch.cat([cloud(150, 3) * 2.5, cloud(150, 4) * 2.5 + 12])
    assert precision_recall(real, blurred).precision < precision_recall(real, good).precision - 0.2
    assert precision_recall(real, good[:150]).recall < precision_recall(real, good).recall - 0.2


def test_the_interval_of_recall_holds_what_fresh_sets_give() -> None:
    generator = torch.Generator().manual_seed(1)

    def fresh() -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(200, 2, generator=generator), 0.6 * torch.randn(60, 2, generator=generator)

    expected = sum(precision_recall(*fresh()).recall for _ in range(400)) / 400
    found = [recall_interval(*fresh(), halves=40, seed=seed) for seed in range(200)]
    points_alone = [wilson(round(each.value * 200), 200) for each in found]
    covered, of_points = (sum(e.low <= expected <= e.high for e in each) / 200 for each in (found, points_alone))
    assert 0.9 <= covered <= 0.99
    assert of_points < 0.75


def test_the_interval_of_recall_is_around_the_same_number_and_repeats() -> None:
    real, generated = cloud(600, 1), 0.8 * cloud(151, 2)
    found = recall_interval(real, generated)
    assert found.value == precision_recall(real, generated).recall and found.count == 151
    assert 0 < found.low < found.value < found.high < 1
    assert found == recall_interval(real, generated) != recall_interval(real, generated, seed=1)
    same, far = recall_interval(real, real), recall_interval(real, generated + 100)
    assert (same.value, same.high) == (1, 1) and (far.value, far.low) == (0, 0)
    assert same.low > 0.9 and 0 < far.high < 0.1


def test_clear_errors() -> None:
    with pytest.raises(ValueError, match=r"1\.\.4"):
        precision_recall(cloud(5, 1), cloud(5, 2), k=5)
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        density_coverage(cloud(9, 1), cloud(9, 1)[:, :2])
    with pytest.raises(ValueError, match=r"1\.\.2 for halves of 7"):
        recall_interval(cloud(9, 1), cloud(7, 2))
    with pytest.raises(ValueError, match="at least 2 halves"):
        recall_interval(cloud(9, 1), cloud(9, 2), halves=1)
