import pytest
import torch
from torch import nn

from sfumato.train.ema import Ema


def test_average_follows_its_formula():
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(1.0)
    ema, expected = Ema(module, 0.5), 1.0
    for count, weight in enumerate([2.0, 4.0, 8.0, 16.0]):
        module.weight.data.fill_(weight)
        ema.update(count)
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * weight
    assert ema.average["weight"].item() == pytest.approx(expected)


def test_weights_come_back_after_use_even_after_an_error():
    module = nn.Linear(2, 2)
    ema = Ema(module, 0.9)
    module.weight.data.add_(1)
    own = module.weight.detach().clone()
    with pytest.raises(RuntimeError), ema.applied():
        assert torch.equal(module.weight, ema.average["weight"])
        raise RuntimeError
    assert torch.equal(module.weight, own)


def test_decay_zero_is_the_weights():
    module = nn.Linear(2, 2)
    ema = Ema(module, 0.0)
    module.weight.data.mul_(3)
    ema.update(0)
    assert torch.equal(ema.average["weight"], module.weight)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_out_of_range(decay: float):
    with pytest.raises(ValueError, match="ema_decay"):
        Ema(nn.Linear(1, 1), decay)
