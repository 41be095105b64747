"""The one training loop: accumulate, clip, step, average, log, look, checkpoint.

A recipe hands over a module, a loss of one batch, and a function from batch number to batch. Data order, noise and
learning rate are functions of the step number (order.py), so a checkpoint is weights, optimiser state and a number,
and a resumed run is bit for bit the run that was never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from sfumato.core.noise import Noise
from sfumato.train import checkpoint
from sfumato.train.compiled import compiled, difference, lay_out
from sfumato.train.config import FitConfig
from sfumato.train.ema import Ema
from sfumato.train.log import Means, RunLog
from sfumato.train.optimizer import moments, optimizers, restore
from sfumato.train.order import batch_seeds
from sfumato.train.resume import start_of
from sfumato.train.stop import Stop

__all__ = ["BatchAt", "FitReport", "LossOfBatch", "Sample", "fit", "learning_rate"]

BatchAt = Callable[[int], Any]
LossOfBatch = Callable[[nn.Module, Any, Noise], Mapping[str, Tensor]]
Sample = Callable[[nn.Module], Image.Image]

_APART = 0.1
"""How far a compiled module's gradients may be from its own, in [0, 1]."""


@dataclass(frozen=True)
class FitReport:
    """What a call of :func:`fit` did.

    Args:
        steps: optimiser steps done since the start of the run.
        started_at: the step with which this call began; above 0 when it resumed.
        loss: mean training loss of the last log entry; NaN if nothing was left to do.
        seconds: time of this call.
        checkpoint: the last checkpoint.
    """

    steps: int
    started_at: int
    loss: float
    seconds: float
    checkpoint: Path


def learning_rate(step: int, config: FitConfig) -> float:
    """The rate at a step: linear warm-up, a constant, linear cool-down over the last ``lr_cooldown_steps``."""
    warmup = min(1.0, (step + 1) / max(1, config.lr_warmup_steps))
    cooldown = min(1.0, (config.max_train_steps - step) / max(1, config.lr_cooldown_steps))
    return config.learning_rate * warmup * cooldown


def fit(
    module: nn.Module,
    loss_of_batch: LossOfBatch,
    batch_at: BatchAt,
    config: FitConfig,
    *,
    sample: Sample | None = None,
) -> FitReport:
    """Train a module and leave whole checkpoints behind.

    Args:
        module: what is trained: every parameter that requires a gradient. At the end it holds the averaged weights.
        loss_of_batch: (module, batch, noise) -> named scalars, of which ``loss`` is descended and all are logged;
            noise has one seed for each of ``train_batch_size`` images. Called under autocast.
        batch_at: batch number since the start of the run -> batch; a pure function of the number.
        config: settings.
        sample: module with averaged weights -> a picture to look at, written to ``samples`` every ``sample_steps``
            steps; None for no pictures.

    Returns:
        A report of this call.

    Raises:
        FileExistsError: the output folder holds a run, and ``resume_from_checkpoint`` does not say to go on with it; or
            it names another checkpoint than the folder's last.
        FileNotFoundError: ``resume_from_checkpoint`` names nothing that can be resumed.
        ValueError: that checkpoint was made with another optimiser, seed or batch; the compiled module has other
            gradients; or several processes were launched.
        FloatingPointError: the loss or its gradient is not finite; the last checkpoint stays.
        KeyboardInterrupt: on Ctrl-C or SIGTERM, after the step under way is done and a checkpoint is written.
    """
    source = start_of(config)
    run = _Run(module, config, loss_of_batch, batch_at)
    start = 0 if source is None else run.resume(source)
    if config.compile and start < config.max_train_steps:
        run.compile()
    log = RunLog(config.output_dir, tensorboard=config.report_to == "tensorboard")
    log.entry(start, {"event": "start" if source is None else f"resume from {source.name}"})
    bar = tqdm(total=config.max_train_steps, initial=start, unit="step", disable=None, dynamic_ncols=True)
    begun, means, loss = time.perf_counter(), Means(), math.nan
    try:
        with Stop() as stop:
            while run.done < config.max_train_steps and not stop.asked:
                means.add(run.step())
                bar.update()
                if run.due(config.logging_steps):
                    values = means.take()
                    loss = values["loss"]
                    log.entry(run.done, values)
                    bar.set_postfix(loss=f"{loss:.4f}")
                if sample is not None and run.due(config.sample_steps):
                    run.look(sample)
                if run.due(config.checkpointing_steps):
                    run.save()
            if stop.asked:
                run.save()
                raise KeyboardInterrupt
    finally:
        bar.close()
        log.close()
    run.save()
    run.take_average()
    last = config.output_dir / checkpoint.name_at(run.done)
    return FitReport(run.done, start, loss, time.perf_counter() - begun, last)


class _Run:
    """What moves in one call of fit: weights, optimiser, average, and the number of steps that they hold."""

    def __init__(self, module: nn.Module, config: FitConfig, loss_of_batch: LossOfBatch, batch_at: BatchAt) -> None:
        self.config = config
        self.module = module
        self.loss_of_batch = loss_of_batch
        self.batch_at = batch_at
        self.done = 0
        self.saved: int | None = None
        self.accelerator = Accelerator()
        if self.accelerator.num_processes > 1:
            raise ValueError(
                f"training runs in one process, and {self.accelerator.num_processes} were launched; launch one, with "
                "--gradient_accumulation_steps for a larger batch"
            )
        self.weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
        module.to(self.accelerator.device)
        if config.compile:
            lay_out(module, self.accelerator.device.type)
        prepared, *self.optimizers = self.accelerator.prepare(module, *optimizers(module, config))
        self.plain: nn.Module = prepared
        self.prepared = self.plain
        self.ema = Ema(module, config.ema_decay)

    def losses(self, module: nn.Module, part: int) -> Mapping[str, Tensor]:
        """The named losses of a forward pass, the ``part``-th since the start of the run."""
        seeds = batch_seeds(self.config.seed, part, self.config.train_batch_size)
        device, half = self.accelerator.device.type, self.config.mixed_precision == "bf16"
        with _seeded(seeds[0]), _plain_attention(device), torch.autocast(device, torch.bfloat16, enabled=half):
            return self.loss_of_batch(module, self.batch_at(part), Noise(seeds))

    def compile(self) -> None:
        """From here on compute by the compiled module."""
        self.prepared = compiled(self.plain, self.accelerator.device.type)
        self.check()

    def check(self) -> None:
        """See on the last batch, or the first, that a compiled module has the gradients of the module itself."""
        if self.prepared is self.plain:
            return
        self.module.train()
        part = max(0, self.done - 1) * self.config.gradient_accumulation_steps

        def loss_by(module: nn.Module) -> Callable[[], Tensor]:
            return lambda: self.losses(module, part)["loss"]

        apart = difference(self.weights, loss_by(self.plain), loss_by(self.prepared))
        if not apart <= _APART:
            raise ValueError(
                f"compiled by torch {torch.__version__}, this network has other gradients than its own (apart by "
                f"{apart:.2f} on a scale from 0 to 1) and would learn the wrong thing; train without --compile"
            )

    def step(self) -> dict[str, float]:
        """One optimiser step: the named losses of its last batch, the gradient's norm and the learning rate."""
        config, each = self.config, self.config.gradient_accumulation_steps
        named: Mapping[str, Tensor] = {}
        self.module.train()
        for part in range(self.done * each, (self.done + 1) * each):
            named = self.losses(self.prepared, part)
            self.accelerator.backward(named["loss"] / each)
        norm = float(self.accelerator.clip_grad_norm_(self.weights, config.max_grad_norm))  # pyright: ignore
        values = {name: float(value.detach()) for name, value in named.items()}
        if not (math.isfinite(values["loss"]) and math.isfinite(norm)):
            raise FloatingPointError(
                f"the loss became {values['loss']} at step {self.done}, and the norm of its gradient {norm}; lower "
                "learning_rate and resume"
            )
        rate = learning_rate(self.done, config)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        self.ema.update(self.done)
        self.done += 1
        return {**values, "gradient_norm": norm, "learning_rate": rate}

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and at the end, happens now."""
        return self.done % every == 0 or self.done == self.config.max_train_steps

    def look(self, sample: Sample) -> None:
        """Write a picture of what the averaged weights make."""
        self.module.eval()
        with self.ema.applied(), torch.no_grad():
            picture = sample(self.module)
        folder = self.config.output_dir / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"step-{self.done:08d}.png")

    def save(self) -> None:
        """Write a checkpoint, unless this step has one."""
        if self.saved == self.done:
            return
        self.check()
        checkpoint.write(
            self.config.output_dir,
            self.done,
            {
                "weights": self.module.state_dict(),
                "average": self.ema.average,
                "optimizer": moments(self.optimizers),
            },
            {"step": self.done, "config": {name: str(value) for name, value in asdict(self.config).items()}},
            self.config.checkpoints_total_limit,
        )
        self.saved = self.done

    def resume(self, folder: Path) -> int:
        """Take up a checkpoint; returns its step."""
        tensors, state = checkpoint.read(folder)
        self.module.load_state_dict(tensors["weights"])
        self.ema.restore(tensors["average"])
        restore(self.optimizers, tensors["optimizer"])
        self.done = int(state["step"])
        if folder.resolve().parent == self.config.output_dir.resolve():
            self.saved = self.done
        return self.done

    def take_average(self) -> None:
        """Leave the averaged weights in the module."""
        with torch.no_grad():
            for name, value in self.module.state_dict().items():
                if name in self.ema.average:
                    value.copy_(self.ema.average[name])
        self.module.eval()


@contextmanager
def _seeded(seed: int) -> Generator[None]:
    """Inside ``with``, torch's own random numbers, which dropout draws, follow from a batch's seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _plain_attention(device: str) -> AbstractContextManager[Any]:
    """On a CPU, attention by matrix products: the fused kernel's backward pass takes several times as long there."""
    return sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()
