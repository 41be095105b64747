"""Tiny checkpoints, and the command line as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sfumato.cli.main import main
from sfumato.core.image import from_pictures, open_picture
from sfumato.metadata import from_chunks
from sfumato.png_text import read_text_chunks
from sfumato.recipe import Recipe
from tests.tiny import write_emoji, write_sd1


@dataclass(frozen=True)
class Told:
    """What a command left behind: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The JSON objects on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def pictures(self) -> list[dict[str, Any]]:
        """Those of pictures with a recipe."""
        return [facts for facts in self.objects if facts["kind"] == "picture"]


Typed = Callable[..., Told]


@pytest.fixture
def sfumato(capsys: pytest.CaptureFixture[str]) -> Typed:
    """Runs a command line in this process."""

    def run(*words: object) -> Told:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Told(code, captured.out, captured.err)

    return run


def spawn(*words: object, **options: Any) -> subprocess.Popen[str]:
    """Starts a command line in a process of its own, on one thread."""
    return subprocess.Popen(
        [sys.executable, "-m", "sfumato", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **options,
    )


def pixels(path: Path) -> torch.Tensor:
    """A picture file as (1, 3, H, W) in [-1, 1]."""
    return from_pictures([open_picture(path)])


def recipe_of(path: Path) -> Recipe:
    """The recipe that a picture carries."""
    return from_chunks(read_text_chunks(path, frozenset({"sfumato"}))).recipe


def alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether pictures are the same to rounding."""
    return one.shape == other.shape and bool((one - other).abs().max() < 0.01)


@pytest.fixture(scope="session")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like Stable Diffusion 1.5, with 32 x 32 pictures."""
    return write_sd1(tmp_path_factory.mktemp("models") / "sd1")


@pytest.fixture(scope="session")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the embedded model."""
    return write_emoji(tmp_path_factory.mktemp("models") / "tiny-emoji")


@pytest.fixture
def generate(sfumato: Typed, sd1: Path, tmp_path: Path) -> Typed:
    """``sfumato generate`` with the tiny model, two steps and one thread, into a folder of the test."""

    def run(*words: object) -> Any:
        flags = ["--model", sd1, "--steps", 2, "--threads", 1, "--dtype", "float32", "-o", tmp_path]
        return sfumato("generate", *flags, *words)

    return run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of 48 x 32, wider than those of the tiny models."""
    noise = torch.Generator().manual_seed(0)
    values = (torch.rand(8, 8, 3, generator=noise) * 255).byte().numpy()
    Image.fromarray(values).resize((48, 32)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"
