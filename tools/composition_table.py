"""Make docs/composition.md: what composes with what, measured.

    python tools/composition_table.py

The tables are those of ``tests/test_composition.py``: every cell is sampled on a tiny random network, and its forwards
are counted on the network itself; a pair that is refused stands with the reason that it is refused with. A test of the
same file sees that the committed page is the one made here.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "composition.md"
sys.path.insert(0, str(ROOT))

from sfumato.checkpoints.parts import Parts  # noqa: E402
from sfumato.core.codec import LatentCodec  # noqa: E402
from tests.test_composition import (  # noqa: E402
    AFTER,
    BESIDE,
    GUIDANCE,
    PAIRS,
    STEPS,
    WRAPPERS,
    denoiser,
    settle_one,
    small_parts,
    walk,
    without_words,
)
from tests.tiny import tiny_vae  # noqa: E402

HEAD = """# What composes with what

Made by `python tools/composition_table.py` from the tables of `tests/test_composition.py`; do not edit it by hand.
Every cell was sampled on a tiny random network, and a number in it is how often the network ran in a step of DDIM,
counted on the network. The test also runs each cell of the first table on every step below, with and without all of the
after-step edits.
"""
WRAPPED = """
## Guidance and what wraps it

Rows are those of the largest forward, for one picture: the branches that share it. A score of the estimate
differentiates through the network, so its forwards have a backward pass each. Models of pixels, but for the last line.
Neighbours are three pictures from a memory in each context: beside the words, in place of them, or as a branch of AND.
"""
WORDLESS = """
## The same, for a model that draws from neighbours alone

What `sfumato train retrieval` makes: the context is three neighbours and nothing else, and "none" is neighbours without
guidance. Whatever speaks of words is refused.
"""
PAIRED = """
## Guidance with guidance

Over classifier-free guidance, where neither says otherwise. A dash: two values of one setting.
"""
REFUSED = """
## What is refused, and why
"""
WALKED = """
## Steps and after-step edits

Forwards of a whole path, with any guidance and any wrapper. The steps of diffusers count as its schedulers do.
"""


def main() -> None:
    """Write the page."""
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(page(small_parts(Path(folder))), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


def page(parts: Parts) -> str:
    """The whole page, measured on a tiny checkpoint."""
    reasons: list[str] = []
    latents = replace(parts, codec=LatentCodec(tiny_vae(latent_channels=3)))
    none = GUIDANCE["none"]
    wrapped = [
        [name, _rows(parts, asked), *(_forwards(parts, reasons, asked, each) for each in WRAPPERS.values())]
        for name, asked in GUIDANCE.items()
    ]
    wrapped += [["none, of latents", "1", *(_forwards(latents, reasons, none, each) for each in WRAPPERS.values())]]
    wordless, alone = [name for name in GUIDANCE if "neighbours" not in GUIDANCE[name]], without_words(parts)
    from_pictures = [
        [name, *(_forwards(alone, reasons, BESIDE, GUIDANCE[name], each) for each in WRAPPERS.values())]
        for name in wordless
    ]
    names = list(dict.fromkeys(name for pair in PAIRS for name in pair))
    cells = {pair: _forwards(parts, reasons, *(GUIDANCE[name] for name in pair)) for pair in PAIRS}
    paired = [
        [one, *(cells.get((one, other)) or _no_pair(names, one, other) for other in names[1:])] for one in names[:-1]
    ]
    walked = [[name, str(len(sampler.path) - 1), *_after(parts, name)] for name, (sampler, _) in STEPS.items()]
    return "\n".join(
        [
            HEAD + WRAPPED,
            *_table(["guidance", "rows", *WRAPPERS], wrapped),
            WORDLESS,
            *_table(["guidance", *WRAPPERS], from_pictures),
            PAIRED,
            *_table(["", *names[1:]], paired),
            REFUSED,
            *(f"{number}. {reason}." for number, reason in enumerate(reasons, start=1)),
            WALKED,
            *_table(["step", "levels walked to", "no edit", *AFTER], walked),
            "",
        ]
    )


def _forwards(parts: Parts, reasons: list[str], *settings: Mapping[str, Any]) -> str:
    """Forwards in a step of DDIM; or the number of the reason for a refusal, which is added to the known ones."""
    sampler, _ = STEPS["DDIM"]
    try:
        x, rows = walk(parts, denoiser(parts, sampler, *settings), sampler)
    except ValueError as error:
        reasons += [str(error)] if str(error) not in reasons else []
        return f"no ({reasons.index(str(error)) + 1})"
    return f"{len(rows) / (len(sampler.path) - 1):g}" if x.isfinite().all() else "not finite"


def _no_pair(names: Sequence[str], one: str, other: str) -> str:
    """A dash for two values of one setting; nothing for a pair that stands elsewhere."""
    return "-" if names.index(one) < names.index(other) and settle_one(one, other) else ""


def _rows(parts: Parts, settings: Mapping[str, Any]) -> str:
    sampler, _ = STEPS["DDIM"]
    x, rows = walk(parts, denoiser(parts, sampler, settings), sampler)
    return str(max(rows) // len(x))


def _after(parts: Parts, step: str) -> Iterable[str]:
    sampler, _ = STEPS[step]
    for after in ((), *((edit(),) for edit in AFTER.values())):
        yield str(len(walk(parts, denoiser(parts, sampler), sampler, *after)[1]))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    main()
