"""Draw the studies of memory from their tables: k in training, and the share m of the memory that is started from.

Reads ``memory_k1.json`` to ``memory_k8.json`` (``memory_modes.py --name memory_kK`` of models of K neighbours)
and ``memory_unconditional.json``, in docs/results, and writes a picture of each beside them. Bars are the intervals of
the tables. Needs the extra ``benchmarks``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import matplotlib
from measure import RESULTS

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402 (a backend is chosen first)

TRAINED = (1, 2, 4, 8)
Point = tuple[float, dict[str, float]]


def cells(name: str) -> tuple[list[str], dict[str, list[dict[str, float] | None]]]:
    """Columns and rows of a table."""
    table: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return table["columns"], table["rows"]


def draw(panel: Any, points: Sequence[Point], label: str, shift: float) -> None:
    """One line with its intervals; ``shift`` is a factor of x that keeps lines apart."""
    x = [place * shift for place, _ in points]
    y = [cell["value"] for _, cell in points]
    below = [max(0.0, cell["value"] - cell["low"]) for _, cell in points]  # a low of 1e-19 is one of 0
    errors = [below, [cell["high"] - cell["value"] for _, cell in points]]
    panel.errorbar(x, y, yerr=errors, marker="o", markersize=4, capsize=3, linewidth=1, label=label)


def finish(figure: Any, panels: Sequence[Any], titles: Sequence[str], where: str, ticks: Sequence[float]) -> None:
    """Name the axes and show the places."""
    for panel, title in zip(panels, titles, strict=True):
        panel.set_xscale("log")
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
        panel.set_title(title, fontsize=10)
        panel.set_xlabel(where)
        panel.grid(alpha=0.3)
    panels[-1].legend(fontsize=8)
    figure.tight_layout()


def study_of_k() -> None:
    """Concept, style and neighbours by k in training, for each way of filling the context."""
    tables = {k: cells(f"memory_k{k}") for k in TRAINED}
    columns = tables[TRAINED[0]][0][:3]
    figure, panels = plt.subplots(1, len(columns), figsize=(4 * len(columns), 3.6))
    for number, way in enumerate(("text", "neighbours", "both")):
        for place, panel in enumerate(panels):
            points = [(k, cell) for k, (_, rows) in tables.items() if (cell := rows[f"3d, {way}"][place])]
            draw(panel, points, way, 1 + 0.03 * (number - 1))
    finish(figure, panels, columns, "k in training", TRAINED)
    figure.savefig(RESULTS / "memory_k.png", dpi=110)


def study_of_m() -> None:
    """Distance, precision and recall by m, for both proposals; level lines are models without a memory."""
    columns, rows = cells("memory_unconditional")
    figure, panels = plt.subplots(1, len(columns), figsize=(4 * len(columns), 3.6))
    shares = sorted({float(name.rpartition("= ")[2]) for name in rows if "m = " in name})
    for place, panel in enumerate(panels):
        for number, proposal in enumerate(("p_D", "uniform")):
            named = {share: name for name in rows for share in shares if name.endswith(f": {proposal}, m = {share:g}")}
            points = [(share, cell) for share in shares if (cell := rows[named[share]][place])]
            draw(panel, points, proposal, 1 + 0.06 * number)
        for style, name in zip((":", "-."), (each for each in rows if "no memory" in each), strict=True):
            cell = rows[name][place]
            assert cell is not None
            panel.axhline(cell["value"], linestyle=style, linewidth=1, color="grey", label=name)
    real = [cell["value"] for cell in rows["real scenes"] if cell]
    titles = [f"{column} (of real scenes {value:.2f})" for column, value in zip(columns, real, strict=True)]
    finish(figure, panels, titles, "m, the share of the memory that is started from", shares)
    figure.savefig(RESULTS / "memory_m.png", dpi=110)


if __name__ == "__main__":
    study_of_k()
    study_of_m()
