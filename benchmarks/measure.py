"""Two programs side by side: interleaved times, memory of a process of its own, and the table of both."""

from __future__ import annotations

import argparse
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sfumato.evaluate.intervals import Interval, median_interval
from sfumato.evaluate.report import Report, to_markdown, write_report

__all__ = ["compared", "finish", "flags", "interleaved", "machine", "peak_of_child", "peak_of_this"]

RESULTS = Path(__file__).parents[1] / "docs" / "results"


def flags(description: str | None, repeats: int, steps: int = 20) -> argparse.ArgumentParser:
    """The flags of every benchmark."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=repeats, metavar="N", help=f"pairs of runs ({repeats})")
    parser.add_argument("--steps", type=int, default=steps, metavar="N", help=f"sampling steps ({steps})")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU (all cores in reach)")
    parser.add_argument("--write", action="store_true", help=f"write the table to {RESULTS.name} in docs")
    return parser


def interleaved(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> tuple[Tensor, Tensor]:
    """Seconds of each of two functions, run in turns after one run of each that does not count.

    Who begins alternates, so that whatever drifts (heat, other processes) meets both.

    Returns:
        (repeats,) and (repeats,).
    """
    pair = (ours, theirs)
    seconds: tuple[list[float], list[float]] = ([], [])
    for function in pair:
        function()
    for turn in range(repeats):
        for which in ((0, 1), (1, 0))[turn % 2]:
            begun = time.perf_counter()
            pair[which]()
            seconds[which].append(time.perf_counter() - begun)
    return torch.tensor(seconds[0]), torch.tensor(seconds[1])


def compared(ours: Tensor, theirs: Tensor) -> list[Interval | float]:
    """Our median, theirs, and the median of the ratios of pairs, with its interval (``median_interval``).

    Two runs of a pair follow one another, so their ratio is free of what drifts between pairs. Below 6 pairs even the
    range of all ratios holds the median with less than 95 %, so there is no such interval.

    Args:
        ours: (N,) seconds.
        theirs: (N,) seconds.
    """
    ratios = (ours / theirs).tolist()
    medians = [statistics.median(values.tolist()) for values in (ours, theirs)]
    return [*medians, median_interval(ratios) or statistics.median(ratios)]


def peak_of_this() -> float:
    """The largest memory of this process so far, MiB.

    Linux is asked for that of the program itself: the general figure there includes the parent's before the start.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def peak_of_child(script: str, words: Sequence[str]) -> float:
    """What a process of its own prints as its last line, run as ``script --peak ...``."""
    command = [sys.executable, script, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)} failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def machine() -> str:
    """Kind of machine, without its name."""
    model = ""
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.processor() or platform.machine()}, {platform.system()}"


def finish(report: Report, name: str, write: bool) -> None:
    """Print the table, and write it if asked to."""
    print(to_markdown(report))
    if write:
        print(*write_report(report, RESULTS, name), file=sys.stderr)
