"""Which weights go to which optimiser, and that a convolution is one matrix however it lies in memory."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from sfumato.train.config import FitConfig
from sfumato.train.optimizer import MatrixMuon, optimizers


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 32, 3), nn.GroupNorm(4, 32), nn.Conv2d(32, 16, 1), nn.Conv2d(16, 4, 3))


def moved(module: nn.Module, x: Tensor) -> list[Tensor]:
    """Parameters after three steps."""
    found = optimizers(module, FitConfig(optimizer="muon", learning_rate=1e-2))
    for _ in range(3):
        module(x).square().mean().backward()
        for optimizer in found:
            optimizer.step()
            optimizer.zero_grad()
    assert all(weight.grad is None for weight in module.parameters())
    return [weight.detach() for weight in module.parameters()]


def test_adamw_takes_everything():
    (only,) = optimizers(network(), FitConfig())
    assert sum(len(group["params"]) for group in only.param_groups) == 8


def test_muon_takes_the_wide_weights_and_adamw_the_rest():
    module = network()
    muon, adamw = optimizers(module, FitConfig(optimizer="muon"))
    assert isinstance(muon, MatrixMuon)
    assert [weight is module[index].weight for weight, index in zip(muon.weights, (0, 2), strict=True)] == [True, True]
    assert sum(len(group["params"]) for group in adamw.param_groups) == 6


def test_locked_weights_stay():
    module = network()
    module[0].weight.requires_grad_(False)
    before = module[0].weight.clone()
    assert torch.equal(moved(module, torch.ones(1, 4, 8, 8))[0], before)


def test_memory_layout_changes_nothing():
    plain, x = network(), torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    last = deepcopy(plain).to(memory_format=torch.channels_last)
    for a, b, before in zip(moved(plain, x), moved(last, x), network().parameters(), strict=True):
        assert not torch.equal(a, before)
        assert torch.allclose(a, b, atol=2e-3)  # torch's iteration runs in bfloat16


def test_weights_that_are_moved_between_steps_go_on_learning():
    module, x = network(), torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    found = optimizers(module, FitConfig(optimizer="muon", learning_rate=1e-2))
    for layout in (torch.channels_last, torch.contiguous_format):
        module.to(memory_format=layout)
        before = module[0].weight.detach().clone()
        module(x).square().mean().backward()
        for optimizer in found:
            optimizer.step()
        assert not torch.equal(module[0].weight, before)


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (16, 4, 3, 3)])
def test_an_update_is_a_scaled_matrix_with_orthonormal_rows_or_columns(shape: tuple[int, ...]):
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    MatrixMuon([weight], lr=1.0, weight_decay=0.0).step()
    update = weight.detach().flatten(1) / (0.2 * max(weight.flatten(1).shape) ** 0.5)
    spread = torch.linalg.svdvals(update)
    assert float(spread.min()) > 0.6 and float(spread.max()) < 1.3
