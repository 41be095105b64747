import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from diffusers.guiders.adaptive_projected_guidance import normalized_guidance

from sfumato.core.branch import Branch, Guided
from sfumato.core.condition import Condition
from sfumato.guidance.classifier_free import classifier_free, in_interval
from sfumato.guidance.projected import Projected
from tests.parts import branch, counted, scaled_linear, start, tiny_model

TEXT, NONE, OTHER = branch(1), branch(0), branch(2)
MIX = classifier_free(TEXT, NONE, 7.5)
LEVEL = scaled_linear().at(torch.tensor(600.0))


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("limit", [0.0, 2.5])
def test_it_equals_diffusers_on_estimates(share: float, limit: float) -> None:
    """In the paper's form; their limit is on text - none, ours on what is added, 6.5 times that; 0 means none."""
    model, x = tiny_model(), start()
    text, none = model(x, LEVEL, [TEXT, NONE])
    wanted = normalized_guidance(text, none, 6.5, None, share, limit, use_original_formulation=True)
    found = Projected(model, MIX, TEXT, share, 6.5 * limit or math.inf)(x, LEVEL)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)


def test_keeping_all_without_a_limit_is_plain_guidance() -> None:
    model, x = tiny_model(), start()
    found = Projected(model, MIX, TEXT, along_share=1.0)(x, LEVEL)
    torch.testing.assert_close(found, Guided(model, MIX)(x, LEVEL), rtol=0, atol=1e-12)


def test_what_is_added_stands_across_and_is_no_longer_than_the_limit() -> None:
    model, x = tiny_model(), start()
    (plain,) = model(x, LEVEL, [TEXT])
    added = Projected(model, MIX + 2.0 * (OTHER - NONE), TEXT, 0.0, 0.5)(x, LEVEL) - plain
    assert (added * plain).sum((1, 2, 3)).abs().max() < 1e-9
    assert added.flatten(1).norm(dim=1).max() <= 0.5 + 1e-9
    assert added.abs().max() > 1e-3


def test_pictures_do_not_mix_and_share_one_forward() -> None:
    model, x = tiny_model(), start()
    with counted(model) as rows:
        together = Projected(model, MIX, TEXT)(x, LEVEL)
    assert rows == [4]
    text, none = (Branch(Condition(tokens=each.condition.tokens[1:])) for each in (TEXT, NONE))
    alone = Projected(model, classifier_free(text, none, 7.5), text)(x[1:], LEVEL)
    torch.testing.assert_close(alone, together[1:], rtol=0, atol=1e-9)


def test_mixes_of_the_level_are_followed() -> None:
    model, x = tiny_model(), start()
    (plain,) = model(x, LEVEL, [TEXT])
    early = Projected(model, in_interval(MIX, TEXT, 0.0, 0.5), TEXT)
    torch.testing.assert_close(early(x, replace(LEVEL, progress=0.7)), plain, rtol=0, atol=1e-12)
    assert (early(x, replace(LEVEL, progress=0.2)) - plain).abs().max() > 1e-3


def test_mistakes_are_refused_at_construction() -> None:
    for share, limit in ((-0.1, 1.0), (1.1, 1.0), (0.0, 0.0), (0.0, math.nan)):
        with pytest.raises(ValueError, match="along_share"):
            Projected(tiny_model(), MIX, TEXT, share, limit)
    with pytest.raises(ValueError, match="sum to 1"):
        Projected(tiny_model(), 2.0 * TEXT, TEXT)
