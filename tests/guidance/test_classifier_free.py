import pytest
import torch

from sfumato.core.branch import Branch, Guided
from sfumato.core.condition import Condition
from sfumato.core.path import trailing
from sfumato.core.predict import to_x0
from sfumato.guidance.classifier_free import classifier_free, in_interval
from tests.parts import branch, counted, scaled_linear, start, tiny_model

TEXT, NONE = branch(1), branch(0)
PATH = trailing(scaled_linear(), 5)


@pytest.fixture(autouse=True)
def _no_grad() -> None:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("scale", [0.0, 1.0, 7.5, -2.0])
def test_it_is_the_equation_in_noise_space_too(scale: float) -> None:
    model, x, level = tiny_model(), start(), PATH[2]
    none, text = (model.raw(x, level, part.condition) for part in (NONE, TEXT))
    wanted = to_x0("noise", none + scale * (text - none), x, level)
    torch.testing.assert_close(Guided(model, classifier_free(TEXT, NONE, scale))(x, level), wanted, rtol=0, atol=1e-9)


def test_clipping_breaks_that_equality() -> None:
    """Why thresholding wraps the denoiser and is no part of a mix."""
    model, x, level = tiny_model(), 3 * start(), PATH[1]
    mix = classifier_free(TEXT, NONE, 7.5)
    none, text = (estimate.clamp(-1, 1) for estimate in model(x, level, [NONE, TEXT]))
    outside = Guided(model, mix)(x, level).clamp(-1, 1)
    assert (outside - mix.of({NONE: none, TEXT: text})).abs().max() > 0.1


@pytest.mark.parametrize(("scale", "rows"), [(1.0, [2]), (0.0, [2]), (7.5, [4])])
def test_a_branch_that_does_not_count_is_not_evaluated(scale: float, rows: list[int]) -> None:
    model = tiny_model()
    with counted(model) as found:
        Guided(model, classifier_free(TEXT, NONE, scale))(start(), PATH[0])
    assert found == rows


def test_each_image_may_have_its_own_scale() -> None:
    model, x, level = tiny_model(), start(), PATH[2]
    both = Guided(model, classifier_free(TEXT, NONE, torch.tensor([1.0, 6.0])))(x, level)
    for index, scale in enumerate((1.0, 6.0)):
        alone = Guided(model, classifier_free(TEXT, NONE, scale))(x, level)
        torch.testing.assert_close(both[index], alone[index], rtol=0, atol=1e-9)


def test_the_same_condition_twice_makes_any_scale_a_no_op() -> None:
    model, x, level = tiny_model(), start(), PATH[2]
    twin = Branch(TEXT.condition)
    found = Guided(model, classifier_free(TEXT, twin, 9.0))(x, level)
    torch.testing.assert_close(found, model(x, level, [TEXT])[0], rtol=0, atol=1e-9)


def test_guidance_over_an_interval_costs_one_branch_outside_it() -> None:
    model = tiny_model()
    denoise = Guided(model, in_interval(classifier_free(TEXT, NONE, 5.0), TEXT, 0.2, 0.6))
    with counted(model) as rows:
        for level in PATH[:-1]:
            denoise(start(), level)
    assert rows == [2, 4, 4, 2, 2]


@pytest.mark.parametrize(("begin", "end"), [(0.5, 0.5), (0.6, 0.2), (-0.1, 0.5), (0.5, 1.1)])
def test_intervals_that_are_none_are_refused(begin: float, end: float) -> None:
    with pytest.raises(ValueError, match="start < stop"):
        in_interval(classifier_free(TEXT, NONE, 5.0), TEXT, begin, end)


def test_an_interval_needs_a_path() -> None:
    mix = in_interval(classifier_free(TEXT, NONE, 5.0), TEXT, 0.2, 0.6)
    with pytest.raises(ValueError, match="progress"):
        mix(scaled_linear().at(torch.tensor(5.0)))


def test_it_prints_the_equation() -> None:
    text, none = (Branch(Condition(), name=name) for name in ("text", "none"))
    assert repr(classifier_free(text, none, 7.5)) == "none + 7.5*(text - none)"
