"""Model cards: what made these weights, and how good they were when they were made."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import date
from pathlib import Path
from typing import Any, cast

import torch

from sfumato.train.config import FitConfig
from sfumato.train.fit import FitReport

__all__ = ["CARD", "add_scores", "command", "former_runs", "write_card"]

CARD = ("README.md", "training.json")
"""The files of a card: its page, and its data."""

_OF_A_FORMER_RUN = ("recipe", "command", "date", "steps", "images seen", "data hash")


def command(name: str, config: FitConfig) -> str:
    """The command line that repeats a run: the recipe's name and every setting that is not its default.

    Paths are told without the folders above the working folder, the home folder, or their last two names.
    """
    plain = type(config)()
    changed = [
        f"--{field.name} {_quoted(getattr(config, field.name))}"
        for field in fields(config)
        if getattr(config, field.name) != getattr(plain, field.name) and field.name != "resume_from_checkpoint"
    ]
    return " ".join(["sfumato train", name, *changed])


def former_runs(folder: Path) -> list[dict[str, Any]]:
    """The runs that made the weights of a folder, oldest first, for the card of a run that begins with them.

    Args:
        folder: with the ``training.json`` of :func:`write_card`; without it, only its name is known.

    Returns:
        for each run its recipe, command, date, steps, images seen and data hash, or ``{"weights": NAME}``.
    """
    file = folder / "training.json"
    facts: Any = json.loads(file.read_text()) if file.is_file() else {}
    if not isinstance(facts, dict) or not set(_OF_A_FORMER_RUN) <= cast("dict[str, Any]", facts).keys():
        return [{"weights": "/".join(folder.resolve().parts[-2:])}]
    card = cast("dict[str, Any]", facts)
    return [*(card.get("former runs") or ()), {name: card[name] for name in _OF_A_FORMER_RUN}]


def write_card(
    folder: Path,
    name: str,
    config: FitConfig,
    report: FitReport,
    scores: Mapping[str, float | str],
    *,
    data: str,
    former: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write ``README.md`` and ``training.json`` beside saved weights.

    Args:
        folder: where the weights are.
        name: the recipe.
        config: its settings.
        report: what fit did.
        scores: name -> figure, measured on held-out data.
        data: hash of the training data.
        former: the runs whose weights it began with, as :func:`former_runs` tells them.

    Returns:
        The card's path.
    """
    settings = {key: _told(value) for key, value in asdict(config).items()}
    facts = {
        "recipe": name,
        "command": command(name, config),
        "date": date.today().isoformat(),
        "steps": report.steps,
        "images seen": report.steps * config.train_batch_size * config.gradient_accumulation_steps,
        "seconds of the last call": round(report.seconds),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads"
        + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no accelerator"),
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "data hash": data,
        "former runs": list(former),
    }
    (folder / "training.json").write_text(
        json.dumps({**facts, "scores": dict(scores), "settings": settings}, indent=1) + "\n"
    )
    return _write_page(folder, {**facts, "scores": scores})


def add_scores(folder: Path, scores: Mapping[str, float | str]) -> Path:
    """Put figures that were measured later into a card.

    Args:
        folder: with the ``training.json`` of :func:`write_card`.
        scores: name -> figure; takes the place of former ones of that name.

    Returns:
        The card's path.

    Raises:
        FileNotFoundError: the folder has no ``training.json``.
    """
    file = folder / "training.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder} has no training.json, the data of a model card: it was not trained by sfumato"
        )
    facts = json.loads(file.read_text())
    facts["scores"] = {**facts["scores"], **scores}
    file.write_text(json.dumps(facts, indent=1) + "\n")
    return _write_page(folder, facts)


def _write_page(folder: Path, facts: Mapping[str, Any]) -> Path:
    told = {key: value for key, value in facts.items() if key not in ("command", "former runs", "scores", "settings")}
    rows = [f"| {key} | {value} |" for key, value in {**told, **facts["scores"]}.items()]
    former = [f"{number}. {_line(run)}" for number, run in enumerate(facts.get("former runs", ()), 1)]
    card = folder / "README.md"
    card.write_text(
        "\n".join(
            [
                "---",
                "license: apache-2.0",
                "library_name: diffusers",
                "---",
                f"# sfumato emoji: {facts['recipe']}",
                "",
                "Trained on scenes of the emoji world (Noto, Apache-2.0; Twemoji, CC-BY-4.0; Fluent, MIT).",
                "",
                "```",
                str(facts["command"]),
                "```",
                "",
                "| fact | value |",
                "|---|---|",
                *rows,
                *(("", "It began with the weights of:", "", *former) if former else ()),
                "",
            ]
        )
    )
    return card


def _line(run: Mapping[str, Any]) -> str:
    """A former run, as a card's page tells it."""
    if "command" not in run:
        return f"{run['weights']}, which has no card"
    return f"`{run['command']}`, {run['date']}, {run['images seen']} images, data {run['data hash']}"


def _quoted(value: Any) -> str:
    """A setting as a shell takes it."""
    each = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (value,)
    return shlex.join(str(_told(one)) for one in each)


def _told(value: Any) -> Any:
    """A setting as a card tells it: of a path, what lies below the working or home folder; of several, a row."""
    if isinstance(value, tuple):
        return " ".join(map(str, cast("tuple[Any, ...]", value)))
    if not isinstance(value, Path):
        return value
    for base in (Path.cwd(), Path.home()):
        if value.is_relative_to(base):
            return str(value.relative_to(base))
    return str(Path(*value.parts[-2:])) if value.is_absolute() else str(value)
