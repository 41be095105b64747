"""Tuned nulls lead guided sampling back to the image; untuned ones do not."""

import pytest
import torch
from torch import Tensor

from sfumato.core.branch import Guided
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
    assert len(rows) == 3 * (len(PATH) - 1), "one of the text, one look at the loss, one step"


def test_forwards(known: list[Tensor]) -> None:
    model = tiny_model()
    with counted(model) as rows:
        NullText(5.0, iterations=3, close_enough=0.0)(model, TEXT, NONE.condition, known[:2], PATH[:2])
    assert rows == [2] * (1 + 3 + 1)


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
