"""Compiling for training: the gradients of a U-Net as they are, and a compiled module with others told apart."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from sfumato.core.noise import Noise
from sfumato.train.compiled import compiled, difference, lay_out
from sfumato.train.config import FitConfig
from sfumato.train.fit import fit
from sfumato.train.order import Order

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


class Upsampling(nn.Module):
    """The least network whose gradients torch 2.13 was seen to lose."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(silu(interpolate(self.first(x), scale_factor=2.0, mode="nearest")))


@needs_compiler
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_pass_an_upsampling_when_it_is_compiled(layout: torch.memory_format):
    torch.manual_seed(0)
    module: nn.Module = Upsampling().to(memory_format=layout)  # pyright: ignore
    lay_out(module, "cpu")
    x = torch.randn(4, 4, 8, 8)

    def loss(network: nn.Module) -> Callable[[], Tensor]:
        def squares() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                out: Tensor = network(x)
            return (out.float() - 1).square().mean()

        return squares

    weights = list(module.parameters())
    assert difference(weights, loss(module), loss(compiled(module, "cpu"))) < 0.03
    assert all(weight.grad is None for weight in weights)


def test_the_difference_counts_what_is_lost_and_not_how_large_it_is():
    small, large = nn.Parameter(torch.tensor([1e-4])), nn.Parameter(torch.tensor([1.0, 2.0]))

    def whole() -> Tensor:
        return small.square().sum() + large.square().sum()

    def without_small() -> Tensor:
        return small.detach().square().sum() + large.square().sum()

    assert difference([small, large], whole, whole) == 0
    assert difference([small, large], whole, without_small) == pytest.approx(0.5)
    assert difference([small, large], whole, lambda: -whole()) == pytest.approx(1)
    assert difference([small], without_small, without_small) == 0


class Forgetful(nn.Module):
    """Two layers; what is compiled of them lets no gradient through to the first, while it forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1)
        self.forgets = True

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return self.second(hidden.detach() if self.forgets and torch.compiler.is_compiling() else hidden)


def _mean(module: nn.Module, indices: Tensor, noise: Noise) -> Mapping[str, Tensor]:
    x = noise((len(indices), 3))
    return {"loss": (module(x) - x.sum(1, keepdim=True)).square().mean()}


@needs_compiler
def test_a_compiled_module_with_other_gradients_is_refused_before_it_learns(tmp_path: Path):
    module = Forgetful()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    config = FitConfig(output_dir=tmp_path, max_train_steps=3, train_batch_size=4, compile=True)
    with pytest.raises(ValueError, match=r"other gradients than its own \(apart by 0.50 .* train without --compile"):
        fit(module, _mean, Order(8, 4).indices, config)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@needs_compiler
def test_no_checkpoint_is_written_of_a_module_that_was_compiled_wrongly_later_on(tmp_path: Path):
    module = Forgetful()
    order = Order(8, 4)

    def batch_at(number: int) -> Tensor:
        module.forgets = number >= 3
        return order.indices(number)

    config = FitConfig(output_dir=tmp_path, max_train_steps=8, train_batch_size=4, checkpointing_steps=2, compile=True)
    with pytest.raises(ValueError, match="other gradients than its own"):
        fit(module, _mean, batch_at, config)
    assert [folder.name for folder in tmp_path.glob("checkpoint-*")] == ["checkpoint-00000002"]


def _trained(settings: FitConfig) -> dict[str, Tensor]:
    """What a small network with its weights channels last has learned, with AdamW's and Muon's weights among them."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 4, 3, padding=1), nn.Flatten(), nn.Linear(64, 16)
    module: nn.Module = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # pyright: ignore

    def loss(network: nn.Module, indices: Tensor, noise: Noise) -> Mapping[str, Tensor]:
        x = noise((len(indices), 3, 4, 4))
        return {"loss": (network(x) - x.mean((2, 3)).repeat(1, 6)[:, :16]).square().mean()}

    fit(module, loss, Order(8, 4).indices, settings)
    return {name: value.clone() for name, value in module.state_dict().items()}


def _settings(folder: Path, optimizer: str, fast: bool) -> FitConfig:
    return FitConfig(
        output_dir=folder, max_train_steps=6, train_batch_size=4, lr_warmup_steps=1, optimizer=optimizer, compile=fast
    )


@needs_compiler
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_compiled_run_learns_what_a_plain_one_learns(tmp_path: Path, optimizer: str):
    plain, fast = (_trained(_settings(tmp_path / str(fast), optimizer, fast)) for fast in (False, True))
    untrained = _trained(replace(_settings(tmp_path / "none", optimizer, False), learning_rate=1e-30))
    for name, value in plain.items():
        step = (value - untrained[name]).norm()
        assert step > 0
        assert (fast[name] - value).norm() < 0.05 * step  # Muon's iteration runs in bfloat16


@needs_compiler
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("first", [False, True])
def test_a_compiled_run_goes_on_where_it_or_a_plain_one_stopped(tmp_path: Path, optimizer: str, first: bool):
    whole = _trained(_settings(tmp_path / "whole", optimizer, True))
    parts = _settings(tmp_path / "parts", optimizer, True)
    _trained(replace(parts, max_train_steps=3, compile=first))
    resumed = _trained(replace(parts, resume_from_checkpoint="latest"))
    for name, value in whole.items():
        assert torch.allclose(resumed[name], value, atol=1e-4 if optimizer == "muon" else 1e-6), name


def test_compiling_without_a_compiler_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler, and there is no no-such-compiler"):
        compiled(nn.Linear(2, 2), "cpu")
