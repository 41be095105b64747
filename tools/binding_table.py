"""Fill the two tables of docs/methods/binding.md from docs/results/binding_*.json.

    python tools/binding_table.py

Each is one column or two of every set's table, side by side. A test sees that the committed page is the one made here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "methods" / "binding.md"
SETS = {"seen": "shown", "unseen": "never together", "colours": "never in these colours", "cc500": "CC-500"}
BOTH = ("both, each in its colour",)
EXCHANGED = ("exchanged prompts that can be drawn", "these less their first")
_DRAWABLE = re.compile(r" \(the \d+ prompts that can be drawn\)$")


def row_name(source: str) -> str:
    """A row's name without the number of its prompts, which is another in each set."""
    short = _DRAWABLE.sub("", source)
    return f"{short}, of the same prompts" if short != source and short != "real" else short


def cell(value: Any) -> str:
    """A cell as the sets' own tables print it."""
    if isinstance(value, dict):
        return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return "" if value is None else f"{value:.3f}"


def merged(measures: Sequence[str]) -> list[str]:
    """Lines of a table of these measures, of the sets that have them."""
    tables = {
        title: json.loads((PAGE.parents[1] / f"results/binding_{name}.json").read_text())
        for name, title in SETS.items()
    }
    having = {title: table for title, table in tables.items() if set(measures) <= set(table["columns"])}
    rows: dict[str, list[str]] = {}
    for table in having.values():
        places = [table["columns"].index(measure) for measure in measures]
        for source, cells in table["rows"].items():
            rows.setdefault(row_name(source), []).extend(cell(cells[place]) for place in places)
    # where all that counts can be drawn, "of the same prompts" repeats plain
    rows = {name: cells for name, cells in rows.items() if name == "plain" or cells != rows["plain"]}
    names = [name for title in having for name in (title, *["less first"] * (len(measures) - 1))]
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    return lines + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()]


def filled(page: str) -> str:
    """The page with both tables made anew: the first two that begin with a nameless column."""
    tables = iter(("\n".join(merged(BOTH)), "\n".join(merged(EXCHANGED))))
    return re.sub(r"^\| \| (?:.*\n\|)*.*$", lambda _: next(tables), page, count=2, flags=re.MULTILINE)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
