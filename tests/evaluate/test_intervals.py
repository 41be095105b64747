from __future__ import annotations

import pytest
import torch

from sfumato.evaluate.frechet import frechet_distance
from sfumato.evaluate.intervals import Interval, bootstrap, bootstrap_mean, median_interval, wilson, wilson_by_variance


def test_wilson_known_values() -> None:
    none, half, all_right = wilson(0, 10), wilson(50, 100), wilson(10, 10)
    assert (none.low, none.high) == (0, pytest.approx(0.27754, abs=1e-5))
    assert (half.low, half.high) == (pytest.approx(0.40383, abs=1e-5), pytest.approx(0.59617, abs=1e-5))
    assert (all_right.low, all_right.high) == (pytest.approx(0.72246, abs=1e-5), 1)


def test_wilson_covers_the_true_share_about_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = (torch.rand(2000, 60, generator=generator) < 0.9).sum(1).tolist()
    covered = sum(wilson(hit, 60).low <= 0.9 <= wilson(hit, 60).high for hit in hits) / 2000
    assert 0.93 < covered < 0.98


def test_a_share_counts_as_many_independent_trials_as_its_variance_says() -> None:
    independent = wilson_by_variance(0.3, 0.3 * 0.7 / 100, 500)
    assert (independent.low, independent.high) == pytest.approx((wilson(30, 100).low, wilson(30, 100).high))
    assert (independent.value, independent.count) == (0.3, 500)
    wide = wilson_by_variance(0.02, 0.02**2, 500)
    assert 0 < wide.low < 0.02 < wide.high and wide.high - 0.02 > 0.02 - wide.low
    assert wilson_by_variance(0.0, 0.001, 50) == wilson(0, 50) and wilson_by_variance(1.0, 0.0, 50) == wilson(50, 50)


def test_bootstrap_of_a_mean_matches_its_standard_error_and_repeats() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1))
    found = bootstrap_mean(values)
    half_width = 1.96 * float(values.std()) / 20
    assert found.value == pytest.approx(float(values.mean()))
    assert found.high - found.low == pytest.approx(2 * half_width, rel=0.1)
    assert found == bootstrap_mean(values)
    assert found != bootstrap_mean(values, seed=1)


def test_prompts_of_a_cluster_are_drawn_together() -> None:
    values = torch.randn(200, generator=torch.Generator().manual_seed(3))
    twice, of = values.repeat_interleave(2), torch.arange(200).repeat_interleave(2)
    alone, together, apart = bootstrap_mean(values), bootstrap_mean(twice, clusters=of), bootstrap_mean(twice)
    assert (together.value, together.count) == (pytest.approx(alone.value), 400)
    assert together.high - together.low == pytest.approx(alone.high - alone.low)  # copies add nothing
    assert apart.high - apart.low < 0.8 * (alone.high - alone.low)
    uneven = bootstrap_mean(torch.tensor([1.0, 1, 1, 5]), clusters=torch.tensor([7, 7, 7, 2]))
    assert (uneven.value, uneven.low, uneven.high) == (2, 1, 5)


def test_recentred_bounds_hold_the_value_of_a_biased_distance() -> None:
    generator = torch.Generator().manual_seed(2)
    real, other = torch.randn(300, 20, generator=generator), torch.randn(80, 20, generator=generator)
    plain, moved = (
        bootstrap(lambda i: frechet_distance(real, other[i]), 80, resamples=40, recentre=r) for r in (False, True)
    )
    assert plain.low > plain.value
    assert moved.low < moved.value < moved.high


@pytest.mark.parametrize(("count", "rank"), [(6, 1), (7, 1), (8, 1), (9, 2), (21, 6), (41, 14)])
def test_the_bounds_of_a_median_are_the_values_of_a_sign_test(count: int, rank: int) -> None:
    shuffled = 1 + torch.randperm(count, generator=torch.Generator().manual_seed(count))
    found = median_interval(shuffled.tolist())
    assert found == Interval((count + 1) / 2, rank, count + 1 - rank, count)


def test_a_median_of_thousands_has_the_normal_bounds() -> None:
    found = median_interval(list(range(10_001)))
    assert found is not None and found.value == 5000
    assert found.high - found.low == pytest.approx(1.96 * 100, rel=0.02)


def test_a_few_values_say_too_little_of_a_median() -> None:
    assert median_interval([1.0, 2, 3, 4, 5]) is None
    assert median_interval([1.0, 2, 3, 4, 5], confidence=0.9) == Interval(3, 1, 5, 5)


@pytest.mark.parametrize("count", [6, 9, 15])
def test_the_interval_of_a_median_holds_it_at_least_as_often_as_it_says(count: int) -> None:
    drawn = torch.randn(2000, count, generator=torch.Generator().manual_seed(count)).exp().tolist()
    found = [median_interval(row) for row in drawn]
    assert sum(each is not None and each.low <= 1 <= each.high for each in found) / 2000 > 0.94


def test_clear_errors() -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence=95)
    with pytest.raises(ValueError, match="variance be >= 0"):
        wilson_by_variance(0.5, float("nan"), 9)
    with pytest.raises(ValueError, match="a median needs"):
        median_interval([])
    with pytest.raises(ValueError, match="a median needs"):
        median_interval([1.0, float("nan")])
    with pytest.raises(ValueError, match="resamples"):
        bootstrap(lambda i: 0.0, 5, resamples=1)
    with pytest.raises(ValueError, match=r"\(N,\)"):
        bootstrap_mean(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"one a value, got \(2,\) for \(3,\)"):
        bootstrap_mean(torch.zeros(3), clusters=torch.zeros(2, dtype=torch.int64))
