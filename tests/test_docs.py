"""Every Python block of README, CONTRIBUTING and the pages runs, and every link between them leads somewhere."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from sfumato.checkpoints.load import EMBEDDED
from tests.source import ROOT

LONGEST = 10.0
"""Seconds of processor time."""

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_LATER = {"docs/images/grid.png"}
"""Made by the embedded checkpoint, and so not there before it."""


@dataclass(frozen=True)
class Block:
    """A block of code.

    Args:
        page: where it stands.
        line: the line of its first statement.
        code: what it says.
    """

    page: Path
    line: int
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def _blocks() -> list[Block]:
    found: list[Block] = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found += [Block(page, text.count("\n", 0, match.start()) + 2, match[1]) for match in _BLOCK.finditer(text)]
    return found


@pytest.mark.parametrize("block", _blocks(), ids=str)
def test_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if '"emoji"' in block.code and not _is_there():
        pytest.skip("the embedded checkpoint is not in this tree yet")
    monkeypatch.chdir(tmp_path)
    code = compile("\n" * (block.line - 1) + block.code, str(block.page), "exec")
    begun = time.process_time()
    with torch.random.fork_rng(devices=[]):
        exec(code, {"__name__": "__main__"})
    assert time.process_time() - begun < LONGEST


def test_pages_have_blocks() -> None:
    pages = {block.page.name for block in _blocks()}
    assert {"README.md", "CONTRIBUTING.md"} <= pages
    methods = {page.name for page in PAGES if page.parent.name == "methods"} - {"index.md"}
    assert methods and methods <= pages, f"without a block that runs: {sorted(methods - pages)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        place = target.partition("#")[0]
        if place and "://" not in place and not place.startswith("mailto:"):
            path = (page.parent / place).resolve()
            assert path.exists() or _made_later(path), f"{page.name} links to {target}, which is not there"


def _is_there() -> bool:
    return (EMBEDDED["emoji"] / "model_index.json").is_file()


def _made_later(path: Path) -> bool:
    return not _is_there() and path.is_relative_to(ROOT) and path.relative_to(ROOT).as_posix() in _LATER
