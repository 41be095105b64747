"""Asking for help costs nothing: no heavy library is imported before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "scipy", "PIL", "tqdm")
_PROGRAM = """
import sys
from sfumato.cli.main import main
code = main({words!r})
print("code", code, [name for name in {heavy!r} if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["generate", "--help"], 0),
        (["again", "--help"], 0),
        (["models", "--help"], 0),
        (["world", "--help"], 0),
        (["world", "show", "--help"], 0),
        (["train", "--help"], 0),
        (["train", "denoiser", "--help"], 0),
        (["evaluate", "--help"], 0),
        (["generate"], 2),
        (["genrate", "a cat"], 2),
        (["generate", "a cat", "--stepps", "3"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_help_and_mistakes_import_no_heavy_library(words: list[str], code: int) -> None:
    said = _run(_PROGRAM.format(words=words, heavy=HEAVY))
    assert said[-1] == f"code {code} []"


def test_importing_the_package_imports_no_heavy_library() -> None:
    said = _run(f"import sys, sfumato; print([name for name in {HEAVY!r} if name in sys.modules], sfumato.__version__)")
    assert said[-1].startswith("[] ")


def _run(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()
