from __future__ import annotations

import pytest
import torch

from sfumato.evaluate.frechet import frechet_distance
from sfumato.evaluate.intervals import bootstrap, bootstrap_mean, wilson


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


def test_clear_errors() -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson(3, 2)
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence=95)
    with pytest.raises(ValueError, match="resamples"):
        bootstrap(lambda i: 0.0, 5, resamples=1)
    with pytest.raises(ValueError, match=r"\(N,\)"):
        bootstrap_mean(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"one a value, got \(2,\) for \(3,\)"):
        bootstrap_mean(torch.zeros(3), clusters=torch.zeros(2, dtype=torch.int64))
