"""A dated table of results: Markdown for people, JSON beside it, both with everything needed to make it again."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from sfumato.durable import write_synced
from sfumato.evaluate.intervals import Interval

__all__ = ["Cell", "Report", "installed_versions", "scores_of", "to_markdown", "write_report"]

Cell = Interval | float | int | str | None
PACKAGES = ("sfumato", "torch", "diffusers", "transformers", "numpy", "pillow")


@dataclass(frozen=True)
class Report:
    """A table of measures (rows) of several sources of pictures (columns).

    Args:
        title: heading, one line.
        command: the exact command that makes this report again.
        count: prompts behind it.
        columns: names of the sources, in order.
        rows: measure -> one cell a column. Intervals print as "value [low, high]".
        notes: sentences under the table: reference set, resize, extractor, the judge's own accuracy.
        settings: whatever else fixes the numbers (seeds, steps, hashes), printed as a list.
        day: date of the measurement.
        versions: package -> version.

    Raises:
        ValueError: a row with another number of cells than there are columns.
    """

    title: str
    command: str
    count: int
    columns: Sequence[str]
    rows: Mapping[str, Sequence[Cell]]
    notes: Sequence[str] = ()
    settings: Mapping[str, str | int | float] = field(default_factory=dict[str, str | int | float])
    day: date = field(default_factory=date.today)
    versions: Mapping[str, str] = field(default_factory=lambda: installed_versions())

    def __post_init__(self) -> None:
        for measure, cells in self.rows.items():
            if len(cells) != len(self.columns):
                raise ValueError(f"row '{measure}' has {len(cells)} cells for {len(self.columns)} columns")


def installed_versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of the packages that a number may depend on, and of Python.

    Args:
        packages: distribution names; those not installed are left out.

    Returns:
        Name -> version.
    """
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def to_markdown(report: Report) -> str:
    """The report as one Markdown page.

    Args:
        report: what was measured.

    Returns:
        Text that ends with a newline.
    """
    lines = [f"# {report.title}", "", f"{report.day.isoformat()}, N = {report.count}.", ""]
    lines += ["```", report.command, "```", ""]
    lines += [_line(["measure", *report.columns]), _line(["---"] + ["---:"] * len(report.columns))]
    lines += [_line([measure, *map(_cell, cells)]) for measure, cells in report.rows.items()]
    lines += ["", "Brackets hold 95 % intervals.", ""]
    lines += [f"- {note}" for note in report.notes]
    lines += [f"- {name}: {value}" for name, value in report.settings.items()]
    lines += ["- versions: " + ", ".join(f"{name} {number}" for name, number in report.versions.items()), ""]
    return "\n".join(lines)


def scores_of(report: Report, column: str) -> dict[str, str]:
    """One column as measure -> figure with its interval, as the table prints it; empty cells are left out.

    Args:
        report: what was measured.
        column: one of its columns.

    Raises:
        ValueError: there is no such column.
    """
    if column not in report.columns:
        raise ValueError(f"there is no column {column!r}; there are {', '.join(report.columns)}")
    place = list(report.columns).index(column)
    return {measure: _cell(cells[place]) for measure, cells in report.rows.items() if cells[place] is not None}


def write_report(report: Report, folder: Path, name: str) -> tuple[Path, Path]:
    """Writes ``NAME.md`` and ``NAME.json`` into a folder.

    Args:
        report: what was measured.
        folder: made if missing.
        name: file name without suffix.

    Returns:
        Paths of the Markdown and of the JSON file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, data = folder / f"{name}.md", folder / f"{name}.json"
    write_synced(page, to_markdown(report).encode())
    content = asdict(report) | {"day": report.day.isoformat()}
    write_synced(data, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return page, data


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, Interval):
        return f"{_number(cell.value)} [{_number(cell.low)}, {_number(cell.high)}]"
    return _number(cell) if isinstance(cell, float) else str(cell)


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
