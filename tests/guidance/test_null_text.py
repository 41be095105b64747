"""Tuned nulls lead guided sampling back to the image; untuned ones do not."""

import pytest
import torch
from torch import Tensor

from sfumato.core.branch import Branch, Guided
from sfumato.core.condition import Condition
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.sample import sample
from sfumato.core.steps import Ddim
from sfumato.guidance.classifier_free import classifier_free
from sfumato.guidance.null_text import NullText, null_by_step
from tests.parts import branch, counted, scaled_linear, start, tiny_model

TEXT, NONE = branch(1), branch(0)
PATH = trailing(scaled_linear(), 6)


@pytest.fixture(scope="module")
def known() -> list[Tensor]:
    """x at each level on the way to an image, without guidance: what an exact inversion of that image finds."""
    pivots = [start()]
    denoise = Guided(tiny_model(), TEXT)
    with torch.no_grad():
        sample(denoise, pivots[0], PATH, noise=Noise([0, 1]), watch=lambda record: pivots.append(record.x))
    return pivots


def test_tuned_nulls_lead_back_to_the_image(known: list[Tensor]) -> None:
    model = tiny_model()
    tuned = NullText(5.0, iterations=30, rate=0.1)(model, TEXT, NONE.condition, known, PATH)
    assert len(tuned) == len(PATH) - 1 and not any(each.requires_grad for each in tuned)

    def end(tokens: list[Tensor]) -> float:
        null = null_by_step(NONE.condition, tokens, PATH)
        with torch.no_grad():
            return distance(
                sample(
                    Guided(model, lambda level: classifier_free(TEXT, null(level), 5.0)),
                    known[0],
                    PATH,
                    Ddim(),
                    noise=Noise([0, 1]),
                )
            )

    def distance(x: Tensor) -> float:
        return float((x - known[-1]).square().mean())

    plain = [NONE.condition.tokens] * (len(PATH) - 1)
    with torch.no_grad():
        guided = Guided(model, classifier_free(TEXT, NONE, 5.0))
        untuned = distance(sample(guided, known[0], PATH, Ddim(), noise=Noise([0, 1])))
    assert end(plain) == pytest.approx(untuned), "untuned nulls are plain guidance"
    assert end(tuned) < 0.5 * untuned
    assert all(parameter.grad is None for parameter in model.network.unet.parameters())


def test_a_null_that_is_right_already_is_left_alone(known: list[Tensor]) -> None:
    """Where the null is the text itself, guidance changes nothing and every pivot is met."""
    model = tiny_model()
    with counted(model) as rows:
        tuned = NullText(5.0, close_enough=1e-6)(model, TEXT, TEXT.condition, known, PATH)
    assert all(torch.equal(each, TEXT.condition.tokens.float()) for each in tuned)
    assert len(rows) == 2 * (len(PATH) - 1), "one of the text, one look at the loss"


def test_no_step_ends_further_from_its_pivot_than_with_the_plain_null(known: list[Tensor]) -> None:
    """At a rate that overshoots, and where the null is nearly right already."""
    model, near = tiny_model(), branch(1)
    near.condition.tokens.add_(
        0.01 * torch.randn(near.condition.tokens.shape, generator=torch.Generator().manual_seed(0))
    )
    for none, rate in ((NONE.condition, 0.5), (near.condition, 0.01)):
        tuned = NullText(5.0, iterations=3, rate=rate, close_enough=0.0)(model, TEXT, none, known, PATH)
        x = known[0]
        for index, tokens in enumerate(tuned):
            ends = [_stepped(model, x, none.replace(tokens=each), index) for each in (tokens, none.tokens)]
            losses = [(end - known[index + 1]).square().flatten(1).mean(1) for end in ends]
            assert (losses[0] <= losses[1] * (1 + 1e-5)).all()
            x = ends[0]


def test_nulls_are_tuned_beyond_a_hundred_steps() -> None:
    """One step in every so many of a long path: where its tokens begin is not where they end."""
    model, path = tiny_model(), trailing(scaled_linear(), 130)
    pivots = [start()] * len(path)
    tuned = NullText(5.0, iterations=1, close_enough=-1.0)(model, TEXT, NONE.condition, pivots, path)
    assert not torch.equal(tuned[119], tuned[120])


def _stepped(model: DenoisingModel, x: Tensor, none: Condition, index: int) -> Tensor:
    """One guided step of DDIM from x, by its definition."""
    guided = Guided(model, classifier_free(TEXT, Branch(none), 5.0))
    with torch.no_grad():
        return sample(guided, x, PATH[index : index + 2], Ddim(), noise=Noise([0, 1]))


def test_forwards(known: list[Tensor]) -> None:
    model = tiny_model()
    with counted(model) as rows:
        NullText(5.0, iterations=3, close_enough=0.0)(model, TEXT, NONE.condition, known[:2], PATH[:2])
    assert rows == [2] * (1 + 3 + 2)


def test_mistakes_are_refused(known: list[Tensor]) -> None:
    for scale, iterations in ((1.0, 10), (7.5, 0)):
        with pytest.raises(ValueError, match="scale"):
            NullText(scale, iterations)
    with pytest.raises(ValueError, match="pivot"):
        NullText()(tiny_model(), TEXT, NONE.condition, known[1:], PATH)
    with pytest.raises(ValueError, match="steps"):
        null_by_step(NONE.condition, [start()], PATH)
    null = null_by_step(NONE.condition, [NONE.condition.tokens] * 6, PATH)
    with pytest.raises(ValueError, match="no null was tuned"):
        null(scaled_linear().at(torch.tensor(123.0)))
