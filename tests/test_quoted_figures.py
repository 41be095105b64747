"""Figures with an interval that pages quote are those of the tables in docs/results, to as many digits as they give.

Left out is one table, of the cards of models that are not in the repository.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from tests.source import ROOT

Figure = tuple[Decimal, Decimal, Decimal]

RESULTS = ROOT / "docs" / "results"
_NUMBER = r"(-?\d+(?:\.\d+)?)"
_QUOTED = re.compile(rf"{_NUMBER}\s*(%?)\s+\[{_NUMBER},\s+{_NUMBER}\]")
PAGES = sorted(
    [ROOT / "README.md", RESULTS / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/methods").glob("*.md")]
)
_FROM_CARDS = re.compile(r"^\| further scenes, loss of v .*?\n\n", re.MULTILINE | re.DOTALL)
"""The table of docs/methods/retrieval.md whose figures stand in the cards of models that ``make study`` trains."""


def figures(text: str) -> list[tuple[Figure, bool]]:
    """Each figure with its interval, and whether it is in percent."""
    found = _QUOTED.finditer(text)
    return [((Decimal(each[1]), Decimal(each[3]), Decimal(each[4])), bool(each[2])) for each in found]


def tabled() -> set[Figure]:
    tables = (file for file in RESULTS.glob("*.md") if file.name != "README.md")
    return {figure for file in tables for figure, _ in figures(file.read_text())}


def is_rounding(quoted: Decimal, exact: Decimal) -> bool:
    """Whether a number is another one, rounded to the digits it has; a half may go either way."""
    step = Decimal(1).scaleb(int(quoted.as_tuple().exponent))
    return quoted in (exact.quantize(step, ROUND_HALF_UP), exact.quantize(step, ROUND_HALF_DOWN))


def is_tabled(figure: Figure, percent: bool, tables: set[Figure]) -> bool:
    scale = 100 if percent else 1
    return any(all(is_rounding(one, scale * other) for one, other in zip(figure, row, strict=True)) for row in tables)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_quoted_figures_are_of_the_tables(page: Path) -> None:
    tables = tabled()
    strange = [
        f"{value} [{low}, {high}]"
        for (value, low, high), percent in figures(_FROM_CARDS.sub("", page.read_text()))
        if not is_tabled((value, low, high), percent, tables)
    ]
    assert not strange, (
        f"{page.name} quotes what no table in docs/results holds (make it anew, or correct it): {strange}"
    )


def test_a_figure_that_no_table_holds_is_found() -> None:
    tables = {(Decimal("0.350"), Decimal("0.264"), Decimal("0.447"))}
    ((figure, percent),) = figures("right for 35 % [26, 45] of them")
    assert is_tabled(figure, percent, tables)
    assert not is_tabled((Decimal("0.36"), *figure[1:]), percent, tables)
    assert is_tabled((Decimal("0.35"), Decimal("0.26"), Decimal("0.45")), False, tables)
    assert not is_tabled((Decimal("0.35"), Decimal("0.27"), Decimal("0.45")), False, tables)


def test_the_tables_of_binding_are_those_of_its_sets() -> None:
    from tools.binding_table import PAGE, filled

    page = PAGE.read_text(encoding="utf-8")
    assert filled(page) == page, "run python tools/binding_table.py"
    changed = page.replace("| composable (AND) | 0.000", "| composable (AND) | 0.999")
    assert filled(changed) == page != changed
