import pytest
import torch

from sfumato.core.condition import Condition
from sfumato.core.level import Level
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.predict import noised, target, to_x0
from sfumato.core.schedules import CosineSchedule
from sfumato.networks.unet import UNetNetwork
from sfumato.train.loss import MinSnr, denoising_loss, drop, uniform
from tests.tiny import TEXT_WIDTH, tiny_unet

KINDS = ("noise", "x0", "v", "flow")


def levels() -> Level:
    sigma = torch.linspace(0.1, 0.95, 6, dtype=torch.float64)
    return Level(sigma * 1000, (1 - sigma**2).sqrt(), sigma)


@pytest.mark.parametrize("kind", KINDS)
def test_min_snr_weighs_the_error_of_x0_the_same_for_every_prediction(kind: str):
    level, x0, noise = levels(), torch.randn(6, 3, 4, 4).double(), torch.randn(6, 3, 4, 4).double()
    x = noised(x0, noise, level)
    output = target(kind, x0, noise, level) + 0.1 * torch.randn_like(x0)
    own = (output - target(kind, x0, noise, level)).square().flatten(1).mean(1)
    error = (to_x0(kind, output, x, level) - x0).square().flatten(1).mean(1)
    snr = (level.alpha / level.sigma) ** 2
    assert torch.allclose(MinSnr(5.0)(level, kind) * own, snr.clamp(max=5) * error)


def test_loss_is_one_number_an_image_and_uses_its_own_row():
    model = DenoisingModel(UNetNetwork(tiny_unet(), "v"), CosineSchedule())
    noise = Noise([1, 2, 3])
    x0 = torch.randn(3, 4, 16, 16)
    condition = Condition(tokens=torch.randn(3, 5, TEXT_WIDTH))
    level = model.schedule.draw(3, noise)
    eps = noise.like(x0)
    with torch.no_grad():
        together = denoising_loss(model, x0, condition, level, eps)
        alone = [
            denoising_loss(
                model,
                x0[i : i + 1],
                condition.rows([i]),
                Level(level.time[i : i + 1], level.alpha[i : i + 1], level.sigma[i : i + 1]),
                eps[i : i + 1],
            )
            for i in range(3)
        ]
    assert together.shape == (3,)
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_uniform_weight_is_one():
    assert uniform(levels(), "v").tolist() == [1] * 6


@pytest.mark.parametrize("gamma", [0.0, -1.0, float("nan")])
def test_gamma_out_of_range(gamma: float):
    with pytest.raises(ValueError, match="gamma"):
        MinSnr(gamma)


def test_min_snr_is_finite_at_pure_noise():
    level = Level(torch.full((2,), 999.0), torch.zeros(2), torch.ones(2))
    for kind in ("noise", "x0", "v"):
        assert torch.isfinite(MinSnr()(level, kind)).all()
    assert MinSnr()(level, "noise").tolist() == [1, 1]


def test_drop_takes_whole_rows_at_the_asked_rate():
    count = 2000
    condition = Condition(tokens=torch.ones(count, 2, 3))
    null = Condition(tokens=torch.zeros(count, 2, 3))
    dropped = drop(condition, null, 0.3, Noise(range(count)))
    assert dropped.tokens is not None
    rows = dropped.tokens.flatten(1)
    assert bool(((rows == 0).all(1) | (rows == 1).all(1)).all())
    assert 0.26 < float((rows[:, 0] == 0).float().mean()) < 0.34


def test_drop_never_and_always():
    condition, null = Condition(vector=torch.ones(4, 2)), Condition(vector=torch.zeros(4, 2))
    assert torch.equal(drop(condition, null, 0.0, Noise(range(4))).vector, condition.vector)
    assert torch.equal(drop(condition, null, 1.0, Noise(range(4))).vector, null.vector)
    with pytest.raises(ValueError, match="probability"):
        drop(condition, null, 1.1, Noise(range(4)))
    with pytest.raises(ValueError, match="nothing to drop"):
        drop(Condition(), null, 0.5, Noise(range(4)))
