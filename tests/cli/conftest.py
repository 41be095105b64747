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

from sfumato.cli.main import main
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


@pytest.fixture(scope="session")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like Stable Diffusion 1.5, with 32 x 32 pictures."""
    return write_sd1(tmp_path_factory.mktemp("models") / "sd1")


@pytest.fixture(scope="session")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the embedded model."""
    return write_emoji(tmp_path_factory.mktemp("models") / "tiny-emoji")
