import pytest
import torch

from sfumato.attention.identity import IdentityAttention
from sfumato.core.branch import Branch, Guided, as_mix
from sfumato.guidance.classifier_free import classifier_free
from sfumato.guidance.perturbed_attention import perturbation
from tests.parts import Flatten, branch, counted, scaled_linear, start, tiny_model

TEXT, NONE = branch(1), branch(0)
LEVEL = scaled_linear().at(torch.tensor(600.0))


def test_it_adds_its_term_to_any_mix() -> None:
    model, x = tiny_model(), start()
    worse = Branch(TEXT.condition, (IdentityAttention(),))
    add = perturbation(TEXT, IdentityAttention(), 3.0)
    with torch.no_grad():
        none, text, perturbed = model(x, LEVEL, [NONE, TEXT, worse])
        alone = Guided(model, add(as_mix(TEXT)))(x, LEVEL)
        both = Guided(model, add(classifier_free(TEXT, NONE, 5.0)))(x, LEVEL)
    torch.testing.assert_close(alone, text + 3.0 * (text - perturbed), rtol=0, atol=1e-9)
    torch.testing.assert_close(both, none + 5.0 * (text - none) + 3.0 * (text - perturbed), rtol=0, atol=1e-9)
    assert (alone - text).abs().max() > 1e-3


def test_scale_zero_costs_nothing_and_one_forward_serves_all() -> None:
    model = tiny_model()
    for scale, rows in ((0.0, 2), (2.0, 4), (torch.tensor([0.0, 2.0]), 4)):
        with torch.no_grad(), counted(model) as found:
            Guided(model, perturbation(TEXT, IdentityAttention(), scale)(as_mix(TEXT)))(start(), LEVEL)
        assert found[-1] == rows


def test_other_edits_stay_on_the_perturbed_branch() -> None:
    text = branch(1, edits=(Flatten(),))
    (perturbed,) = set(perturbation(text, IdentityAttention(), 1.0)(as_mix(text)).weights) - {text}
    assert [type(edit) for edit in perturbed.edits] == [Flatten, IdentityAttention]


@pytest.mark.parametrize("scale", [2.0, 3.0])
def test_it_prints_as_the_formula(scale: float) -> None:
    mix = perturbation(TEXT, IdentityAttention(), scale)(classifier_free(TEXT, NONE, 5.0))
    assert repr(mix) == f"b0 + 5*(b1 - b0) + {scale:g}*(b1 - perturbed(b1))"
