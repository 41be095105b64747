import pytest
import torch
from torch import Tensor

from sfumato.core.attention import AttentionCall
from sfumato.core.branch import Branch, Guided
from sfumato.core.condition import Condition
from sfumato.core.level import Level
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.predict import Prediction, to_x0
from sfumato.core.sample import sample
from sfumato.core.steps import Ddim, Dpmpp2M, Heun, Step
from tests.parts import HalveValues, Sharpen, branch, counted, scaled_linear, start, tiny_model

LEVEL = scaled_linear().at(torch.tensor(400.0))


@pytest.fixture(autouse=True)
def _no_grad() -> None:
    with torch.no_grad():
        yield


def test_branches_together_equal_branches_apart_in_one_forward() -> None:
    model, x = tiny_model(), start()
    branches = [branch(0), branch(1), branch(2, edits=(Sharpen(),)), branch(3), branch(4, edits=(HalveValues(),))]
    with counted(model) as probe:
        model(x, LEVEL, branches[2:3])
    assert probe == [1, 2]
    with counted(model) as rows:
        together = model(x, LEVEL, branches)
    assert rows == [10]
    for estimate, alone in zip(together, branches, strict=True):
        torch.testing.assert_close(estimate, model(x, LEVEL, [alone])[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("max_rows", "rows"), [(1, [2, 2, 2]), (2, [2, 2, 2]), (4, [4, 2]), (5, [4, 2]), (6, [6])])
def test_max_rows_divides_between_branches_and_changes_nothing(max_rows: int, rows: list[int]) -> None:
    x, branches = start(), [branch(0), branch(1), branch(2, edits=(Sharpen(),))]
    whole, limited = tiny_model(), tiny_model(max_rows=max_rows)
    limited(x, LEVEL, branches)
    with counted(limited) as found:
        parts = limited(x, LEVEL, branches)
    assert found == rows
    for part, estimate in zip(parts, whole(x, LEVEL, branches), strict=True):
        torch.testing.assert_close(part, estimate, rtol=0, atol=1e-10)


@pytest.mark.parametrize("step", [Ddim(), Ddim(1.0), Heun(), Dpmpp2M()], ids=repr)
def test_an_image_of_a_batch_equals_the_same_seed_alone(step: Step) -> None:
    model, path = tiny_model(), trailing(scaled_linear(), 3)

    def run(first_seed: int, count: int) -> Tensor:
        edited = branch(2, 3, edits=(Sharpen(),))
        rows = slice(first_seed, first_seed + count)
        none, text = Branch(branch(1, 3).condition.rows(rows)), Branch(edited.condition.rows(rows), edited.edits)
        noise = Noise(range(first_seed, first_seed + count))
        x = noise((count, 4, 8, 8)).double()
        return sample(Guided(model, none + 4.0 * (text - none)), x, path, step, noise=noise)

    batch = run(0, 3)
    for index in range(3):
        torch.testing.assert_close(batch[index : index + 1], run(index, 1), rtol=0, atol=1e-9)


def test_tokens_of_different_lengths_share_a_forward() -> None:
    model, x, short, long = tiny_model(), start(), branch(0, tokens=4), branch(1, tokens=9)
    for estimate, alone in zip(model(x, LEVEL, [short, long]), (short, long), strict=True):
        torch.testing.assert_close(estimate, model(x, LEVEL, [alone])[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("prediction", ["noise", "x0", "v", "flow"])
def test_estimates_are_the_network_output_turned_to_x0(prediction: Prediction) -> None:
    model, x, text = tiny_model(prediction), start(), branch(1)
    output = model.network.unet(x, 400, text.condition.tokens).sample
    assert torch.equal(model.raw(x, LEVEL, text.condition), output)
    (estimate,) = model(x, LEVEL, [text])
    torch.testing.assert_close(estimate, to_x0(prediction, output, x, LEVEL), rtol=0, atol=1e-12)


def test_mixing_is_the_same_in_all_coordinates() -> None:
    model, x, none, image, both = tiny_model(), start(), *(branch(seed) for seed in range(3))
    mixed = Guided(model, none + 1.5 * (image - none) + 7.5 * (both - image))(x, LEVEL)
    raw = [model.raw(x, LEVEL, part.condition) for part in (none, image, both)]
    noise = raw[0] + 1.5 * (raw[1] - raw[0]) + 7.5 * (raw[2] - raw[1])
    torch.testing.assert_close(mixed, to_x0("noise", noise, x, LEVEL), rtol=0, atol=1e-9)


def test_one_level_an_image_equals_each_level_alone() -> None:
    model, x, text, none = tiny_model(), start(), branch(1), branch(0)
    levels = scaled_linear().at(torch.tensor([100.0, 900.0]))
    both = model(x, levels, [none, text])
    raw = model.raw(x, levels, text.condition)
    for index, time in enumerate((100.0, 900.0)):
        level, rows = scaled_linear().at(torch.tensor(time)), slice(index, index + 1)
        alone = [Branch(part.condition.rows(rows)) for part in (none, text)]
        for estimate, wanted in zip(both, model(x[rows], level, alone), strict=True):
            torch.testing.assert_close(estimate[rows], wanted, rtol=0, atol=1e-10)
        wanted = model.raw(x[rows], level, alone[1].condition)
        torch.testing.assert_close(raw[rows], wanted, rtol=0, atol=1e-10)


def test_the_network_may_be_half_and_estimates_are_not() -> None:
    model = tiny_model(dtype=torch.bfloat16)
    (estimate,) = model(start().float(), LEVEL, [branch(1)])
    assert estimate.dtype == torch.float32
    (exact,) = tiny_model(dtype=torch.float32)(start().float(), LEVEL, [branch(1)])
    assert 0 < (estimate - exact).abs().max() < 0.1 * exact.abs().max()
    with pytest.raises(ValueError, match="x must be float32"):
        model(start().bfloat16(), LEVEL, [branch(1)])


def test_time_reaches_a_half_network_unrounded() -> None:
    """999 is no number of bfloat16."""
    times: list[Tensor] = []

    class Listening:
        prediction, dtype = "x0", torch.bfloat16

        def __call__(self, x: Tensor, time: Tensor, condition: Condition, call: AttentionCall | None) -> Tensor:
            times.append(time)
            return x

    model = DenoisingModel(Listening(), scaled_linear())
    model(start().float(), scaled_linear().at(torch.tensor(999.0)), [branch(1)])
    assert times[0].tolist() == [999.0, 999.0]


def test_a_model_takes_any_shape_of_x() -> None:
    class Linear:
        prediction, dtype = "x0", torch.float32

        def __call__(self, x: Tensor, time: Tensor, condition: Condition, call: AttentionCall | None) -> Tensor:
            return x + condition.vector

    vectors = [torch.full((3, 8), value) for value in (1.0, 2.0)]
    model = DenoisingModel(Linear(), scaled_linear())
    found = model(torch.zeros(3, 8), LEVEL, [Branch(Condition(vector=vector)) for vector in vectors])
    assert torch.equal(torch.stack(found), torch.stack(vectors))


def test_mistakes_are_named() -> None:
    model, x = tiny_model(), start()
    with pytest.raises(ValueError, match="at least one branch"):
        model(x, LEVEL, [])
    with pytest.raises(ValueError, match="b1 is conditioned for 3 images and x has 2"):
        model(x, LEVEL, [branch(1, count=3)])
    with pytest.raises(ValueError, match="one level for all images"):
        model(x, scaled_linear().at(torch.tensor([1.0, 2.0])), [branch(1, edits=(Sharpen(),))])
    with pytest.raises(ValueError, match="max_rows"):
        tiny_model(max_rows=0)
    with pytest.raises(ValueError, match="cannot start at pure noise"):
        model(x, Level(torch.tensor(999.0), torch.tensor(0.0), torch.tensor(1.0)), [branch(1)])
