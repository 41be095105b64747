"""What a memory does for pictures of prompts: each way of filling the context, and several memories in turn.

A memory holds every everyday concept of the emoji world in one style; prompts name a concept and no style. Is the
concept right, and does the style follow the memory that is plugged in, with nothing trained anew? Beside it stands how
often the concept's own picture is among the neighbours, beyond which neighbours alone cannot go. ``--other`` plugs in a
folder of drawings too, in a style that the judge was not taught: that of ``benchmarks/openmoji.py``.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from judged import Judged
from measure import RESULTS
from PIL import Image
from torch import Tensor

import sfumato
from sfumato.checkpoints.joint import load_joint
from sfumato.core.image import from_pictures
from sfumato.core.noise import Noise
from sfumato.core.sheet import table
from sfumato.encoders.joint import JointEncoder
from sfumato.evaluate.intervals import Interval, wilson
from sfumato.evaluate.report import Report, to_markdown, write_report
from sfumato.flows.prompts import Neighbours
from sfumato.flows.retrieve import Fill, Recall, Recalled, recall
from sfumato.flows.steering import Concept
from sfumato.machine import best_dtype, usable_threads
from sfumato.retrieval.build import build
from sfumato.retrieval.corpus import open_corpus
from sfumato.retrieval.embed import Maker
from sfumato.retrieval.item import Item
from sfumato.retrieval.memory import Memory
from sfumato.retrieval.patches import Whole
from sfumato.world.captions import canonical_caption
from sfumato.world.spec import SceneSpec, single
from sfumato.world.store import STYLES

_BATCH, _SHOWN = 25, 8
_COLUMNS = ("concept top-1", "concept top-5", "the memory's style", "own concept among the neighbours")
_OTHER = "nearest to the other's drawings"
Way = Callable[["Bench", Memory, Sequence[str]], tuple[sfumato.Steering, Tensor | None]]
"""A memory and B prompts to what is asked, and the rows (B, k) that are in the context."""


@dataclass(frozen=True)
class Bench(Judged):
    """The model, its encoder, the judge, and how much is made."""

    model: str
    count: int
    steps: int
    neighbours: int
    guidance: float
    other: Path | None

    @cached_property
    def parts(self) -> sfumato.checkpoints.parts.Parts:
        return sfumato.load(self.model, getattr(torch, best_dtype()))

    @cached_property
    def joint(self) -> JointEncoder:
        return load_joint(self.model)

    @cached_property
    def prompts(self) -> dict[str, int]:
        """Captions without a style, and the concept of each: evenly spread over the everyday ones."""
        core = self.world.core
        chosen = [core[number * len(core) // self.count] for number in range(self.count)]
        return {self._caption(concept.index): concept.index for concept in chosen}

    @property
    def shown(self) -> list[int]:
        """Places of the prompts that are on the sheet, spread evenly."""
        return [number * len(self.prompts) // _SHOWN for number in range(_SHOWN)]

    def _caption(self, concept: int) -> str:
        objects, relation = single(concept), "and"
        spec = SceneSpec(objects, STYLES[0], "white", "single", relation, style_named=False)
        return canonical_caption(self.world, spec)

    @property
    def corpora(self) -> dict[str, str]:
        """What memories are made of, by name: each of the world's styles, and the folder."""
        corpora = {style: f"world:{style}" for style in STYLES}
        return corpora if self.other is None else {**corpora, self.other.name: str(self.other)}

    @cached_property
    def means(self) -> Tensor:
        """Means (corpora, F) of the judge's features over all drawings of each corpus."""
        return torch.stack([self.drawings(corpus).mean(0) for corpus in self.corpora.values()])

    def drawings(self, corpus: str) -> Tensor:
        """The judge's features (N, F) of all drawings of a corpus."""
        where = open_corpus(corpus)
        items = [item for part in where.slices for item in where.read(part) if isinstance(item, Item)]
        images = from_pictures([Image.open(io.BytesIO(item.content)).convert("RGB") for item in items])
        return torch.cat([self.judge.features(part) for part in images.split(_BATCH)])

    def memory(self, name: str, folder: Path) -> Memory:
        """All drawings of a corpus."""
        build(folder / name, open_corpus(self.corpora[name]), Maker.by(self.joint, Whole()))
        return Memory.open(folder / name)

    def made(self, way: Way, memory: Memory) -> tuple[Tensor, Tensor | None]:
        """A picture (N, 3, 64, 64) of each prompt, and the rows (N, k) in its context."""
        images: list[Tensor] = []
        rows: list[Tensor] = []
        prompts = list(self.prompts)
        for start in range(0, len(prompts), _BATCH):
            some = prompts[start : start + _BATCH]
            steer, found = way(self, memory, some)
            steer = replace(steer, guidance=self.guidance)
            seeds, walk = range(start, start + len(some)), sfumato.Walk(self.steps)
            images.append(sfumato.text_to_image(self.parts, some, seeds=seeds, steer=steer, walk=walk))
            rows += [] if found is None else [found]
        return torch.cat(images).float().clamp(-1, 1), torch.cat(rows) if rows else None

    def judged(self, images: Tensor, rows: Tensor | None, memory: Memory, style: str) -> list[Interval | None]:
        """The cells of a row."""
        features, wanted = self.judge.features(images), torch.tensor(list(self.prompts.values()))
        ranked = self.judge.ranked(features) == wanted[:, None]
        styles = sum(found == style for found in self.judge.styles(features))
        cells: list[Interval | None] = [_share(ranked[:, :1].any(1)), _share(ranked.any(1))]
        cells.append(wilson(styles, len(images)) if style in STYLES else None)
        cells.append(None if rows is None else _share((self.concepts(memory)[rows] == wanted[:, None]).any(1)))
        return (
            cells
            if self.other is None
            else [*cells, _share(torch.cdist(features, self.means).argmin(1) == len(STYLES))]
        )

    def concepts(self, memory: Memory) -> Tensor:
        """The concept (N,) of each entry, by its source: "3d/1f600", "1f600.png"."""
        numbers = {concept.codepoints: concept.index for concept in self.world.core}
        return torch.tensor([numbers[Path(each.source).stem] for each in memory.entries(range(len(memory)))])


def _share(right: Tensor) -> Interval:
    return wilson(int(right.sum()), len(right))


def words_alone(bench: Bench, memory: Memory, prompts: Sequence[str]) -> tuple[sfumato.Steering, Tensor | None]:
    """The text as the model takes texts: its words, or its embedding in place of a neighbour."""
    if not _alone(bench):
        return sfumato.Steering(), None
    return sfumato.Steering(neighbours=Neighbours(bench.joint.words(prompts)[:, None])), None


def neighbours_alone(bench: Bench, memory: Memory, prompts: Sequence[str]) -> tuple[sfumato.Steering, Tensor | None]:
    """The neighbours of the text."""
    found = _found(bench, memory, prompts, "neighbours")
    return sfumato.Steering(neighbours=Neighbours(found.vectors, words=False)), found.rows


def both(bench: Bench, memory: Memory, prompts: Sequence[str]) -> tuple[sfumato.Steering, Tensor | None]:
    """The text and its neighbours in one context."""
    found = _found(bench, memory, prompts, "both" if _alone(bench) else "neighbours")
    return sfumato.Steering(neighbours=Neighbours(found.vectors)), found.rows


def composed(bench: Bench, memory: Memory, prompts: Sequence[str]) -> tuple[sfumato.Steering, Tensor | None]:
    """The text AND its neighbours, as two branches."""
    found = _found(bench, memory, prompts, "neighbours")
    return sfumato.Steering(concepts=(Concept("", 1.0, Neighbours(found.vectors, words=False)),)), found.rows


def _found(bench: Bench, memory: Memory, prompts: Sequence[str], fill: Fill) -> Recalled:
    how = Recall(bench.neighbours, fill)
    return recall(memory, bench.joint.words(prompts), how, Noise(range(len(prompts))))


def _alone(bench: Bench) -> bool:
    return bench.parts.neighbours is not None and bench.parts.neighbours.alone


WAYS: dict[str, Way] = {"text": words_alone, "neighbours": neighbours_alone, "both": both, "and": composed}


def nearest_note(bench: Bench) -> str:
    """How sure the last column is: even drawings by the means of odd ones."""
    features = [bench.drawings(corpus) for corpus in bench.corpora.values()]
    means = torch.stack([each[::2].mean(0) for each in features])
    right = [torch.cdist(each[1::2], means).argmin(1) == len(STYLES) for each in features]
    own, others = right[-1].double().mean(), torch.cat(right[:-1]).double().mean()
    return (
        f"{_OTHER}: of the means of the judge's features over the drawings of each memory, that of the folder is "
        f"nearest. Of drawings that a mean was not taken over, {own:.3f} of the folder's and {others:.3f} of the "
        "world's are."
    )


def main() -> None:
    """Make the table, and the sheet of its first pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=200, metavar="N", help="prompts (200)")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="sampling steps (10)")
    parser.add_argument("--neighbours", type=int, default=4, metavar="K", help="pictures in the context (4)")
    parser.add_argument("--guidance", type=float, default=4.0, metavar="W", help="scale (4)")
    parser.add_argument("--model", default="emoji", metavar="PATH", help="a model (emoji)")
    parser.add_argument("--other", type=Path, metavar="FOLDER", help="drawings named by Unicode's numbers (none)")
    parser.add_argument("--name", default="memory_modes", metavar="NAME", help="of the files (memory_modes)")
    parser.add_argument("--write", action="store_true", help="write the table and the sheet to docs/results")
    options = parser.parse_args()
    torch.set_num_threads(usable_threads())
    bench = Bench(options.model, options.count, options.steps, options.neighbours, options.guidance, options.other)
    rows: dict[str, list[Interval | None]] = {}
    shown: list[Tensor] = []
    ways = {name: way for name, way in WAYS.items() if not (name == "and" and _alone(bench))}
    with tempfile.TemporaryDirectory() as folder:
        for style in bench.corpora:
            memory = bench.memory(style, Path(folder))
            for name, way in ways.items():
                images, found = bench.made(way, memory)
                rows[f"{style}, {name}"] = bench.judged(images, found, memory, style)
                shown.append(images[bench.shown])
                print(style, name, *(f"{cell.value:.3f}" for cell in rows[f"{style}, {name}"] if cell), file=sys.stderr)
    words = [word for word in sys.argv[1:] if word != "--write"]
    notes = [
        "A row is a memory of one style and a way of filling the context; prompts name no style.",
        "text: no neighbours, so the memory does not matter; and: the text and its neighbours as two branches.",
    ]
    notes += [] if bench.other is None else [nearest_note(bench)]
    report = Report(
        title="Memories plugged in: how the context is filled, and whose style it takes",
        command=" ".join(["python benchmarks/memory_modes.py", *words]),
        count=len(bench.prompts),
        columns=_COLUMNS if bench.other is None else (*_COLUMNS, _OTHER),
        rows=rows,
        notes=tuple(notes),
        settings={
            "model": bench.parts.name,
            "encoder": bench.joint.fingerprint,
            "neighbours": bench.neighbours,
            "steps": bench.steps,
            "guidance": bench.guidance,
            "dtype": best_dtype(),
        },
    )
    print(to_markdown(report))
    if options.write:
        print(*write_report(report, RESULTS, options.name), file=sys.stderr)
        table(torch.cat(shown), [list(bench.prompts)[place] for place in bench.shown], list(rows)).save(
            RESULTS / f"{options.name}.png"
        )


if __name__ == "__main__":
    main()
