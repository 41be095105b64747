"""The declared number of forwards per step, counted on the network itself."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sfumato.attention.identity import IdentityAttention
from sfumato.core.branch import Branch, Guided
from sfumato.core.level import Level
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.path import bumps, trailing
from sfumato.core.sample import sample
from sfumato.core.steps import Ddim, Dpmpp2M, EulerAncestral, Heun, Renoising, Step
from sfumato.guidance.classifier_free import classifier_free, in_interval
from sfumato.guidance.rescale import Rescaled
from tests.parts import Flatten, HalveValues, Sharpen, branch, counted, scaled_linear, start, tiny_model

STEPS = 4
NONE, TEXT, OTHER = (branch(seed) for seed in range(3))
EDITED = Branch(TEXT.condition, (Sharpen(), Flatten(), HalveValues()))
PERTURBED = Branch(TEXT.condition, (IdentityAttention(),))

METHODS: dict[str, Callable[[DenoisingModel], Callable[[Tensor, Level], Tensor]]] = {
    "one branch": lambda model: Guided(model, TEXT),
    "guidance": lambda model: Guided(model, classifier_free(TEXT, NONE, 7.5)),
    "negative prompt": lambda model: Guided(model, classifier_free(TEXT, OTHER, 7.5)),
    "interval": lambda model: Guided(model, in_interval(classifier_free(TEXT, NONE, 7.5), TEXT, 0.2, 0.8)),
    "three edits": lambda model: Guided(model, classifier_free(EDITED, NONE, 7.5)),
    "perturbed attention": lambda model: Guided(model, TEXT + 3.0 * (TEXT - PERTURBED)),
    "rescale": lambda model: Rescaled(model, classifier_free(TEXT, NONE, 7.5), TEXT, "noise"),
    "all at once": lambda model: Rescaled(
        model, classifier_free(EDITED, NONE, 7.5) + 2.0 * (OTHER - NONE) + 3.0 * (TEXT - PERTURBED), TEXT, "noise"
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
