from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from sfumato.evaluate.intervals import wilson
from sfumato.evaluate.report import Report, installed_versions, to_markdown, write_report


def report() -> Report:
    return Report(
        title="Scores",
        command="sfumato evaluate --count 50",
        count=50,
        columns=("generated", "real"),
        rows={"concept top-1": (wilson(40, 50), wilson(49, 50)), "Fréchet distance": (31.25, None)},
        notes=("features: 64-d",),
        settings={"seed": 7},
        day=date(2026, 11, 21),
        versions={"torch": "2.13.0"},
    )


def test_the_page_holds_what_makes_it_again() -> None:
    page = to_markdown(report())
    assert "2026-11-21, N = 50." in page
    assert "sfumato evaluate --count 50" in page
    assert "| concept top-1 | 0.800 [0.670, 0.888] | 0.980 [0.895, 0.996] |" in page
    assert "| Fréchet distance | 31.2 | - |" in page
    assert "- seed: 7" in page and "torch 2.13.0" in page and "- features: 64-d" in page


def test_json_beside_the_page(tmp_path: Path) -> None:
    page, data = write_report(report(), tmp_path / "new", "scores")
    content = json.loads(data.read_text(encoding="utf-8"))
    assert page.read_text(encoding="utf-8") == to_markdown(report())
    assert content["day"] == "2026-11-21"
    assert content["rows"]["concept top-1"][0]["count"] == 50
    assert content["rows"]["Fréchet distance"] == [31.25, None]


def test_versions_leave_out_what_is_not_installed() -> None:
    assert set(installed_versions(("torch", "no-such-package"))) == {"python", "torch"}


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 columns"):
        Report("t", "c", 1, ("a", "b"), {"x": (1.0,)})
