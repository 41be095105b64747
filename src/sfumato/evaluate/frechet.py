"""Fréchet distance between two sets of features, each taken as a Gaussian.

    d = |mu_r - mu_g|^2 + Tr(S_r + S_g - 2 (S_r S_g)^(1/2))

Write S = A A^T for each covariance; the trace of the root is then the sum of the singular values of A_r^T A_g.
This form is real, symmetric and exact for rank-deficient covariances (fewer pictures than dimensions).
The distance falls with the number of pictures (about as d_inf + c / N): compare only at equal N, or use `extrapolate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Moments", "extrapolate", "frechet_distance", "moments"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and scatter of a set of features, in float64; partial sets merge exactly.

    Args:
        count: number of feature vectors seen, >= 1.
        mean: (D,) float64.
        scatter: (D, D) float64, sum of outer products of the centred vectors.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @property
    def covariance(self) -> Tensor:
        """Unbiased covariance, scatter / (count - 1).

        Returns:
            (D, D) float64.

        Raises:
            ValueError: fewer than two vectors.
        """
        if self.count < 2:
            raise ValueError("a covariance needs at least two feature vectors, got one; give more pictures")
        return self.scatter / (self.count - 1)

    def merge(self, other: Moments) -> Moments:
        """Moments of the union of two sets, without their features.

            scatter = scatter_a + scatter_b + (n_a n_b / n) (mu_b - mu_a)(mu_b - mu_a)^T

        Args:
            other: moments of further features of the same dimension D.

        Returns:
            Moments of all ``count + other.count`` vectors.

        Raises:
            ValueError: the dimensions differ.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"cannot merge moments of {len(self.mean)} and {len(other.mean)} dimensions")
        count = self.count + other.count
        shift = other.mean - self.mean
        scatter = self.scatter + other.scatter + torch.outer(shift, shift) * (self.count * other.count / count)
        return Moments(count, self.mean + shift * (other.count / count), scatter)


def moments(batches: Tensor | Iterable[Tensor]) -> Moments:
    """Mean and scatter of features that come at once or in batches.

    Args:
        batches: (N, D) features, or an iterable of such; any float type, accumulated in float64.

    Returns:
        Moments of all rows.

    Raises:
        ValueError: no rows, or a batch that is not (N, D).
    """
    total: Moments | None = None
    for batch in [batches] if isinstance(batches, Tensor) else batches:
        part = _moments_of_batch(batch)
        total = part if total is None else total.merge(part)
    if total is None:
        raise ValueError("moments need at least one batch of features, got none")
    return total


def _moments_of_batch(batch: Tensor) -> Moments:
    if batch.ndim != 2 or len(batch) == 0:
        raise ValueError(f"features must have shape (N, D) with N >= 1, got {tuple(batch.shape)}")
    values = batch.detach().double()
    mean = values.mean(0)
    centred = values - mean
    return Moments(len(values), mean, centred.T @ centred)


def frechet_distance(real: Moments | Tensor, generated: Moments | Tensor) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians fitted to features.

        d = |mu_r - mu_g|^2 + Tr S_r + Tr S_g - 2 |A_r^T A_g|_*,  S = A A^T

    Args:
        real: moments, or (N, D) features, of the reference pictures.
        generated: moments, or (M, D) features, of the pictures to be scored.

    Returns:
        The distance, >= 0 up to rounding, in squared feature units. Symmetric in its arguments.

    Raises:
        ValueError: dimensions differ, or a set has fewer than two rows.

    Paper: GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium
        (Heusel et al., 2017), arXiv:1706.08500, equation 6.
    Differs from the paper: any features; the root is computed through singular values instead of a matrix root.
    """
    a = real if isinstance(real, Moments) else moments(real)
    b = generated if isinstance(generated, Moments) else moments(generated)
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features of {len(a.mean)} and {len(b.mean)} dimensions cannot be compared")
    root = torch.linalg.svdvals(_factor(a.covariance).T @ _factor(b.covariance)).sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * root
    return float((a.mean - b.mean).square().sum() + spread)


def _factor(covariance: Tensor) -> Tensor:
    """A (D, R) with A A^T = covariance; directions within rounding of zero are left out."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


def extrapolate(counts: Sequence[int], distances: Sequence[float]) -> float:
    """Distance at an infinite number of pictures: the intercept of a line in 1 / N.

        d_N = d_inf + c / N, least squares

    Args:
        counts: numbers of pictures N, each >= 2, at least two different ones.
        distances: the distance measured at each N.

    Returns:
        d_inf; may be slightly negative by noise.

    Raises:
        ValueError: lengths differ, or fewer than two different counts.

    Paper: Effectively Unbiased FID and Inception Score and Where to Find Them (Chong and Forsyth, 2020),
        arXiv:1911.07023, section 3.
    """
    if len(counts) != len(distances) or len(set(counts)) < 2:
        raise ValueError("extrapolation needs as many distances as counts, at two different counts or more")
    inverse = torch.tensor(counts, dtype=torch.float64).reciprocal()
    values = torch.tensor(distances, dtype=torch.float64)
    centred = inverse - inverse.mean()
    slope = (centred * values).sum() / centred.square().sum()
    return float(values.mean() - slope * inverse.mean())
