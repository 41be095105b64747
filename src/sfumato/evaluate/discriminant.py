"""Linear discriminant analysis: a classifier in closed form, the same on every machine up to rounding.

Each class is a Gaussian around its mean, all with one covariance W, shrunk towards its diagonal:

    W' = (1 - s) W + s diag(W);  score_k(x) = x . W'^-1 mu_k - mu_k . W'^-1 mu_k / 2

Scores are log posteriors under equal priors, up to a number that all classes share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Discriminant", "fit_discriminant"]

_ROWS = 2048


@dataclass(frozen=True, eq=False)
class Discriminant:
    """Scores of K classes, linear in the features.

    Args:
        weight: (K, D).
        bias: (K,).
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Log posterior of each class up to a shared number: features (B, D) -> (B, K)."""
        return features @ self.weight.T + self.bias


def fit_discriminant(features: Tensor, labels: Tensor, classes: int, shrinkage: float = 0.1) -> Discriminant:
    """Fits a discriminant to labelled features.

    Args:
        features: (N, D), any float type.
        labels: (N,) int64 in 0..classes-1; each class at least once.
        classes: K.
        shrinkage: s in [0, 1]; 1 ignores how features vary together.

    Returns:
        The classifier, float32.

    Raises:
        ValueError: a class without examples, no more examples than classes, or a shrinkage out of range.

    Paper: The Use of Multiple Measurements in Taxonomic Problems (Fisher, 1936); Regularized Discriminant Analysis
        (Friedman, 1989).
    """
    if not 0 <= shrinkage <= 1:
        raise ValueError(f"shrinkage must lie in [0, 1], got {shrinkage}")
    counts = torch.bincount(labels, minlength=classes)
    if len(counts) > classes or int(counts.min()) == 0 or len(features) <= classes:
        raise ValueError(f"each of the {classes} classes needs examples, and one of them more than one")
    centre = features.float().mean(0)
    means, total = _sums(features, labels, counts, centre)
    within = total - (means.T * counts.double()) @ means
    within /= len(features) - classes
    spread = within.diagonal().clamp(min=1e-8)
    within = (1 - shrinkage) * within + shrinkage * torch.diag(spread)
    weight = torch.linalg.solve(within, means.T).T
    bias = -0.5 * (weight * means).sum(1) - weight @ centre.double()
    return Discriminant(weight.float(), bias.float())


def _sums(features: Tensor, labels: Tensor, counts: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Class means (K, D) and the total scatter (D, D) around a centre, both float64."""
    width = features.shape[1]
    means = torch.zeros(len(counts), width, dtype=torch.float64)
    total = torch.zeros(width, width, dtype=torch.float64)
    for rows, owners in zip(features.split(_ROWS), labels.split(_ROWS), strict=True):
        moved = rows.float() - centre
        means.index_add_(0, owners, moved.double())
        total += (moved.T @ moved).double()
    return means / counts[:, None], total
