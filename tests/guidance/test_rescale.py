import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from sfumato.core.branch import Guided
from sfumato.core.predict import Prediction, from_x0, to_x0
from sfumato.core.schedules import CosineSchedule
from sfumato.guidance.classifier_free import classifier_free
from sfumato.guidance.rescale import Rescaled
from tests.parts import branch, counted, scaled_linear, start, tiny_model

TEXT, NONE = branch(1), branch(0)
MIX = classifier_free(TEXT, NONE, 7.5)
LEVEL = scaled_linear().at(torch.tensor(600.0))
KINDS: list[Prediction] = ["noise", "v", "x0", "flow"]


@pytest.fixture(autouse=True)
def _no_grad() -> None:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_it_equals_diffusers_on_the_output_of_the_network(kind: Prediction) -> None:
    model, x = tiny_model(kind), start()
    none, text = (model.raw(x, LEVEL, part.condition) for part in (NONE, TEXT))
    wanted = rescale_noise_cfg(none + 7.5 * (text - none), text, guidance_rescale=0.7)
    found = Rescaled(model, MIX, TEXT, kind, share=0.7)(x, LEVEL)
    torch.testing.assert_close(found, to_x0(kind, wanted, x, LEVEL), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_share_zero_is_plain_guidance_and_one_has_the_conditional_spread(kind: Prediction) -> None:
    model, x = tiny_model(kind), start()
    plain = Guided(model, MIX)(x, LEVEL)
    torch.testing.assert_close(Rescaled(model, MIX, TEXT, kind, share=0.0)(x, LEVEL), plain, rtol=0, atol=1e-9)
    whole = from_x0(kind, Rescaled(model, MIX, TEXT, kind, share=1.0)(x, LEVEL), x, LEVEL)
    text = model.raw(x, LEVEL, TEXT.condition)
    torch.testing.assert_close(whole.std(dim=(1, 2, 3)), text.std(dim=(1, 2, 3)), rtol=0, atol=1e-9)


def test_the_space_in_which_the_spread_is_taken_matters() -> None:
    model, x = tiny_model("v"), start()
    in_v, in_x0 = (Rescaled(model, MIX, TEXT, kind)(x, LEVEL) for kind in ("v", "x0"))
    assert (in_v - in_x0).abs().max() > 1e-3


def test_pure_noise_is_rescaled_in_v() -> None:
    level = CosineSchedule().at(torch.tensor(999.0))
    assert Rescaled(tiny_model("v"), MIX, TEXT, "v")(start(), level).isfinite().all()


def test_the_conditional_branch_is_evaluated_even_where_the_mix_lacks_it() -> None:
    model = tiny_model()
    for mix, rows in ((MIX, 4), (lambda level: classifier_free(TEXT, NONE, 0.0), 4), (1.0 * TEXT, 2)):
        with counted(model) as found:
            Rescaled(model, mix, TEXT, "noise")(start(), LEVEL)
        assert found == [rows]


def test_mistakes_are_refused_at_construction() -> None:
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="share"):
            Rescaled(tiny_model(), MIX, TEXT, "noise", share)
    with pytest.raises(ValueError, match="sum to 1"):
        Rescaled(tiny_model(), 2.0 * TEXT, TEXT, "noise")
