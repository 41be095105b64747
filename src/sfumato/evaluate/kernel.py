"""Kernel distances between two sets of features: KID (unbiased, polynomial) and CMMD (biased, Gaussian).

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)

KID has no bias in the number of pictures, so that sets of different size can be compared; it may come out negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["KernelDistance", "cmmd", "kernel_distance", "unbiased_discrepancy"]


@dataclass(frozen=True)
class KernelDistance:
    """Mean and spread of a kernel distance over subsets.

    Args:
        value: mean over the subsets; papers print it times 1000. May be negative.
        spread: standard deviation over the subsets, 0 for a single one.
        subsets: number of subsets drawn.
        size: vectors in each subset.
    """

    value: float
    spread: float
    subsets: int
    size: int


def unbiased_discrepancy(x: Tensor, y: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy under the cubic kernel.

        k(a, b) = (a.b / D + 1)^3;  [sum_{i != j} k(x_i, x_j) + sum_{i != j} k(y_i, y_j)] / (m (m - 1)) - 2 mean k(x, y)

    Args:
        x: (M, D) features; computed in float64.
        y: (M, D) features, as many as x.

    Returns:
        The estimate; 0 on average for equal distributions, so it may be negative.

    Raises:
        ValueError: shapes differ, or fewer than two rows.
    """
    _check(x, y)
    if len(x) != len(y) or len(x) < 2:
        raise ValueError(f"the unbiased estimate needs two equally large sets of 2 or more, got {len(x)} and {len(y)}")
    count = len(x)
    within = sum(float(k.sum() - k.diagonal().sum()) for k in (_cubic(x, x), _cubic(y, y)))
    return within / (count * (count - 1)) - 2 * float(_cubic(x, y).mean())


def kernel_distance(
    real: Tensor, generated: Tensor, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> KernelDistance:
    """Kernel inception distance: the unbiased discrepancy, averaged over random subsets.

    Args:
        real: (N, D) features.
        generated: (M, D) features.
        subsets: number of random subsets, >= 1.
        size: vectors in each subset, >= 2 and at most min(N, M).
        seed: of the draw of the subsets.

    Returns:
        Mean and spread over the subsets. With ``size == N == M`` every subset is the whole set.

    Raises:
        ValueError: dimensions differ, or size or subsets out of range.

    Paper: Demystifying MMD GANs (Binkowski et al., 2018), arXiv:1801.01401, section 4.
    """
    _check(real, generated)
    smaller = min(len(real), len(generated))
    if not 2 <= size <= smaller or subsets < 1:
        raise ValueError(f"subset size must lie in 2..{smaller} (the smaller set) and subsets be >= 1, got {size}")
    generator = torch.Generator().manual_seed(seed)

    def draw(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size]]

    values = torch.tensor(
        [unbiased_discrepancy(draw(real), draw(generated)) for _ in range(subsets)], dtype=torch.float64
    )
    return KernelDistance(float(values.mean()), float(values.std(correction=0)), subsets, size)


def cmmd(real: Tensor, generated: Tensor, *, bandwidth: float = 10.0, chunk: int = 1024) -> float:
    """Biased Gaussian-kernel discrepancy of embeddings, times 1000.

        1000 [mean k(x, x') + mean k(y, y') - 2 mean k(x, y)],  k(a, b) = exp(-|a - b|^2 / (2 s^2))

    Args:
        real: (N, D) embeddings, of unit norm in the published setting.
        generated: (M, D) embeddings.
        bandwidth: s, > 0, in embedding units.
        chunk: rows per block of the kernel matrix; memory only, never the value.

    Returns:
        The distance, >= 0; near 10 |mu_x - mu_y|^2 for unit-norm embeddings at s = 10.

    Raises:
        ValueError: dimensions differ or bandwidth <= 0.

    Paper: Rethinking FID: Towards a Better Evaluation Metric for Image Generation (Jayasumana et al., 2024),
        arXiv:2401.09603, section 4.
    """
    _check(real, generated)
    if bandwidth <= 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}")

    def mean_kernel(x: Tensor, y: Tensor) -> float:
        total = 0.0
        for rows in x.double().split(chunk):
            squared = rows.square().sum(1, keepdim=True) + y.double().square().sum(1) - 2 * rows @ y.double().T
            total += float(torch.exp(-squared / (2 * bandwidth**2)).sum())
        return total / (len(x) * len(y))

    return 1000 * (mean_kernel(real, real) + mean_kernel(generated, generated) - 2 * mean_kernel(real, generated))


def _cubic(x: Tensor, y: Tensor) -> Tensor:
    return (x.double() @ y.double().T / x.shape[1] + 1) ** 3


def _check(x: Tensor, y: Tensor) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), got {tuple(x.shape)} and {tuple(y.shape)}")
