from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sfumato.evaluate.kernel import cmmd, kernel_distance, unbiased_discrepancy


def features(count: int, seed: int, dimensions: int = 6) -> torch.Tensor:
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def brute_force(x: torch.Tensor, y: torch.Tensor) -> float:
    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return (float(a.double() @ b.double()) / len(a) + 1) ** 3

    m = len(x)
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    return within / (m * (m - 1)) - 2 * sum(k(a, b) for a in x for b in y) / m**2


def test_equals_the_formula_written_as_loops() -> None:
    x, y = features(12, 1), features(12, 2) * 1.4
    assert unbiased_discrepancy(x, y) == pytest.approx(brute_force(x, y), rel=1e-10)
    assert kernel_distance(x, y, subsets=3, size=12).value == pytest.approx(brute_force(x, y), rel=1e-10)


def test_mean_over_equal_distributions_is_zero_within_its_error() -> None:
    draws = torch.tensor([unbiased_discrepancy(features(40, 2 * s), features(40, 2 * s + 1)) for s in range(300)])
    assert abs(float(draws.mean())) < 3 * float(draws.std()) / 300**0.5
    assert float(draws.min()) < 0 < float(draws.max())


def test_sets_of_different_size_and_a_true_difference() -> None:
    near = kernel_distance(features(200, 1), features(90, 2), subsets=20, size=60)
    far = kernel_distance(features(200, 1), features(90, 2) + 0.7, subsets=20, size=60)
    assert far.value > 10 * abs(near.value)
    assert (far.subsets, far.size) == (20, 60)
    assert far == kernel_distance(features(200, 1), features(90, 2) + 0.7, subsets=20, size=60)


def test_subset_larger_than_the_set_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2\.\.9"):
        kernel_distance(features(9, 1), features(20, 2), size=10)
    with pytest.raises(ValueError, match="equally large"):
        unbiased_discrepancy(features(9, 1), features(8, 2))
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        cmmd(features(9, 1), features(9, 1, dimensions=5))
    with pytest.raises(ValueError, match="bandwidth"):
        cmmd(features(9, 1), features(9, 1), bandwidth=0)


def test_cmmd_is_zero_on_itself_and_near_a_mean_distance_on_unit_vectors() -> None:
    x = F.normalize(features(150, 1, 32), dim=1)
    y = F.normalize(features(130, 2, 32) + 0.4, dim=1)
    assert cmmd(x, x) == pytest.approx(0, abs=1e-9)
    shift = 10 * float((x.double().mean(0) - y.double().mean(0)).square().sum())
    assert cmmd(x, y) == pytest.approx(shift, rel=0.03)
    assert cmmd(x, y, chunk=7) == pytest.approx(cmmd(x, y), rel=1e-10)
