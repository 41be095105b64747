"""Settings of a training run, under the names of diffusers' training scripts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sfumato.world.scene import SceneConfig

__all__ = ["CodecFitConfig", "FitConfig", "MemoryFitConfig", "SceneFitConfig", "check_least", "check_width", "flag"]


def flag(default: Any, text: str) -> Any:
    """A dataclass field that becomes a command-line flag, with its help text."""
    return field(default=default, metadata={"help": text})


def check_width(width: int, multiple: int = 8, name: str = "width") -> None:
    """Refuse a width that cannot be cut into the groups or heads of its network.

    Args:
        width: of a network's first layer.
        multiple: what it must be a multiple of, >= 1; normalisation is in 8 groups.
        name: of the setting.

    Raises:
        ValueError: it is none.
    """
    if width < multiple or width % multiple:
        raise ValueError(f"{name} must be a positive multiple of {multiple}, got {width}")


def check_least(config: object, least: int, *names: str) -> None:
    """Refuse settings below a bound.

    Args:
        config: has the settings.
        least: the bound.
        names: of the settings.

    Raises:
        ValueError: one is below it.
    """
    for name in names:
        if not getattr(config, name) >= least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(config, name)}")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """Settings of :func:`sfumato.train.fit.fit`; a recipe's own config extends it.

    Raises:
        ValueError: a number outside its range, at construction.
    """

    output_dir: Path = flag(Path("runs/run"), "folder of the run")
    max_train_steps: int = flag(1000, "optimiser steps in all")
    train_batch_size: int = flag(32, "images a forward pass")
    gradient_accumulation_steps: int = flag(1, "forward passes an optimiser step")
    optimizer: Literal["adamw", "muon"] = flag("adamw", "muon moves weight matrices by Muon and the rest by AdamW")
    learning_rate: float = flag(1e-3, "highest learning rate")
    lr_warmup_steps: int = flag(100, "steps of linear rise to the highest learning rate")
    lr_cooldown_steps: int = flag(0, "steps of linear fall to zero at the end of the run")
    weight_decay: float = flag(0.01, "decoupled weight decay")
    adam_beta2: float = flag(0.99, "AdamW decay of the squared gradient")
    max_grad_norm: float = flag(1.0, "gradients are clipped to this norm")
    ema_decay: float = flag(0.999, "decay of the averaged weights, the ones that are kept; 0 for no average")
    mixed_precision: Literal["no", "bf16"] = flag("no", "bf16 runs the forward pass under autocast")
    compile: bool = flag(False, "torch.compile the module; pays back after some thousand steps")
    seed: int = flag(0, "seed of weights, data order and noise")
    logging_steps: int = flag(20, "steps between log entries")
    sample_steps: int = flag(500, "steps between sample grids")
    checkpointing_steps: int = flag(500, "steps between checkpoints")
    checkpoints_total_limit: int = flag(2, "checkpoints that are kept")
    resume_from_checkpoint: str = flag("", "'latest', or a checkpoint folder, to go on with a run")
    report_to: Literal["none", "tensorboard"] = flag("none", "write TensorBoard events beside log.jsonl")

    def __post_init__(self) -> None:
        check_least(self, 1, "max_train_steps", "train_batch_size", "gradient_accumulation_steps", "logging_steps")
        check_least(self, 1, "sample_steps", "checkpointing_steps", "checkpoints_total_limit")
        check_least(self, 0, "lr_warmup_steps", "lr_cooldown_steps", "weight_decay")
        if not self.learning_rate > 0 or not self.max_grad_norm > 0:
            raise ValueError("learning_rate and max_grad_norm must be above 0")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must lie in [0, 2**31), got {self.seed}")


@dataclass(frozen=True, kw_only=True)
class SceneFitConfig(FitConfig):
    """Settings of a recipe that chooses the scenes of the emoji world that it is trained on.

    Raises:
        ValueError: no scenes, scenes of no kind or style, or as in :class:`FitConfig`.
    """

    scenes: int = flag(24000, "training scenes")
    singles: float = flag(0.5, "weight of scenes of one thing in its own colours")
    recoloured: float = flag(0.28, "weight of scenes of one thing in a named colour")
    pairs: float = flag(0.22, "weight of scenes of two things")
    counts: float = flag(0.0, "weight of scenes of two to four of one thing")
    coloured_background: float = flag(0.1, "share of scenes on another background than white")
    jitter: float = flag(0.25, "how much sizes and places vary, in [0, 1]")
    styles: tuple[str, ...] = flag(("glossy", "flat", "3d"), "styles that occur")
    world: str = flag("", "cache of the emoji world; empty for the default place, 'sample' for the one in the package")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, 1, "scenes")
        self.scene_config()

    def scene_config(self) -> SceneConfig:
        """What kinds of scenes it is trained on."""
        from sfumato.world.scene import SceneConfig

        return SceneConfig(
            singles=self.singles,
            recoloured=self.recoloured,
            pairs=self.pairs,
            counts=self.counts,
            coloured_background=self.coloured_background,
            jitter=self.jitter,
            styles=self.styles,
        )


@dataclass(frozen=True, kw_only=True)
class CodecFitConfig(FitConfig):
    """Settings of a recipe of a codec, which learns to give scenes of the emoji world back.

    Raises:
        ValueError: no scenes, ``compile``, or as in :class:`FitConfig`.
    """

    train_batch_size: int = flag(32, "images a forward pass")
    learning_rate: float = flag(2e-3, "highest learning rate")
    ema_decay: float = flag(0.995, "decay of the averaged weights, the ones that are kept; 0 for no average")
    mse_weight: float = flag(4.0, "weight of the squared error beside the absolute one")
    coarse_weight: float = flag(2.0, "weight of the absolute error of 8 x 8 means")
    scenes: int = flag(12000, "training scenes")
    world: str = flag("", "cache of the emoji world; empty for the default place, 'sample' for the one in the package")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, 1, "scenes")
        if self.compile:
            raise ValueError("a codec is trained without --compile, which reaches no encoder or decoder by itself")


@dataclass(frozen=True, kw_only=True)
class MemoryFitConfig(SceneFitConfig):
    """Settings of a recipe whose contexts are neighbours in a memory, and whose scenes show one thing.

    Raises:
        ValueError: more neighbours than are stored, too few scenes held out, or as in :class:`FitConfig`.
    """

    singles: float = flag(0.6, "weight of scenes of one thing in its own colours")
    recoloured: float = flag(0.4, "weight of scenes of one thing in a named colour")
    pairs: float = flag(0.0, "weight of scenes of two things")
    styles: tuple[str, ...] = flag(("glossy", "flat"), "styles that occur; the memory must hold none of them")
    memory: Path = flag(Path("memory"), "folder of the memory, as sfumato memory build makes it")
    neighbours: int = flag(4, "k, pictures in the context; 0 trains without a memory")
    stored: int = flag(20, "neighbours kept of each picture, at least k")
    held_out: int = flag(512, "further scenes that are measured on at the end")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.neighbours <= self.stored:
            raise ValueError(f"neighbours must lie in [0, stored], got {self.neighbours} and {self.stored}")
        if self.held_out < 2:
            raise ValueError(f"held_out must be at least 2, got {self.held_out}")
