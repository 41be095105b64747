from __future__ import annotations

import pytest
import torch

from sfumato.evaluate.frechet import extrapolate, frechet_distance, moments


def features(count: int, dimensions: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(dimensions: int) -> torch.Tensor:
    return torch.linalg.qr(features(dimensions, dimensions, seed=9)).Q


def test_distance_of_a_set_to_itself_is_zero_and_a_shift_adds_its_square() -> None:
    x = features(300, 12) @ torch.diag(torch.linspace(0.1, 4, 12, dtype=torch.float64))
    trace = float(moments(x).covariance.trace())
    assert abs(frechet_distance(x, x)) < 1e-9 * trace
    shift = torch.linspace(-1, 2, 12, dtype=torch.float64)
    assert frechet_distance(x, x + shift) == pytest.approx(float(shift.square().sum()), rel=1e-9)


def test_diagonal_covariances_have_the_closed_form() -> None:
    a, b = torch.tensor([1.0, 4.0, 9.0]).double(), torch.tensor([4.0, 0.25, 1.0]).double()
    plain = features(400, 3)
    centred = plain - plain.mean(0)
    white = centred @ torch.linalg.inv(torch.linalg.cholesky(moments(plain).covariance)).T
    expected = float((a.sqrt() - b.sqrt()).square().sum())
    assert frechet_distance(white * a.sqrt(), white * b.sqrt()) == pytest.approx(expected, rel=1e-9)


def test_symmetric_and_invariant_to_a_common_rotation() -> None:
    x, y = features(200, 8, 1), 1.5 * features(150, 8, 2) + 0.3
    turn = rotation(8)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-10)
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(frechet_distance(x, y), rel=1e-9)


def test_agrees_with_the_matrix_root() -> None:
    scipy_linalg = pytest.importorskip("scipy.linalg")
    x, y = features(100, 6, 1), features(90, 6, 2) @ torch.diag(torch.arange(1, 7).double())
    a, b = moments(x), moments(y)
    root = torch.as_tensor(scipy_linalg.sqrtm((a.covariance @ b.covariance).numpy()).real)
    expected = (a.mean - b.mean).square().sum() + (a.covariance + b.covariance - 2 * root).trace()
    assert frechet_distance(x, y) == pytest.approx(float(expected), rel=1e-9)


def test_fewer_pictures_than_dimensions_is_finite_and_exact_for_equal_sets() -> None:
    x, y = features(20, 64, 1), features(25, 64, 2)
    assert frechet_distance(x, y) > 0
    assert abs(frechet_distance(x, x)) < 1e-9 * float(moments(x).covariance.trace())


def test_streaming_equals_batch_and_merging_is_associative() -> None:
    x = features(500, 10).float() * 3 + 100
    whole, streamed = moments(x), moments(x.split(64))
    a, b, c = (moments(part) for part in x.split([100, 7, 393]))
    left, right = a.merge(b).merge(c), a.merge(b.merge(c))
    for other in (streamed, left, right):
        assert other.count == 500
        torch.testing.assert_close(other.mean, whole.mean, rtol=1e-12, atol=0)
        torch.testing.assert_close(other.covariance, whole.covariance, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(whole.covariance, x.double().T.cov(), rtol=1e-9, atol=1e-9)


def test_bias_falls_as_one_over_n_and_extrapolates_to_zero() -> None:
    counts = (250, 500, 1000, 2000)
    distances = [
        sum(frechet_distance(features(n, 16, 2 * s), features(n, 16, 2 * s + 1)) for s in range(8)) / 8 for n in counts
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] / distances[3] == pytest.approx(8, rel=0.15)
    assert abs(extrapolate(counts, distances)) < 0.05 * distances[0]


def test_clear_errors() -> None:
    with pytest.raises(ValueError, match="dimensions cannot be compared"):
        frechet_distance(features(9, 3), features(9, 4))
    with pytest.raises(ValueError, match="at least two"):
        frechet_distance(features(1, 3), features(9, 3))
    with pytest.raises(ValueError, match="shape"):
        moments(torch.zeros(3))
    with pytest.raises(ValueError, match="none"):
        moments([])
    with pytest.raises(ValueError, match="merge"):
        moments(features(4, 2)).merge(moments(features(4, 3)))
    with pytest.raises(ValueError, match="two different counts"):
        extrapolate([5, 5], [1.0, 2.0])
