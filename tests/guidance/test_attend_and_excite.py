import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sfumato.attention.maps import attention_to
from sfumato.core.branch import Branch, Guided
from sfumato.core.level import Level
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.path import Path, bumps, suffix, trailing
from sfumato.core.sample import sample
from sfumato.core.steps import Ddim, Denoiser, Dpmpp2M, EulerAncestral, Heun, Renoising, State, Step
from sfumato.encoders.text import EncodedText, TextEncoder, TokenEncoder
from sfumato.guidance.attend_and_excite import Attend, AttendAndExcite, Excite, neglect
from tests.parts import counted, scaled_linear, start, tiny_model
from tests.tiny import tiny_clip, tiny_clip_tokenizer

PROMPTS = ["a red cat on a dog", "the dog and the cat", "a dog on a green cat"]
WHERE = trailing(scaled_linear(), 10)


@pytest.fixture(autouse=True)
def _no_grad() -> None:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder((TokenEncoder(tiny_clip_tokenizer(tmp_path_factory.mktemp("clip")), tiny_clip()),))


@pytest.fixture(scope="module")
def text(encoder: TextEncoder) -> EncodedText:
    return encoder(PROMPTS)


def looking(model: DenoisingModel, text: EncodedText) -> Attend:
    return attention_to(model, Branch(text.condition), text, ("cat", "dog"))


def stay(
    denoise: Denoiser, x: Tensor, level: Level, next_level: Level, state: State, noise: Noise
) -> tuple[Tensor, State]:
    """The step that leaves x as it is, so that only what came before it is seen."""
    return x, state


def lamp(calls: list[int] | None = None) -> Attend:
    """x (B, S, h, w) itself as attention, S of them."""

    def attend(x: Tensor, level: Level) -> Tensor:
        if calls is not None:
            calls.append(len(x))
        return x.sigmoid()

    return attend


def moved(step: Step, x: Tensor, level: Level = WHERE[0], next_level: Level = WHERE[1]) -> Tensor:
    return step(lambda x, level: x, x, level, next_level, None, Noise(range(len(x))))[0]


def test_neglect_is_that_of_the_subject_with_the_lowest_peak() -> None:
    attention = torch.zeros(2, 2, 5, 5)
    attention[0, 0, 2, 2], attention[0, 1, 1, 3], attention[1, :, 2, 1] = 1.0, 0.5, 0.8
    middle = 1 / (1 + 2 * math.exp(-1)) ** 2
    torch.testing.assert_close(neglect(attention), torch.tensor([1 - 0.5 * middle, 1 - 0.8 * middle]))


def test_smoothing_is_a_gaussian_that_reflects_at_the_edges() -> None:
    """exp(-(d / (2 * 0.5))^2), the kernel of the authors' code: of variance 1/2, not of the sigma that it names."""
    torch.manual_seed(0)
    attention = torch.rand(1, 1, 4, 6)
    offsets = torch.tensor([-1.0, 0.0, 1.0])
    kernel = (-(offsets[:, None] ** 2) - offsets**2).exp()
    padded = torch.nn.functional.pad(attention, (1, 1, 1, 1), mode="reflect")
    smooth = (padded.unfold(2, 3, 1).unfold(3, 3, 1) * kernel / kernel.sum()).sum((-1, -2))
    torch.testing.assert_close(neglect(attention), 1 - smooth.amax((1, 2, 3)))
    torch.testing.assert_close(neglect(torch.full((1, 2, 2, 2), 0.3)), torch.tensor([0.7]))


def test_a_move_is_down_the_gradient_and_shorter_along_the_path() -> None:
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1] = 1.0
    step = AttendAndExcite(stay, lamp(), scale=3.0, refine=())
    leaf = x.clone().requires_grad_()
    with torch.enable_grad():
        (towards,) = torch.autograd.grad(neglect(leaf.sigmoid()).sum(), leaf)
    for index in (0, 2, 4):
        found = moved(step, x, WHERE[index], WHERE[index + 1])
        torch.testing.assert_close(found, x - 3.0 * math.sqrt(1 - index / 20) * towards)
    assert torch.equal(moved(step, x, WHERE[5], WHERE[6]), x)


def test_the_neglected_subject_gains(text: EncodedText) -> None:
    model = tiny_model()
    attend = looking(model, text)
    for level, next_level in zip(WHERE[:5], WHERE[1:6], strict=True):
        before = neglect(attend(start(3), level))
        after = neglect(attend(moved(AttendAndExcite(stay, attend, refine=()), start(3), level, next_level), level))
        assert (after < before).all()


@pytest.mark.parametrize("inner", [Ddim(), Dpmpp2M(), EulerAncestral()], ids=lambda step: type(step).__name__)
@pytest.mark.parametrize("off", [{"until": 0.0}, {"scale": 0.0}], ids=str)
def test_switched_off_it_is_the_plain_step(text: EncodedText, inner: Step, off: dict[str, float]) -> None:
    model = tiny_model()
    denoise, path = Guided(model, Branch(text.condition)), trailing(scaled_linear(), 4)
    wrapped = AttendAndExcite(inner, looking(model, text), **off)
    with counted(model) as rows:
        found = sample(denoise, start(3), path, wrapped, noise=Noise(range(3)))
    assert rows == [3] * 4
    assert torch.equal(found, sample(denoise, start(3), path, inner, noise=Noise(range(3))))


@pytest.mark.parametrize("inner", [Ddim(), Dpmpp2M(), EulerAncestral(), Heun()], ids=lambda step: type(step).__name__)
def test_it_walks_with_every_step_and_costs_what_it_says(encoder: TextEncoder, text: EncodedText, inner: Step) -> None:
    model = tiny_model()
    none, words = Branch(encoder.null(3)), Branch(text.condition)
    denoise, path = Guided(model, none + 3.0 * (words - none)), trailing(scaled_linear(), 6)
    step = AttendAndExcite(inner, looking(model, text), refine=((0.0, 1.0),), most=2)
    sample(denoise, start(3), path, inner, noise=Noise(range(3)))
    looking(model, text)(start(3), path[0])  # the network is probed for its layers once
    with counted(model) as rows:
        found = sample(denoise, start(3), path, step, noise=Noise(range(3)))
    walked = [6, 6] if isinstance(inner, Heun) else [6]
    assert rows == [3] * 3 + walked + ([3] + walked) * 2 + walked * 2 + [6]
    assert found.isfinite().all() and not found.requires_grad
    plain = sample(denoise, start(3), path, inner, noise=Noise(range(3)))
    assert ((found - plain).abs().amax((1, 2, 3)) > 1e-3).all()


def test_an_image_is_moved_the_same_in_any_batch(encoder: TextEncoder, text: EncodedText) -> None:
    """Bounds between the images' neglects, so that some are left alone while others go on."""
    model = tiny_model()
    wanted = 1 - float(neglect(looking(model, text)(start(3), WHERE[0])).median()) - 1e-6
    settings = {"scale": 50.0, "refine": ((0.0, wanted),), "most": 4}
    together = moved(AttendAndExcite(stay, looking(model, text), **settings), start(3))
    for index, prompt in enumerate(PROMPTS):
        attend = looking(model, encoder([prompt]))
        alone = moved(AttendAndExcite(stay, attend, **settings), start(1, index))
        torch.testing.assert_close(together[index : index + 1], alone, rtol=0, atol=1e-6)


def test_moves_are_repeated_until_the_bound_is_met_and_then_no_more() -> None:
    calls: list[int] = []
    x = torch.full((2, 1, 4, 4), -2.0)
    x[1] = 2.0
    step = AttendAndExcite(stay, lamp(calls), scale=5.0, refine=((0.0, 0.5),), most=100)
    found = moved(step, x)
    assert 2 < len(calls) < 40
    (once,) = (moved(AttendAndExcite(stay, lamp(), scale=5.0, refine=()), x[1:]),)
    torch.testing.assert_close(found[1:], once)
    assert neglect(lamp()(found, WHERE[0]))[0] < 0.5


@pytest.mark.parametrize("most", [0, 1, 7])
def test_at_most_so_many_moves_are_repeated(most: int) -> None:
    calls: list[int] = []
    moved(AttendAndExcite(stay, lamp(calls), scale=1e-3, refine=((0.0, 1.0),), most=most), torch.zeros(1, 1, 4, 4))
    assert len(calls) == 1 + most


@pytest.mark.parametrize(("steps", "wanted"), [(50, [0, 10, 20]), (20, [0, 4, 8]), (7, [0, 2, 3]), (3, [0, 1])])
def test_bounds_belong_to_the_first_step_at_or_beyond_their_share(steps: int, wanted: list[int]) -> None:
    calls: list[int] = []
    step = AttendAndExcite(stay, lamp(calls), scale=1e-3, refine=((0.0, 0.9), (0.2, 1.0), (0.4, 1.0)), most=1)
    path, refined = trailing(scaled_linear(), steps), []
    for index in range(steps):
        calls.clear()
        moved(step, torch.zeros(1, 1, 4, 4), path[index], path[index + 1])
        refined += [index] if len(calls) == 2 else []
    assert refined == wanted


def test_a_walk_that_begins_in_the_middle_does_not_make_up_for_what_it_missed() -> None:
    calls: list[int] = []
    step = AttendAndExcite(stay, lamp(calls), scale=1e-3, refine=((0.0, 1.0), (0.2, 1.0)), most=3)
    path = suffix(trailing(scaled_linear(), 10), 0.7)
    assert path[0].progress and path[0].progress > 0.2
    moved(step, torch.zeros(1, 1, 4, 4), path[0], path[1])
    assert len(calls) == 1


def test_going_up_a_path_nothing_is_excited(text: EncodedText) -> None:
    model, calls = tiny_model(), []

    def attend(x: Tensor, level: Level) -> Tensor:
        calls.append(level.progress)
        return looking(model, text)(x, level)

    path: Path = bumps(trailing(scaled_linear(), 4), 1, 2)
    ups = sum(bool(after.sigma > before.sigma) for before, after in zip(path, path[1:], strict=False))
    denoise = Guided(model, Branch(text.condition))
    step = AttendAndExcite(Renoising(Ddim()), attend, until=1.0, refine=())
    found = sample(denoise, start(3), path, step, noise=Noise(range(3)))
    assert found.isfinite().all() and ups > 0 and len(calls) == len(path) - 1 - ups


def test_it_begins_at_pure_noise_and_on_a_half_precision_network(text: EncodedText) -> None:
    model = tiny_model("v", dtype=torch.bfloat16)
    zero, one = (torch.tensor(value, dtype=torch.float64) for value in (0.0, 1.0))
    pure = Level(torch.tensor(999.0), zero, one, progress=0.0)
    x = start(3).float()
    found = moved(AttendAndExcite(Ddim(), looking(model, text)), x, pure, WHERE[1])
    assert found.dtype == torch.float32 and found.isfinite().all()


@pytest.mark.parametrize(
    "wrong",
    [{"until": 1.5}, {"scale": -1.0}, {"scale": math.inf}, {"most": -1}, {"refine": ((0.0, 2.0),)}],
    ids=str,
)
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs"):
        AttendAndExcite(stay, lamp(), **wrong)
    with pytest.raises(ValueError, match="needs"):
        Excite(("cat",), **wrong)


def test_what_a_flow_asks_for_makes_the_step() -> None:
    attend = lamp()
    assert Excite(("cat", "dog")).over(stay, attend) == AttendAndExcite(stay, attend)
    asked = Excite(("cat",), until=0.3, scale=5.0, refine=(), most=3).over(stay, attend)
    assert asked == AttendAndExcite(stay, attend, 0.3, 5.0, (), 3)
    with pytest.raises(ValueError, match="nothing to excite"):
        Excite(())


def test_a_level_outside_a_path_is_refused() -> None:
    level: Callable[[float], Level] = lambda time: scaled_linear().at(torch.tensor(time))  # noqa: E731
    with pytest.raises(ValueError, match="levels of a path"):
        moved(AttendAndExcite(stay, lamp()), torch.zeros(1, 1, 4, 4), level(400.0), level(300.0))
