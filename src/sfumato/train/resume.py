"""What a call of fit goes on from: nothing, its folder's newest checkpoint, or one that is named."""

from __future__ import annotations

import warnings
from pathlib import Path

from sfumato.train import checkpoint
from sfumato.train.config import FitConfig

__all__ = ["check_start", "start_of"]

_KEPT = ("optimizer", "seed", "train_batch_size", "gradient_accumulation_steps")
"""Settings that a run keeps: what is remembered, and which pictures and noise a step sees, follow from them."""


def check_start(config: FitConfig) -> None:
    """Raise what :func:`start_of` raises, without its warnings: for recipes, before they prepare anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start_of(config)


def start_of(config: FitConfig) -> Path | None:
    """The checkpoint that a run goes on from; None for a new run.

    Args:
        config: ``output_dir``, ``resume_from_checkpoint``, and the settings that a run keeps.

    Raises:
        FileExistsError: the folder holds a run that is not gone on with, or that goes on in another way.
        FileNotFoundError: no such checkpoint, or none that is whole.
        ValueError: the checkpoint is damaged, or was made with other settings of those that a run keeps.
    """
    wanted = config.resume_from_checkpoint
    found = _newest(config.output_dir, begun_anew=not wanted) if wanted in ("", "latest") else _named(config)
    if found is None and wanted:
        warnings.warn(f"{config.output_dir} holds no checkpoint yet: this is a new run", stacklevel=3)
    if found is not None:
        _check_settings(config, found)
    return found


def _newest(run: Path, *, begun_anew: bool) -> Path | None:
    found, problems = checkpoint.newest(run)
    if begun_anew and (found is not None or problems):
        raise FileExistsError(
            f"{run} holds a run already: go on with it by --resume_from_checkpoint latest, "
            "or choose another --output_dir"
        )
    if found is None and problems:
        raise FileNotFoundError(f"no checkpoint in {run} is whole; " + "; ".join(problems))
    for problem in problems:
        warnings.warn(f"passed over: {problem}", stacklevel=4)
    return found


def _named(config: FitConfig) -> Path:
    folder, run = Path(config.resume_from_checkpoint), config.output_dir
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no checkpoint folder {folder} to resume from")
    last, _ = checkpoint.newest(run)
    if last is not None and last.resolve() != folder.resolve():
        raise FileExistsError(
            f"{run} goes on to {last.name} already: choose another --output_dir to go on from {folder.name} in "
            "another way"
        )
    return folder


def _check_settings(config: FitConfig, folder: Path) -> None:
    held = checkpoint.state(folder)["config"]
    for name in _KEPT:
        before, now = held.get(name, "another of an earlier version"), str(getattr(config, name))
        if before != now:
            raise ValueError(
                f"{folder} was made with --{name} {before}, so it cannot go on with {now}: a run keeps it from its "
                "first step to its last"
            )
