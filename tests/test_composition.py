"""Every mix with every set of edits, wrapper, after-step edit and step: finite, right shape, declared forwards.

Two steps each, on a tiny random U-Net. A new method adds one line to the table of its place.
"""

from collections.abc import Callable
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
from sfumato.core.path import trailing
from sfumato.core.sample import sample
from sfumato.core.steps import Ddim, Denoiser, Dpmpp2M, EulerAncestral, Heun, Step
from sfumato.guidance.classifier_free import classifier_free, in_interval
from sfumato.guidance.rescale import Rescaled
from tests.parts import Flatten, HalveValues, Sharpen, branch, counted, scaled_linear, start, tiny_model

MixOf = Mix | Callable[[Level], Mix]

MIXES: dict[str, Callable[[Branch, Branch], MixOf]] = {
    "conditional": lambda text, none: 1.0 * text,
    "guidance": lambda text, none: classifier_free(text, none, 5.0),
    "per image": lambda text, none: classifier_free(text, none, torch.tensor([1.0, 7.0])),
    "interval": lambda text, none: in_interval(classifier_free(text, none, 5.0), text, 0.0, 0.5),
    "perturbed": lambda text, none: (
        classifier_free(text, none, 5.0) + 3.0 * (text - Branch(text.condition, (IdentityAttention(),)))
    ),
}
EDITS: dict[str, Callable[[], tuple[AttentionEdit, ...]]] = {
    "no edits": lambda: (),
    "context": lambda: (HalveValues(),),
    "scores, windowed": lambda: (Sharpen(until=0.5),),
    "weights": lambda: (Flatten(),),
    "identity": lambda: (IdentityAttention(),),
    "all, recorded": lambda: (HalveValues(), Sharpen(), Flatten(), IdentityAttention(), MapRecorder()),
}
DENOISERS: dict[str, Callable[[DenoisingModel, MixOf, Branch], Denoiser]] = {
    "guided": lambda model, mix, text: Guided(model, mix),
    "rescaled": lambda model, mix, text: Rescaled(model, mix, text, "noise"),
}
AFTER: dict[str, tuple[Callable[[Tensor, Level], Tensor], ...]] = {
    "nothing after": (),
    "blend after": (lambda x, level: torch.where(torch.arange(8) < 4, x, level.alpha * 0.1),),
}
STEPS: dict[str, tuple[Step, int]] = {
    "ddim": (Ddim(), 2),
    "ancestral": (EulerAncestral(), 2),
    "heun": (Heun(), 3),
    "dpmpp_2m": (Dpmpp2M(), 2),
}


@pytest.fixture(scope="module")
def model() -> DenoisingModel:
    return tiny_model(dtype=torch.float32)


@pytest.mark.parametrize(("mix", "edits"), product(MIXES, EDITS))
def test_everything_composes(model: DenoisingModel, mix: str, edits: str) -> None:
    path = trailing(scaled_linear(), 2)
    text, none = branch(1, edits=EDITS[edits]()), branch(0)
    for denoiser, after, step in product(DENOISERS, AFTER, STEPS):
        denoise = DENOISERS[denoiser](model, MIXES[mix](text, none), text)
        walk, forwards = STEPS[step]
        with torch.no_grad():
            denoise(start().float(), path[0])
            with counted(model) as rows:
                x = sample(denoise, start().float(), path, walk, noise=Noise([0, 1]), after=AFTER[after])
        assert x.shape == start().shape, (denoiser, after, step)
        assert x.isfinite().all(), (denoiser, after, step)
        assert len(rows) == forwards, (denoiser, after, step)
