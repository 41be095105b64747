"""Fidelity and variety apart: precision and recall, density and coverage.

A set of features is taken as the union of balls, each point's ball reaching to its k-th nearest neighbour in its own
set (the point itself not counted).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["DensityCoverage", "PrecisionRecall", "density_coverage", "neighbour_radii", "precision_recall"]


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


def _distances(x: Tensor, y: Tensor) -> Tensor:
    # The matrix-product form loses the digits of close pairs; copies must be at distance 0.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _check(real: Tensor, generated: Tensor) -> None:
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), got {tuple(real.shape)} and {tuple(generated.shape)}")
