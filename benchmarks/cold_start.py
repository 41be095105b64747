"""Whole processes: `sfumato generate` with the embedded model, and `sfumato --help`.

The peer is a Python that imports torch and diffusers' U-Net class and does nothing with them: what any program that
runs a diffusion model has to wait for.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from measure import compared, finish, flags, interleaved, machine

from sfumato.evaluate.report import Report

IMPORT = "import torch; from diffusers import UNet2DConditionModel"


def main() -> None:
    """Measure and print."""
    parser = flags(__doc__, repeats=7)
    parser.add_argument("--model", metavar="PATH", default="emoji", help="an installed model or a folder (emoji)")
    options = parser.parse_args()
    sfumato = [sys.executable, "-m", "sfumato"]
    peer = process([sys.executable, "-c", IMPORT])
    with tempfile.TemporaryDirectory() as folder:
        generate = [*sfumato, "generate", "a red apple", "--seed", "7", "--steps", str(options.steps)]
        generate += ["--model", options.model, "--output", folder, "--quiet"]
        generate += ["--threads", str(options.threads)] if options.threads else []
        seconds = interleaved(process(generate), peer, options.repeats)
        if not list(Path(folder).glob("*.png")):
            raise RuntimeError("sfumato generate wrote no picture")
        help_seconds, _ = interleaved(process([*sfumato, "--help"]), peer, options.repeats)
    words = [word for word in sys.argv[1:] if word != "--write"]
    report = Report(
        title="Cold start of the command line",
        command=" ".join(["python benchmarks/cold_start.py", *words]),
        count=options.repeats,
        columns=("ours", "imports only", "ratio"),
        rows={
            f"sfumato generate, {options.steps} steps, seconds (median)": compared(*seconds),
            "sfumato --help, seconds (median)": [statistics.median(help_seconds.tolist()), None, None],
        },
        notes=(
            f'imports only: python -c "{IMPORT}"',
            "Whole processes, interleaved; the interval of the ratio is the sign test's, over pairs.",
        ),
        settings={"machine": machine(), "threads of torch": torch.get_num_threads(), "model": Path(options.model).name},
    )
    finish(report, "cold_start", options.write)


def process(command: Sequence[str]) -> Callable[[], None]:
    """A function that runs a command to its end, and fails if it fails."""

    def run() -> None:
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")

    return run


if __name__ == "__main__":
    main()
