"""How far a measured number can be trusted: Wilson intervals for shares, the bootstrap over prompts for the rest.

A share whose trials hang together has an interval by its variance, a median one by the order of its values.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import torch
from torch import Tensor

__all__ = ["Interval", "bootstrap", "bootstrap_mean", "median_interval", "wilson", "wilson_by_variance"]


@dataclass(frozen=True)
class Interval:
    """A number with the bounds of its confidence interval.

    Args:
        value: the estimate.
        low: lower bound.
        high: upper bound.
        count: number of prompts behind it.
    """

    value: float
    low: float
    high: float
    count: int


def wilson(successes: int, count: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a share.

        (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)

    Args:
        successes: 0..count.
        count: trials, >= 1.
        confidence: in (0, 1).

    Returns:
        The share with bounds in [0, 1].

    Raises:
        ValueError: an argument out of range.

    Paper: Probable Inference, the Law of Succession, and Statistical Inference (Wilson, 1927).
    """
    if not 0 <= successes <= count or count < 1:
        raise ValueError(f"successes must lie in 0..count and count be >= 1, got {successes} of {count}")
    _check(confidence)
    return _score_interval(successes / count, count, count, confidence)


def wilson_by_variance(share: float, variance: float, count: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's interval of a share whose trials are not independent, by the number of independent ones it is worth.

        n = p (1 - p) / variance, in Wilson's formula

    Args:
        share: p in [0, 1].
        variance: of the share, >= 0.
        count: independent things behind it, >= 1: taken for n where the share is 0 or 1 or the variance 0.
        confidence: in (0, 1).

    Returns:
        The share with bounds in [0, 1]; its ``count`` is the given one.

    Raises:
        ValueError: an argument out of range.

    Paper: Confidence Intervals for Proportions Estimated from Complex Sample Designs (Korn and Graubard, 1998): the
        effective sample size.
    Differs from the paper: Wilson's formula instead of that of Clopper and Pearson.
    """
    if not 0 <= share <= 1 or not variance >= 0 or count < 1:
        raise ValueError(
            f"share must lie in [0, 1], variance be >= 0 and count >= 1, got {share}, {variance} and {count}"
        )
    _check(confidence)
    spread = share * (1 - share)
    return _score_interval(share, spread / variance if spread and variance else count, count, confidence)


def _score_interval(share: float, trials: float, count: int, confidence: float) -> Interval:
    """Wilson's interval of a share of so many independent trials, which need not be a whole number."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = share + z * z / (2 * trials)
    reach = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    low = 0.0 if share == 0 else (centre - reach) / scale  # the formula gives 0 and 1 to rounding only
    high = 1.0 if share == 1 else (centre + reach) / scale
    return Interval(share, low, high, count)


def bootstrap(
    statistic: Callable[[Tensor], float],
    count: int,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    recentre: bool = False,
) -> Interval:
    """Percentile bootstrap: the statistic on prompts drawn with replacement.

    Args:
        statistic: prompt numbers (count,) int64 -> the number. It is called on 0..count-1 for the value itself.
        count: prompts, >= 1.
        resamples: draws, >= 2.
        confidence: in (0, 1).
        seed: of the draws.
        recentre: moves the bounds so that the resamples' mean falls on the value. For distances such as Fréchet's,
            which duplicates in a resample shift upwards, the bounds could otherwise miss the value.

    Returns:
        The value with its bounds.

    Raises:
        ValueError: an argument out of range.

    Paper: Bootstrap Methods: Another Look at the Jackknife (Efron, 1979).
    """
    if count < 1 or resamples < 2:
        raise ValueError(f"the bootstrap needs prompts and at least 2 resamples, got {count} and {resamples}")
    _check(confidence)
    generator = torch.Generator().manual_seed(seed)
    value = statistic(torch.arange(count))
    draws = [statistic(torch.randint(count, (count,), generator=generator)) for _ in range(resamples)]
    drawn = torch.tensor(draws, dtype=torch.float64)
    shift = value - float(drawn.mean()) if recentre else 0.0
    tail = (1 - confidence) / 2
    return Interval(value, float(drawn.quantile(tail)) + shift, float(drawn.quantile(1 - tail)) + shift, count)


def bootstrap_mean(
    values: Tensor,
    *,
    clusters: Tensor | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean over prompts with its percentile bootstrap interval.

    Args:
        values: (N,) one number a prompt.
        clusters: (N,) int64, equal for prompts that have something in common, such as their things, and so are drawn
            together; None draws each by itself.
        resamples: draws, >= 2.
        confidence: in (0, 1).
        seed: of the draws.

    Returns:
        The mean with its bounds; ``count`` is N.

    Raises:
        ValueError: values are not (N,) with N >= 1, clusters are not one a value, or an argument out of range.
    """
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"values must have shape (N,) with N >= 1, got {tuple(values.shape)}")
    if clusters is not None and clusters.shape != values.shape:
        raise ValueError(f"clusters must be one a value, got {tuple(clusters.shape)} for {tuple(values.shape)}")
    of = torch.arange(len(values)) if clusters is None else clusters.unique(return_inverse=True)[1]
    sums, sizes = torch.bincount(of, values.double()), torch.bincount(of)

    def mean(chosen: Tensor) -> float:
        return float(sums[chosen].sum() / sizes[chosen].sum())

    found = bootstrap(mean, len(sums), resamples=resamples, confidence=confidence, seed=seed)
    return replace(found, count=len(values))


def median_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval | None:
    """The median with bounds that are two of the values themselves: the interval of the sign test.

        [x_(k), x_(N + 1 - k)] for the largest k with 1 - 2 P(Bin(N, 1/2) < k) >= confidence

    It holds the true median at least as often as it says, whatever the values' distribution. A percentile bootstrap of
    a median holds it less often.

    Args:
        values: N numbers, drawn independently.
        confidence: in (0, 1).

    Returns:
        The median with its bounds; None if even all values together, k = 1, hold the true median less often: below 6
        values at 95 %.

    Raises:
        ValueError: no values, one that is no number, or a confidence out of range.

    Paper: On Confidence Ranges for the Median and Other Expectation Distributions for Populations of Unknown
        Distribution Form (Thompson, 1936).
    """
    _check(confidence)
    count, ordered = len(values), sorted(values)
    if not ordered or any(math.isnan(value) for value in ordered):
        raise ValueError(f"a median needs one number or more, got {list(values)}")
    rank, outside = 0, 1
    while 1 - 2 * outside / 2**count >= confidence:
        rank += 1
        outside += math.comb(count, rank)
    return Interval(statistics.median(ordered), ordered[rank - 1], ordered[-rank], count) if rank else None


def _check(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
