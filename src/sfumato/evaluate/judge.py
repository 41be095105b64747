"""The judge: says what a picture of the world shows, from features that the generator never saw.

One linear discriminant knows every drawing (concept x style) in a window of the picture, another the layout of the
whole picture. It is fitted to real scenes only (``sfumato.evaluate.train_judge``), kept in the user's cache, and
carries its accuracy on held-out real scenes with it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sfumato.evaluate.discriminant import Discriminant
from sfumato.evaluate.features import POOLED, FeatureFunction
from sfumato.evaluate.intervals import Interval
from sfumato.evaluate.lessons import LAYOUTS
from sfumato.world.store import STYLES

__all__ = ["Judge", "load_judge", "save_judge"]


@dataclass(frozen=True, eq=False)
class Judge:
    """Concept, style and layout of pictures, and coordinates for distances between sets of them.

    Args:
        features: pictures (B, 3, H, W) in [-1, 1] -> (B, D), the first 1280 being the pooled head.
        concepts: C indices in ``World.concepts``: what it can tell apart.
        drawing: discriminant over C x 3 drawings, concept-major, styles in the order of ``STYLES``.
        layout: discriminant over ``LAYOUTS``.
        mean: (1280,) of the pooled features of real scenes.
        axes: (1280, R) their first principal axes.
        accuracy: measure -> its value on held-out real scenes, with interval.
        settings: whatever it was made from: data hash, rounds, seed, size, dtype.
    """

    features: FeatureFunction
    concepts: tuple[int, ...]
    drawing: Discriminant
    layout: Discriminant
    mean: Tensor
    axes: Tensor
    accuracy: Mapping[str, Interval]
    settings: Mapping[str, str | int | float]

    def drawings(self, features: Tensor) -> Tensor:
        """Features (B, D) of windows with one thing to log posteriors of its drawing, (B, C, 3)."""
        scores = self.drawing(features).reshape(len(features), len(self.concepts), len(STYLES))
        return scores - scores.logsumexp((1, 2), keepdim=True)

    def ranked(self, features: Tensor, count: int = 5) -> Tensor:
        """The likeliest concepts of windows with one thing.

        Args:
            features: (B, D).
            count: how many, at most C.

        Returns:
            (B, count) indices in ``World.concepts``, likeliest first.
        """
        best = self.drawings(features).logsumexp(2).topk(count, dim=1).indices
        return torch.tensor(self.concepts)[best]

    def styles(self, features: Tensor) -> list[str]:
        """The likeliest style word of each window, from features (B, D)."""
        return [STYLES[number] for number in self.drawings(features).logsumexp(1).argmax(1).tolist()]

    def layouts(self, features: Tensor) -> list[str]:
        """The likeliest of ``LAYOUTS`` of each whole picture, from features (B, D)."""
        return [LAYOUTS[number] for number in self.layout(features).argmax(1).tolist()]

    def coordinates(self, features: Tensor) -> Tensor:
        """Features (B, D) of whole pictures to (B, R), where distances between sets are measured."""
        return (features[:, :POOLED] - self.mean) @ self.axes


def save_judge(judge: Judge, folder: Path) -> None:
    """Writes ``judge.safetensors`` and ``judge.json``; the folder appears whole or not at all.

    A judge that is already there stays, as when two processes fit the same one at a time.

    Args:
        judge: what to keep; its feature function is not.
        folder: holds a whole judge or does not exist yet.

    Raises:
        OSError: something else is there, or the folder cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "drawing.weight": judge.drawing.weight,
        "drawing.bias": judge.drawing.bias,
        "layout.weight": judge.layout.weight,
        "layout.bias": judge.layout.bias,
        "mean": judge.mean,
        "axes": judge.axes,
    }
    about = {
        "concepts": judge.concepts,
        "accuracy": {name: vars(interval) for name, interval in judge.accuracy.items()},
        "settings": dict(judge.settings),
    }
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, fresh / "judge.safetensors")
        (fresh / "judge.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        try:
            os.rename(fresh, folder)
        except OSError:
            if not _is_whole(folder):
                raise


def _is_whole(folder: Path) -> bool:
    """Whether a folder holds a judge that can be read."""
    try:
        load_judge(folder, lambda images: images)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError):
        return False
    return True


def load_judge(folder: Path, features: FeatureFunction) -> Judge:
    """Reads what ``save_judge`` wrote.

    Args:
        folder: holds ``judge.safetensors`` and ``judge.json``.
        features: the feature function that it was fitted to.

    Returns:
        The judge.

    Raises:
        OSError: a file is missing.
    """
    tensors = load_file(folder / "judge.safetensors")
    about: dict[str, Any] = json.loads((folder / "judge.json").read_text(encoding="utf-8"))
    return Judge(
        features=features,
        concepts=tuple(about["concepts"]),
        drawing=Discriminant(tensors["drawing.weight"], tensors["drawing.bias"]),
        layout=Discriminant(tensors["layout.weight"], tensors["layout.bias"]),
        mean=tensors["mean"],
        axes=tensors["axes"],
        accuracy={name: Interval(**fields) for name, fields in about["accuracy"].items()},
        settings=about["settings"],
    )
