"""The loop on a tiny regression, where every promise of a run can be checked bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.core.noise import Noise
from sfumato.train import checkpoint
from sfumato.train.config import FitConfig
from sfumato.train.fit import fit, learning_rate
from sfumato.train.order import Order

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
Y = X @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]])


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 1))


def loss(module: nn.Module, indices: Tensor, noise: Noise) -> Mapping[str, Tensor]:
    error = module(X[indices] + 0.01 * noise((len(indices), 4))) - Y[indices]
    return {"loss": error.square().mean()}


def config(folder: Path, **changes: object) -> FitConfig:
    plain = FitConfig(
        output_dir=folder,
        max_train_steps=100,
        train_batch_size=8,
        learning_rate=1e-2,
        lr_warmup_steps=10,
        ema_decay=0.9,
        checkpointing_steps=10,
    )
    return replace(plain, **changes)


def run(settings: FitConfig) -> nn.Module:
    module = network()
    fit(module, loss, Order(len(X), settings.train_batch_size).indices, settings)
    return module


def weights_of(folder: Path, step: int) -> dict[str, dict[str, Tensor]]:
    return checkpoint.read(folder / checkpoint.name_at(step))[0]


def assert_same(a: dict[str, dict[str, Tensor]], b: dict[str, dict[str, Tensor]]) -> None:
    assert a.keys() == b.keys() == {"weights", "average", "optimizer"}
    for group in a:
        assert a[group].keys() == b[group].keys()
        for name in a[group]:
            assert torch.equal(a[group][name], b[group][name]), (group, name)


@pytest.mark.parametrize(("precision", "optimizer"), [("no", "adamw"), ("bf16", "adamw"), ("no", "muon")])
def test_fifty_and_fifty_steps_are_a_hundred(tmp_path: Path, precision: str, optimizer: str):
    settings = config(tmp_path / "whole", mixed_precision=precision, optimizer=optimizer)
    parts = replace(settings, output_dir=tmp_path / "parts")
    run(settings)
    run(replace(parts, max_train_steps=50))
    run(replace(parts, resume_from_checkpoint="latest"))
    assert_same(weights_of(tmp_path / "whole", 100), weights_of(tmp_path / "parts", 100))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_fifty_and_fifty_are_a_hundred_whatever_the_order_in_memory(tmp_path: Path, optimizer: str):
    pictures = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(2))

    def means(module: nn.Module, indices: Tensor, noise: Noise) -> Mapping[str, Tensor]:
        given = pictures[indices].to(memory_format=torch.channels_last)
        return {"loss": (module(given) - given.mean(1, keepdim=True)).square().mean()}

    def trained(settings: FitConfig) -> None:
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 20, 3, padding=1), nn.GELU(), nn.Conv2d(20, 1, 3, padding=1))
        module: nn.Module = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # pyright: ignore
        fit(module, means, Order(64, 8).indices, settings)

    settings = config(tmp_path / "whole", optimizer=optimizer, max_train_steps=20)
    parts = replace(settings, output_dir=tmp_path / "parts")
    trained(settings)
    trained(replace(parts, max_train_steps=10))
    trained(replace(parts, resume_from_checkpoint="latest"))
    assert_same(weights_of(tmp_path / "whole", 20), weights_of(tmp_path / "parts", 20))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optimizer": "muon"}, "--optimizer adamw, so it cannot go on with muon"),
        ({"seed": 3}, "--seed 0, so it cannot go on with 3"),
        ({"train_batch_size": 4}, "--train_batch_size 8, so it cannot go on with 4"),
        ({"gradient_accumulation_steps": 2}, "--gradient_accumulation_steps 1, so it cannot go on with 2"),
    ],
)
def test_a_run_goes_on_with_what_its_steps_follow_from(tmp_path: Path, changes: dict[str, object], said: str):
    run(config(tmp_path, max_train_steps=10))
    for named in ("latest", str(tmp_path / checkpoint.name_at(10))):
        with pytest.raises(ValueError, match=said):
            run(config(tmp_path, resume_from_checkpoint=named, **changes))


def test_dropout_is_the_same_in_a_run_that_was_stopped(tmp_path: Path):
    def trained(settings: FitConfig) -> None:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 1))
        torch.manual_seed(settings.max_train_steps)
        fit(module, loss, Order(len(X), 8).indices, settings)

    trained(config(tmp_path / "whole", max_train_steps=20))
    trained(config(tmp_path / "parts", max_train_steps=10))
    trained(config(tmp_path / "parts", max_train_steps=20, resume_from_checkpoint="latest"))
    assert_same(weights_of(tmp_path / "whole", 20), weights_of(tmp_path / "parts", 20))


def test_tied_weights_are_kept(tmp_path: Path):
    def tied() -> nn.Sequential:
        module = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4), nn.Linear(4, 1))
        module[2].weight = module[0].weight
        return module

    module = tied()
    fit(module, loss, Order(len(X), 8).indices, config(tmp_path / "whole", max_train_steps=10, ema_decay=0.0))
    held = weights_of(tmp_path / "whole", 10)["weights"]
    assert torch.equal(held["0.weight"], module[0].weight) and torch.equal(held["2.weight"], module[0].weight)
    again = tied()
    going_on = config(tmp_path / "whole", max_train_steps=20, resume_from_checkpoint="latest")
    fit(again, loss, Order(len(X), 8).indices, going_on)
    assert again[0].weight is again[2].weight


def test_accumulation_takes_the_same_step_as_a_larger_batch(tmp_path: Path):
    def exact(module: nn.Module, indices: Tensor, noise: Noise) -> Mapping[str, Tensor]:
        return {"loss": (module(X[indices]) - Y[indices]).square().mean()}

    modules = [network(), network()]
    for module, size, each in zip(modules, (16, 4), (1, 4), strict=True):
        settings = config(
            tmp_path / str(size), train_batch_size=size, gradient_accumulation_steps=each, max_train_steps=10
        )
        fit(module, exact, Order(len(X), size).indices, settings)
    for a, b in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_loss_falls_and_is_logged(tmp_path: Path):
    run(config(tmp_path, report_to="tensorboard"))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert [line["step"] for line in lines] == [0, 20, 40, 60, 80, 100]
    assert losses[-1] < 0.2 * losses[0]
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_the_module_ends_with_the_average(tmp_path: Path):
    module = run(config(tmp_path))
    average = weights_of(tmp_path, 100)["average"]
    assert all(torch.equal(value, average[name]) for name, value in module.state_dict().items())


def test_samples_are_drawn_with_the_average_and_change_nothing(tmp_path: Path):
    seen: list[Tensor] = []

    def look(module: nn.Module) -> Image.Image:
        seen.append(next(module.parameters()).detach().clone())
        return Image.new("RGB", (4, 4))

    module = network()
    settings = config(tmp_path / "looked", sample_steps=50)
    fit(module, loss, Order(len(X), 8).indices, settings, sample=look)
    run(config(tmp_path / "plain"))
    assert_same(weights_of(tmp_path / "looked", 100), weights_of(tmp_path / "plain", 100))
    assert len(seen) == 2
    assert sorted(path.name for path in (tmp_path / "looked" / "samples").iterdir()) == [
        "step-00000050.png",
        "step-00000100.png",
    ]


def test_a_run_never_starts_over_silently(tmp_path: Path):
    run(config(tmp_path, max_train_steps=10))
    with pytest.raises(FileExistsError, match="resume_from_checkpoint latest"):
        run(config(tmp_path))


def test_going_on_with_nothing_is_a_new_run_with_a_warning(tmp_path: Path):
    with pytest.warns(UserWarning, match="holds no checkpoint yet: this is a new run"):
        run(config(tmp_path, max_train_steps=10, resume_from_checkpoint="latest"))


def test_a_missing_checkpoint_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(config(tmp_path, resume_from_checkpoint=str(tmp_path / "nowhere")))


def test_a_broken_checkpoint_is_passed_over_with_a_warning(tmp_path: Path):
    run(config(tmp_path / "a", max_train_steps=20))
    (tmp_path / "a" / checkpoint.name_at(20) / "weights.safetensors").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="passed over"):
        run(config(tmp_path / "a", resume_from_checkpoint="latest"))
    run(config(tmp_path / "b"))
    assert_same(weights_of(tmp_path / "a", 100), weights_of(tmp_path / "b", 100))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path: Path):
    def bad(module: nn.Module, indices: Tensor, noise: Noise) -> Mapping[str, Tensor]:
        whole = loss(module, indices, noise)["loss"]
        return {"loss": whole * float("nan") if calls.append(0) or len(calls) > 15 else whole}

    calls: list[int] = []
    with pytest.raises(FloatingPointError, match="step 15"):
        fit(network(), bad, Order(len(X), 8).indices, config(tmp_path))
    assert checkpoint.newest(tmp_path)[0] == tmp_path / checkpoint.name_at(10)


def test_a_gradient_that_is_not_finite_stops_before_it_is_learned_or_kept(tmp_path: Path):
    def bad(module: nn.Module, indices: Tensor, noise: Noise) -> Mapping[str, Tensor]:
        whole = loss(module, indices, noise)["loss"]
        return {"loss": whole * float("nan") if calls.append(0) or len(calls) == 59 else whole}

    calls: list[int] = []
    settings = config(tmp_path, max_train_steps=30, gradient_accumulation_steps=2)
    with pytest.raises(FloatingPointError, match="at step 29, and the norm of its gradient nan"):
        fit(network(), bad, Order(len(X), 8).indices, settings)
    assert checkpoint.newest(tmp_path)[0] == tmp_path / checkpoint.name_at(20)


def test_going_on_from_an_earlier_checkpoint_needs_a_folder_of_its_own(tmp_path: Path):
    run(config(tmp_path / "a", max_train_steps=20, checkpoints_total_limit=5))
    earlier = str(tmp_path / "a" / checkpoint.name_at(10))
    with pytest.raises(FileExistsError, match="goes on to checkpoint-00000020 already: choose another --output_dir"):
        run(config(tmp_path / "a", resume_from_checkpoint=earlier))
    run(config(tmp_path / "b", resume_from_checkpoint=earlier))
    run(config(tmp_path / "a", resume_from_checkpoint="latest"))
    assert_same(weights_of(tmp_path / "a", 100), weights_of(tmp_path / "b", 100))


def test_no_folder_holds_parts_of_two_runs(tmp_path: Path):
    run(config(tmp_path / "a", max_train_steps=20))
    run(config(tmp_path / "b", max_train_steps=10))
    later = str(tmp_path / "a" / checkpoint.name_at(20))
    with pytest.raises(FileExistsError, match="b goes on to checkpoint-00000010 already"):
        run(config(tmp_path / "b", resume_from_checkpoint=later))


def test_a_finished_run_taken_up_elsewhere_has_its_checkpoint_there(tmp_path: Path):
    run(config(tmp_path / "a", max_train_steps=10))
    settings = config(tmp_path / "b", max_train_steps=10, resume_from_checkpoint=str(tmp_path / "a" / "c"))
    checkpoint.newest(tmp_path / "a")[0].rename(tmp_path / "a" / "c")
    report = fit(network(), loss, Order(len(X), 8).indices, settings)
    assert (report.started_at, report.steps) == (10, 10)
    assert checkpoint.read(report.checkpoint)[1]["step"] == 10


def test_a_checkpoint_is_not_written_again(tmp_path: Path):
    run(config(tmp_path, max_train_steps=10))
    manifest = tmp_path / checkpoint.name_at(10) / "manifest.json"
    before = manifest.stat().st_ino
    run(config(tmp_path, max_train_steps=10, resume_from_checkpoint="latest"))
    assert manifest.stat().st_ino == before


def test_ctrl_c_finishes_the_step_and_saves(tmp_path: Path):
    def interrupted(module: nn.Module, indices: Tensor, noise: Noise) -> Mapping[str, Tensor]:
        if calls.append(0) or len(calls) == 34:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(module, indices, noise)

    calls: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(network(), interrupted, Order(len(X), 8).indices, config(tmp_path / "a"))
    assert signal.getsignal(signal.SIGINT) is handler
    assert checkpoint.newest(tmp_path / "a")[0] == tmp_path / "a" / checkpoint.name_at(34)
    run(config(tmp_path / "a", resume_from_checkpoint="latest"))
    run(config(tmp_path / "b"))
    assert_same(weights_of(tmp_path / "a", 100), weights_of(tmp_path / "b", 100))


CHILD = """
import sys
from pathlib import Path
import torch
from tests.train.test_fit import config, run
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
run(config(Path(sys.argv[1]), max_train_steps=100000, checkpointing_steps=5, resume_from_checkpoint="latest"))
"""


def test_kill_nine_loses_at_most_the_steps_since_the_last_checkpoint(tmp_path: Path):
    """Killed three times at whatever moment; then the same weights as a run that was never killed."""
    killed, reached = tmp_path / "killed", 0
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(killed)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            steps = [int(path.name.removeprefix("checkpoint-")) for path in killed.glob("checkpoint-*")]
            if steps and max(steps) > reached + 10:
                break
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        newest, problems = checkpoint.newest(killed)
        assert newest is not None and not problems
        step = checkpoint.read(newest)[1]["step"]
        assert step > reached
        reached = step
    end = reached + 20
    run(config(killed, max_train_steps=end, checkpointing_steps=1000, resume_from_checkpoint="latest"))
    run(config(tmp_path / "whole", max_train_steps=end, checkpointing_steps=1000))
    assert_same(weights_of(killed, end), weights_of(tmp_path / "whole", end))


def test_learning_rate_rises_rests_and_falls(tmp_path: Path):
    settings = config(tmp_path, lr_warmup_steps=10, lr_cooldown_steps=20, learning_rate=1.0)
    rates = [learning_rate(step, settings) for step in (0, 9, 50, 80, 90, 99)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 1.0, 0.5, 0.05])


@pytest.mark.parametrize(
    "changes", [{"max_train_steps": 0}, {"learning_rate": 0.0}, {"ema_decay": 1.0}, {"seed": -1}, {"logging_steps": 0}]
)
def test_settings_out_of_range(changes: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(changes))):
        FitConfig(**changes)
