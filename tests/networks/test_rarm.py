"""The autoregressive network: causal, blind to the order of its context, and the same with and without a cache."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core.noise import Noise
from sfumato.networks.rarm import Rarm, log_likelihood

CODES, LENGTH, WIDTH = 11, 9, 6


def tiny_rarm(**settings: Any) -> Rarm:
    """9 codes of 11 under vectors of 6 numbers, its weights large enough that all of it is heard."""
    torch.manual_seed(0)
    plain = {"codes": CODES, "length": LENGTH, "context_width": WIDTH, "width": 16, "layers": 2, "heads": 2}
    rarm = Rarm(**{**plain, **settings}).eval().requires_grad_(False)
    for weight in rarm.parameters():
        weight.add_(0.2 * torch.randn_like(weight))
    return rarm


RARM = tiny_rarm()
CONTEXT = Noise([1, 2, 3])((3, 4, WIDTH))
PICTURE = (Noise([4, 5, 6]).uniform((3, LENGTH)) * CODES).long()
TOLD = PICTURE[:, :-1]


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=5e-6)


def test_one_row_of_logits_for_each_place() -> None:
    for n in range(LENGTH):
        logits = RARM(PICTURE[:, :n], CONTEXT)
        assert logits.shape == (3, n + 1, CODES) and logits.dtype == torch.float32
        close(logits, RARM(TOLD, CONTEXT)[:, : n + 1])
    assert (RARM.codes, RARM.length, RARM.context_width) == (CODES, LENGTH, WIDTH)


@pytest.mark.parametrize("j", range(LENGTH - 1))
def test_a_code_is_heard_by_later_places_only(j: int) -> None:
    changed = TOLD.clone()
    changed[:, j] = (changed[:, j] + 1) % CODES
    before, after = RARM(TOLD, CONTEXT), RARM(changed, CONTEXT)
    assert torch.equal(before[:, : j + 1], after[:, : j + 1])
    assert (before[:, j + 1 :] - after[:, j + 1 :]).abs().amax((0, 2)).min() > 1e-3


def test_the_context_has_no_order_and_its_copies_say_nothing_new() -> None:
    plain = RARM(TOLD, CONTEXT)
    close(RARM(TOLD, CONTEXT[:, [2, 0, 3, 1]]), plain)
    close(RARM(TOLD, CONTEXT.repeat(1, 3, 1)), plain)
    close(RARM(TOLD, CONTEXT.repeat_interleave(2, 1)), plain)
    assert (RARM(TOLD, CONTEXT.roll(1, 0)) - plain).abs().max() > 1e-2


def test_the_number_of_neighbours_may_vary() -> None:
    found = [RARM(TOLD, CONTEXT[:, :k]) for k in range(1, 5)]
    assert all((one - other).abs().max() > 1e-3 for one, other in zip(found, found[1:], strict=False))
    null = RARM(TOLD, torch.zeros(3, 1, WIDTH))
    close(RARM(TOLD, torch.zeros(3, 20, WIDTH)), null)
    assert (null - found[-1]).abs().max() > 1e-2


def test_no_picture_depends_on_another() -> None:
    together = RARM(TOLD, CONTEXT)
    for i in range(3):
        close(RARM(TOLD[i : i + 1], CONTEXT[i : i + 1]), together[i : i + 1])


def test_with_a_cache_the_logits_are_those_without() -> None:
    whole = RARM(TOLD, CONTEXT)
    logits, cache = RARM.begin(CONTEXT)
    close(logits, whole[:, 0])
    for i in range(LENGTH - 1):
        logits, cache = RARM.go_on(TOLD[:, i], cache)
        close(logits, whole[:, i + 1])
    with pytest.raises(ValueError, match="9 codes, and the last"):
        RARM.go_on(PICTURE[:, -1], cache)


def test_a_cache_can_be_gone_on_from_twice() -> None:
    _, cache = RARM.begin(CONTEXT)
    first, _ = RARM.go_on(TOLD[:, 0], cache)
    other, _ = RARM.go_on((TOLD[:, 0] + 1) % CODES, cache)
    again, _ = RARM.go_on(TOLD[:, 0], cache)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_likelihoods_of_all_pictures_add_up_to_one() -> None:
    rarm = tiny_rarm(codes=3, length=4)
    every = torch.tensor(list(product(range(3), repeat=4)))
    likely = log_likelihood(rarm, every, CONTEXT[:1].expand(len(every), -1, -1))
    assert likely.shape == (81,) and bool((likely < 0).all())
    torch.testing.assert_close(likely.double().exp().sum(), torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=1e-6)


def test_the_likelihood_is_the_sum_over_codes() -> None:
    logs = RARM(TOLD, CONTEXT).log_softmax(-1)
    close(log_likelihood(RARM, PICTURE, CONTEXT), logs.gather(2, PICTURE[..., None]).sum((1, 2)))


def test_saved_and_loaded_it_says_the_same(tmp_path: Path) -> None:
    RARM.save_pretrained(tmp_path)
    loaded: Any = Rarm.from_pretrained(tmp_path)
    assert torch.equal(loaded(TOLD, CONTEXT), RARM(TOLD, CONTEXT))
    half = loaded.bfloat16()(TOLD, CONTEXT)
    assert half.dtype == torch.float32 and (half - RARM(TOLD, CONTEXT)).abs().max() < 0.2


@pytest.mark.parametrize("codes", [PICTURE, PICTURE[0], torch.zeros(3, 2, 2, dtype=torch.int64)])
def test_other_codes_are_refused(codes: Tensor) -> None:
    with pytest.raises(ValueError, match="codes with n < 9"):
        RARM(codes, CONTEXT)


@pytest.mark.parametrize("shape", [(2, 4, WIDTH), (3, 0, WIDTH), (3, 4, WIDTH + 1), (3, WIDTH)])
def test_other_contexts_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected C of shape \(3, k, 6\)"):
        RARM(TOLD, torch.zeros(shape))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"codes": 0}, "codes must lie in 1 to"),
        ({"length": 10**9}, "length must lie in 1 to"),
        ({"layers": 10**6}, "layers must lie in 1 to 64"),
        ({"context_width": -1}, "context_width must lie"),
        ({"heads": 3}, "multiple of the heads"),
        ({"heads": 0}, "heads must lie in 1 to 16"),
    ],
)
def test_sizes_that_no_network_has_are_refused(settings: dict[str, int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        tiny_rarm(**settings)
