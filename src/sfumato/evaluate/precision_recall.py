"""Fidelity and variety apart: precision and recall, density and coverage.

A set of features is taken as the union of balls, each point's ball reaching to its k-th nearest neighbour in its own
set (the point itself not counted).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.evaluate.intervals import Interval, wilson_by_variance

__all__ = [
    "DensityCoverage",
    "PrecisionRecall",
    "density_coverage",
    "neighbour_radii",
    "precision_recall",
    "recall_interval",
]


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of points that lie inside the other set's balls.

    Args:
        precision: share of generated points inside any real ball, in [0, 1].
        recall: share of real points inside any generated ball, in [0, 1].
    """

    precision: float
    recall: float


@dataclass(frozen=True)
class DensityCoverage:
    """How often, and how many of, the real balls are met.

    Args:
        density: mean number of real balls around a generated point, divided by k; >= 0, may exceed 1.
        coverage: share of real balls that hold a generated point, in [0, 1].
    """

    density: float
    coverage: float


def neighbour_radii(features: Tensor, k: int, *, chunk: int = 512) -> Tensor:
    """Distance of each point to its k-th nearest neighbour among the others.

    Args:
        features: (N, D).
        k: 1 <= k < N.
        chunk: rows per block of the distance matrix; memory only.

    Returns:
        (N,) float64 radii; 0 where k or more exact copies exist.

    Raises:
        ValueError: k out of range.
    """
    if not 1 <= k < len(features):
        raise ValueError(f"k must lie in 1..{len(features) - 1} for {len(features)} points, got {k}")
    own = features.double()
    # The point itself is one of the k + 1 smallest, at distance 0.
    return torch.cat([_distances(rows, own).kthvalue(k + 1, dim=1).values for rows in own.split(chunk)])


def precision_recall(real: Tensor, generated: Tensor, *, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall.

        precision = mean_j [exists i: |g_j - r_i| <= radius(r_i)];  recall: the sets swapped

    Args:
        real: (N, D) features.
        generated: (M, D) features.
        k: neighbour that sets the radii, 1 <= k < min(N, M).

    Returns:
        Precision and recall. Swapping the sets swaps the two.

    Raises:
        ValueError: dimensions differ, or k out of range.

    Paper: Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi et al., 2019),
        arXiv:1904.06991, equations 1 and 2.
    """
    _check(real, generated)
    return PrecisionRecall(
        precision=float((_inside(real, generated, k) > 0).double().mean()),
        recall=float((_inside(generated, real, k) > 0).double().mean()),
    )


def recall_interval(
    real: Tensor, generated: Tensor, *, k: int = 3, halves: int = 100, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Recall with an interval for what fresh sets of the same sizes give on average.

    All real points are tried on the same balls, so they are not N independent trials: another generated set moves them
    together. How much is seen from recalls of random halves of it, drawn without replacement, since copies of a point
    would shrink the balls. Halves, of h = M // 2 points, vary within their set as much as whole sets do among each
    other: the factor h / (M - h) of the jackknife is 1 for them. The draw of the real points adds its binomial part:

        variance = h / (M - h) var(recall of h of M) + recall (1 - recall) / N;  bounds by ``wilson_by_variance``

    Args:
        real: (N, D) features.
        generated: (M, D) features.
        k: neighbour that sets the radii, 1 <= k < M // 2.
        halves: how many are drawn, >= 2.
        confidence: in (0, 1).
        seed: of the draw of halves.

    Returns:
        Recall, equal to that of ``precision_recall``, with bounds in [0, 1]; ``count`` is M.

    Raises:
        ValueError: dimensions differ, or an argument out of range.

    Paper: A General Theory for Jackknife Variance Estimation (Shao and Wu, 1989): the delete-d jackknife.
    Differs from the paper: the variance is taken about the mean of the halves, since fewer balls have another recall.
    """
    _check(real, generated)
    if halves < 2:
        raise ValueError(f"the spread of recall needs at least 2 halves, got {halves}")
    size = len(generated) // 2
    if not 1 <= k < size:
        raise ValueError(f"k must lie in 1..{size - 1} for halves of {len(generated)} points, got {k}")
    generator = torch.Generator().manual_seed(seed)
    chosen = [torch.randperm(len(generated), generator=generator)[:size] for _ in range(halves)]
    sets = [torch.arange(len(generated)), *chosen]
    whole, *parts = _shares_inside(generated, sets, real, k).tolist()
    variance = float(torch.tensor(parts).double().var()) * size / (len(generated) - size)
    variance += whole * (1 - whole) / len(real)
    return wilson_by_variance(whole, variance, len(generated), confidence=confidence)


def density_coverage(real: Tensor, generated: Tensor, *, k: int = 5) -> DensityCoverage:
    """Density and coverage, which outliers of the real set disturb less.

        density = 1 / (k M) sum_j sum_i [g_j in ball_i];  coverage = mean_i [exists j: g_j in ball_i]

    Args:
        real: (N, D) features.
        generated: (M, D) features.
        k: neighbour that sets the radii, 1 <= k < N.

    Returns:
        Density and coverage.

    Raises:
        ValueError: dimensions differ, or k out of range.

    Paper: Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020), arXiv:2002.09797,
        equations 3 and 4.
    """
    _check(real, generated)
    radii = neighbour_radii(real, k)
    nearest = torch.cat([_distances(rows, generated.double()).amin(1) for rows in real.double().split(512)])
    return DensityCoverage(
        density=float(_inside(real, generated, k).double().mean() / k),
        coverage=float((nearest <= radii).double().mean()),
    )


def _inside(balls: Tensor, points: Tensor, k: int) -> Tensor:
    """(M,) number of balls around each point."""
    radii, centres = neighbour_radii(balls, k), balls.double()
    return torch.cat([(_distances(rows, centres) <= radii).sum(1) for rows in points.double().split(512)])


def _shares_inside(centres: Tensor, sets: Sequence[Tensor], points: Tensor, k: int) -> Tensor:
    """Share of points inside the balls of each set of rows of centres, (S,)."""
    balls = [neighbour_radii(centres[rows], k) for rows in sets]
    inside = torch.zeros(len(sets), dtype=torch.int64)
    for part in points.double().split(512):
        apart = _distances(part, centres.double())
        inside += torch.stack([(apart[:, r] <= radii).any(1).sum() for r, radii in zip(sets, balls, strict=True)])
    return inside.double() / len(points)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # The matrix-product form loses the digits of close pairs; copies must be at distance 0.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _check(real: Tensor, generated: Tensor) -> None:
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), got {tuple(real.shape)} and {tuple(generated.shape)}")
