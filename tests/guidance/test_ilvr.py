"""The exchange of low frequencies: exact where the filter is a projection, at the right level, nothing else touched."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sfumato.core.branch import Guided
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.predict import noised
from sfumato.core.sample import sample
from sfumato.core.steps import Ddim
from sfumato.guidance.ilvr import Ilvr, block_mean
from tests.parts import Gaussian, branch, scaled_linear, start, tiny_model

REFERENCE = start(first_seed=70)
LEVEL = replace(scaled_linear().at(torch.tensor(500.0)), progress=0.5)
PATH = trailing(scaled_linear(), 6)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def noise() -> Noise:
    return Noise([80, 81])


def test_the_filter_is_a_projection_of_blocks() -> None:
    x = start()
    low = block_mean(x, 4)
    torch.testing.assert_close(low[0, 0, :4, :4], x[0, 0, :4, :4].mean().expand(4, 4))
    torch.testing.assert_close(block_mean(low, 4), low)
    torch.testing.assert_close(block_mean(torch.ones_like(x), 8), torch.ones_like(x))
    assert torch.equal(block_mean(x, 1), x)
    torch.testing.assert_close(block_mean(block_mean(x, 2), 4), low)
    with pytest.raises(ValueError, match="divisor"):
        block_mean(x, 3)


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_low_frequencies_are_the_reference_s_and_the_rest_stays(size: int) -> None:
    x = start()
    found = Ilvr(REFERENCE, noise(), size)(x, LEVEL)
    wanted = noised(REFERENCE, noise().like(x), LEVEL)
    torch.testing.assert_close(block_mean(found, size), block_mean(wanted, size), rtol=0, atol=1e-12)
    torch.testing.assert_close(found - block_mean(found, size), x - block_mean(x, size), rtol=0, atol=1e-12)
    if size == 1:
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_blocks_of_one_to_the_end_give_the_reference() -> None:
    ilvr = Ilvr(REFERENCE, noise(), 1, until=1.0)
    found = sample(Guided(tiny_model(), branch(1)), start(), PATH, Ddim(1.0), noise=Noise([0, 1]), after=[ilvr])
    torch.testing.assert_close(found, REFERENCE, rtol=0, atol=1e-12)


def test_an_empty_range_is_the_plain_sampler_bit_for_bit() -> None:
    denoise = Guided(tiny_model(), branch(1))
    ends = [
        sample(denoise, start(), PATH, Ddim(1.0), noise=Noise([0, 1]), after=after)
        for after in ((), [Ilvr(REFERENCE, noise(), 2, until=0.0)])
    ]
    assert torch.equal(*ends)


def test_to_the_end_the_result_has_the_reference_s_low_frequencies_and_those_of_larger_blocks() -> None:
    ilvr = Ilvr(REFERENCE, noise(), 2, until=1.0)
    found = sample(Guided(tiny_model(), branch(1)), start(), PATH, Ddim(), noise=Noise([0, 1]), after=[ilvr])
    for size in (2, 4, 8):
        torch.testing.assert_close(block_mean(found, size), block_mean(REFERENCE, size), rtol=0, atol=1e-12)
    assert (found - REFERENCE).abs().mean() > 0.1


def test_the_reference_is_brought_to_the_level_that_was_reached() -> None:
    """With nothing but noise on both sides the variance stays that of the level; one level too noisy would show."""
    level, before = (replace(scaled_linear().at(torch.tensor(time)), progress=0.5) for time in (300.0, 500.0))
    many = Noise(range(40))
    x = level.sigma * many((40, 4, 16, 16)).double()
    found = Ilvr(torch.zeros_like(x), Noise(range(100, 140)), 2)(x, level)
    low = block_mean(found, 2)[..., ::2, ::2] * 2
    assert low.std().item() == pytest.approx(float(level.sigma), rel=0.02)
    assert abs(low.std().item() - float(before.sigma)) > 0.1
    assert found.std().item() == pytest.approx(float(level.sigma), rel=0.02)


def test_gaussian_data_keep_their_own_high_band() -> None:
    many = Noise(range(24))
    x = many((24, 4, 16, 16)).double()
    reference = torch.full_like(x, 0.5)
    after = [Ilvr(reference, many.fork("reference"), 4, until=1.0)]
    found = sample(Gaussian(0.0, 1.0), x, trailing(scaled_linear(), 100), Ddim(1.0), noise=many, after=after)
    high = found - block_mean(found, 4)
    assert high.std().item() == pytest.approx((1 - 1 / 16) ** 0.5, abs=0.03)
    torch.testing.assert_close(block_mean(found, 4), reference, rtol=0, atol=1e-9)


def test_smaller_blocks_stay_nearer_and_larger_ones_vary_more() -> None:
    def ends(size: int) -> Tensor:
        two = []
        for seed in (0, 10):
            ilvr = Ilvr(REFERENCE, Noise([seed + 80, seed + 81]), size, until=1.0)
            x = start(first_seed=seed)
            two.append(sample(Gaussian(0, 1), x, PATH, Ddim(1.0), noise=Noise([seed, seed + 1]), after=[ilvr]))
        return torch.stack(two)

    near, far = ends(2), ends(8)
    assert (near - REFERENCE).square().mean() < (far - REFERENCE).square().mean()
    assert (near[0] - near[1]).square().mean() < (far[0] - far[1]).square().mean()


def test_mistakes_are_refused() -> None:
    for until in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="until"):
            Ilvr(REFERENCE, noise(), 2, until)
    with pytest.raises(ValueError, match="divisor"):
        Ilvr(REFERENCE, noise(), 16)
    with pytest.raises(ValueError, match="progress"):
        Ilvr(REFERENCE, noise(), 2)(start(), replace(LEVEL, progress=None))
