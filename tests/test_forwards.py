"""The declared number of forwards per step, counted on the network itself."""

from collections.abc import Callable, Mapping
from itertools import product

import pytest
import torch
from torch import Tensor

from sfumato.attention.identity import IdentityAttention
from sfumato.attention.maps import MapRecorder
from sfumato.core.attention import AttentionEdit
from sfumato.core.branch import Branch, Guided, Mix
from sfumato.core.level import Level
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.path import bumps, trailing
from sfumato.core.sample import sample
from sfumato.core.steps import Ddim, Dpmpp2M, EulerAncestral, Heun, Renoising, Step
from sfumato.guidance.classifier_free import classifier_free, in_interval
from sfumato.guidance.perturbed_attention import perturbation
from sfumato.guidance.projected import Projected
from sfumato.guidance.rescale import Rescaled
from tests.parts import TOKENS, Flatten, HalveValues, Sharpen, branch, counted, scaled_linear, start, tiny_model

STEPS = 4
NONE, TEXT, OTHER = (branch(seed) for seed in range(3))
EDITED = Branch(TEXT.condition, (Sharpen(), Flatten(), HalveValues()))
BESIDE, ALONE = branch(3, tokens=TOKENS + 4), branch(4, tokens=4)
"""Neighbours in the context, after the words and in place of them."""

PERTURBED = Branch(TEXT.condition, (IdentityAttention(),))

METHODS: dict[str, Callable[[DenoisingModel], Callable[[Tensor, Level], Tensor]]] = {
    "one branch": lambda model: Guided(model, TEXT),
    "guidance": lambda model: Guided(model, classifier_free(TEXT, NONE, 7.5)),
    "negative prompt": lambda model: Guided(model, classifier_free(TEXT, OTHER, 7.5)),
    "interval": lambda model: Guided(model, in_interval(classifier_free(TEXT, NONE, 7.5), TEXT, 0.2, 0.8)),
    "three edits": lambda model: Guided(model, classifier_free(EDITED, NONE, 7.5)),
    "perturbed attention": lambda model: Guided(model, TEXT + 3.0 * (TEXT - PERTURBED)),
    "rescale": lambda model: Rescaled(model, classifier_free(TEXT, NONE, 7.5), TEXT, "noise"),
    "neighbours beside words": lambda model: Guided(model, classifier_free(BESIDE, NONE, 7.5)),
    "neighbours as a branch": lambda model: Guided(model, classifier_free(TEXT, NONE, 7.5) + 4.0 * (ALONE - NONE)),
    "all at once": lambda model: Rescaled(
        model,
        classifier_free(EDITED, NONE, 7.5) + 2.0 * (OTHER - NONE) + 2.0 * (ALONE - NONE) + 3.0 * (TEXT - PERTURBED),
        TEXT,
        "noise",
    ),
}


def _forwards(method: str, step: Step, max_rows: int | None = None) -> list[int]:
    model, path = tiny_model(max_rows=max_rows), trailing(scaled_linear(), STEPS)
    denoise = METHODS[method](model)
    with torch.no_grad():
        denoise(start(), path[0])
        with counted(model) as rows:
            sample(denoise, start(), path, step, noise=Noise([0, 1]))
    return rows


@pytest.mark.parametrize("method", METHODS)
def test_one_forward_a_step_whatever_the_method(method: str) -> None:
    assert len(_forwards(method, Ddim())) == STEPS


@pytest.mark.parametrize(
    ("step", "count"),
    [(Ddim(), STEPS), (EulerAncestral(), STEPS), (Dpmpp2M(), STEPS), (Heun(), 2 * STEPS - 1)],
    ids=repr,
)
def test_forwards_of_each_step(step: Step, count: int) -> None:
    """Heun's last step ends clean and is first order."""
    assert len(_forwards("guidance", step)) == count


def test_a_row_limit_costs_forwards_and_only_that() -> None:
    assert _forwards("guidance", Ddim(), max_rows=2) == [2] * 2 * STEPS


def test_going_up_costs_nothing() -> None:
    model, path = tiny_model(), bumps(trailing(scaled_linear(), STEPS), length=2, repeats=2)
    with torch.no_grad(), counted(model) as rows:
        sample(Guided(model, TEXT), start(), path, Renoising(Ddim()), noise=Noise([0, 1]))
    assert len(rows) == STEPS + 2


EDITS: Mapping[str, Callable[[], tuple[AttentionEdit, ...]]] = {
    "no edits": lambda: (),
    "context": lambda: (HalveValues(),),
    "scores, windowed": lambda: (Sharpen(until=0.5),),
    "weights": lambda: (Flatten(),),
    "identity": lambda: (IdentityAttention(),),
    "all, recorded": lambda: (HalveValues(), Sharpen(), Flatten(), IdentityAttention(), MapRecorder()),
}
MIXES: Mapping[str, Callable[[Branch, Branch], Mix | Callable[[Level], Mix]]] = {
    "conditional": lambda text, none: 1.0 * text,
    "guidance": lambda text, none: classifier_free(text, none, 5.0),
    "interval": lambda text, none: in_interval(classifier_free(text, none, 5.0), text, 0.0, 0.5),
    "perturbed": lambda text, none: perturbation(text, IdentityAttention(), 3.0)(
        classifier_free(text, none, torch.tensor([1.0, 7.0]))
    ),
}


@pytest.mark.parametrize(("edits", "mix"), product(EDITS, MIXES))
def test_attention_edits_go_with_every_mix_and_what_is_no_mix(edits: str, mix: str) -> None:
    model, text, none = tiny_model(dtype=torch.float32), branch(1, edits=EDITS[edits]()), branch(0)
    asked, two = MIXES[mix](text, none), trailing(scaled_linear(), 2)
    for denoise in (Guided(model, asked), Rescaled(model, asked, text, "noise"), Projected(model, asked, text)):
        with torch.no_grad():
            denoise(start().float(), two[0])
            with counted(model) as rows:
                x = sample(denoise, start().float(), two, Heun(), noise=Noise([0, 1]))
        assert x.shape == start().shape and x.isfinite().all() and len(rows) == 3, denoise
