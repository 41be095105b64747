"""The record of a run: one JSON line an entry, and TensorBoard when asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Means", "RunLog"]


class RunLog:
    """Appends to ``log.jsonl`` in a run's folder; a line is on disk when the call returns.

    Args:
        run: folder of the run.
        tensorboard: also write TensorBoard events to ``run/tensorboard``.

    Raises:
        ImportError: TensorBoard was asked for and is not installed.
    """

    def __init__(self, run: Path, *, tensorboard: bool = False) -> None:
        run.mkdir(parents=True, exist_ok=True)
        self._lines = (run / "log.jsonl").open("a")
        self._writer = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ImportError("report_to tensorboard needs the package 'tensorboard': install it") from error
            self._writer = SummaryWriter(run / "tensorboard")

    def entry(self, step: int, values: Mapping[str, float | str]) -> None:
        """Write one entry: the step, the time of day, and the values."""
        self._lines.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._lines.flush()
        if self._writer is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the files."""
        self._lines.close()
        if self._writer is not None:
            self._writer.close()


class Means:
    """Means of named numbers since they were last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0
        self._since = time.perf_counter()

    def add(self, values: Mapping[str, float]) -> None:
        """Count the values of one step in."""
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """The means, and the steps a second; counting begins anew."""
        now = time.perf_counter()
        means = {name: value / self._count for name, value in self._sums.items()}
        means["steps_per_second"] = self._count / (now - self._since)
        self._sums, self._count, self._since = {}, 0, now
        return means
