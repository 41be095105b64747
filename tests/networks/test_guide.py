"""The guide reads each image by itself, at any schedule's levels, and its gradients are those of finite differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.schedules import CosineSchedule, FlowSchedule
from sfumato.guidance.classifier import ClassifierGuided, gradient
from sfumato.guidance.clip import NoisySimilarity
from sfumato.networks.guide import Guide, log_probability
from tests.tiny import TEXT_WIDTH, tiny_guide

X = Noise([1, 2, 3])((3, 4, 16, 16))
LEVEL = CosineSchedule().at(torch.tensor(400.0))
LEVELS = CosineSchedule().at(torch.tensor([20.0, 400.0, 990.0]))


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


def test_a_reading_has_unit_sentences_and_logits_for_each_list() -> None:
    reading = tiny_guide()(X, LEVEL)
    close(reading.sentence.norm(dim=1), torch.ones(3))
    assert reading.sentence.shape == (3, TEXT_WIDTH)
    assert {name: logits.shape for name, logits in reading.logits.items()} == {"concept": (3, 3), "style": (3, 2)}
    assert reading.sentence.std(0).min() > 1e-4, "it does not see x"


def test_no_image_depends_on_another() -> None:
    guide = tiny_guide()
    together = guide(X, LEVELS)
    for i in range(3):
        alone = guide(X[i : i + 1], Level(LEVELS.time[i], LEVELS.alpha[i], LEVELS.sigma[i]))
        close(alone.sentence, together.sentence[i : i + 1])
        close(alone.logits["concept"], together.logits["concept"][i : i + 1])


def test_the_level_counts_and_its_unit_does_not() -> None:
    guide = tiny_guide()
    plain = guide(X, LEVEL).sentence
    assert (guide(X, CosineSchedule().at(torch.tensor(900.0))).sentence - plain).abs().max() > 1e-3
    close(guide(X, Level(LEVEL.time * 7, LEVEL.alpha, LEVEL.sigma)).sentence, plain)


def test_a_flow_of_the_same_ratio_reads_the_same() -> None:
    guide = tiny_guide()
    flow = FlowSchedule().at_ratio(LEVEL.ratio)
    close(guide(X * (flow.sigma / LEVEL.sigma), flow).sentence, guide(X, LEVEL).sentence)


@pytest.mark.parametrize("ends", [(1.0, 0.0), (0.0, 1.0)])
def test_clean_data_and_pure_noise_are_levels_too(ends: tuple[float, float]) -> None:
    alpha, sigma = (torch.tensor(end, dtype=torch.float64) for end in ends)
    reading = tiny_guide()(X, Level(alpha, alpha, sigma))
    assert bool(reading.sentence.isfinite().all()) and bool(reading.logits["style"].isfinite().all())


@pytest.mark.parametrize("side", [8, 24])
def test_latents_of_other_sizes(side: int) -> None:
    assert tiny_guide()(Noise([1])((1, 4, side, side)), LEVEL).sentence.shape == (1, TEXT_WIDTH)


def test_half_precision_reads_in_float32() -> None:
    half, whole = tiny_guide().bfloat16()(X, LEVEL), tiny_guide()(X, LEVEL)
    assert half.sentence.dtype == half.logits["concept"].dtype == torch.float32
    assert (half.sentence * whole.sentence).sum(1).min() > 0.99


def test_log_probabilities_are_those_of_the_words() -> None:
    guide = tiny_guide()
    each = [log_probability(guide, "concept", word)(X, LEVEL) for word in guide.words["concept"]]
    close(torch.stack(each).exp().sum(0), torch.ones(3))
    chosen = log_probability(guide, "concept", ("red apple", "cat", "red apple"))(X, LEVEL)
    close(chosen, torch.stack([each[2][0], each[0][1], each[2][2]]))
    with pytest.raises(ValueError, match="2 words for 3 images"):
        log_probability(guide, "concept", ("cat", "cat"))(X, LEVEL)


@pytest.mark.parametrize("level", [LEVEL, LEVELS], ids=["one level", "a level an image"])
def test_gradients_are_those_of_finite_differences(level: Level) -> None:
    guide = tiny_guide().double()
    target = torch.nn.functional.normalize(Noise([5, 6, 7])((3, TEXT_WIDTH)).double(), dim=-1)
    scores: list[Any] = [log_probability(guide, "concept", "cat face"), NoisySimilarity(guide.encode, target)]
    x, towards, step = X.double(), Noise([8, 9, 10])((3, 4, 16, 16)).double(), 1e-3
    for score in scores:
        with torch.no_grad():
            found = (gradient(lambda x, score=score: score(x, level), x) * towards).flatten(1).sum(1)
            between = (score(x + step * towards, level) - score(x - step * towards, level)) / (2 * step)
        torch.testing.assert_close(found, between, rtol=1e-3, atol=1e-5)
        assert found.abs().min() > 1e-4


def test_following_the_gradient_makes_the_word_likelier() -> None:
    guide = tiny_guide()
    says = log_probability(guide, "concept", "red apple")
    with torch.no_grad():
        x = X
        for _ in range(5):
            x = x + gradient(lambda x: says(x, LEVEL), x)
        assert bool((says(x, LEVEL) > says(X, LEVEL)).all())
        guided = ClassifierGuided(lambda x, level: x, says, 2.0)(X, LEVEL)
    close(guided, X + 2 * LEVEL.ratio.item() * LEVEL.sigma.item() * gradient(lambda x: says(x, LEVEL), X))


def test_unknown_words_are_told_the_nearest() -> None:
    guide = tiny_guide()
    with pytest.raises(ValueError, match="knows no concept 'cat fase'; did you mean 'cat face'[?]$"):
        log_probability(guide, "concept", "cat fase")
    with pytest.raises(ValueError, match="knows no style 'oil'; there are flat, 3d"):
        log_probability(guide, "style", ("flat", "oil"))
    with pytest.raises(ValueError, match="has no 'concpt'; did you mean 'concept'"):
        log_probability(guide, "concpt", "cat")
    with pytest.raises(ValueError, match="needs a word"):
        log_probability(guide, "concept", ())
    with pytest.raises(ValueError, match="knows no concept 'dragon'$"):
        log_probability(tiny_guide(words={"concept": [f"thing {n}" for n in range(99)]}), "concept", "dragon")


def test_saved_and_loaded_it_reads_the_same(tmp_path: Path) -> None:
    guide = tiny_guide()
    guide.save_pretrained(tmp_path)
    loaded = Guide.from_pretrained(tmp_path)
    close(loaded(X, LEVEL).sentence, guide(X, LEVEL).sentence)
    assert loaded.words == guide.words and loaded.scale == guide.scale
    assert 14 < guide.scale < 14.5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({}, "1 to 16 lists"),
        (["cat"], "1 to 16 lists"),
        ({f"list{n}": ["a"] for n in range(17)}, "1 to 16 lists"),
        ({"concept": []}, "has 1 to 20000"),
        ({"concept": "cat"}, "has 1 to 20000"),
        ({"concept": [str(n) for n in range(20_001)]}, "has 1 to 20000"),
        ({"concept": ["x" * 101]}, "printable and of 1 to 100"),
        ({"concept": ["\x1b[2J"]}, "printable"),
        ({"concept": [["cat"]]}, "printable"),
        ({"a.b": ["cat"]}, "identifiers"),
        ({"concept": ["cat", "dog", "cat"]}, "occurs twice"),
    ],
    ids=str,
)
def test_lists_that_are_no_lists_of_words(words: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        tiny_guide(words=words)


@pytest.mark.parametrize(
    "size",
    [{"layers_per_block": 10**6}, {"block_out_channels": (8,) * 100}, {"block_out_channels": (8, 10**6)}],
    ids=str,
)
def test_sizes_that_no_guide_has(size: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a guide has 2 to 6 resolutions of 1 to 8 blocks"):
        tiny_guide(**size)
