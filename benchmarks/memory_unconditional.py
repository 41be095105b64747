"""Pictures that nobody described: how the share m of the memory that is started from trades quality for variety.

Each row is a proposal (p_D or uniform, over the top m of the memory) and a model. Pictures are compared with real
scenes of a stream that training does not draw from, by the judge's features; a small m should give a higher precision
and a lower recall. The row of real scenes has no picture that is among those that it is compared with. Models
without a memory (``sfumato train retrieval --neighbours 0``) are drawn from a context of zeros.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from judged import Judged
from measure import RESULTS
from torch import Tensor

import sfumato
from sfumato.checkpoints.joint import load_joint
from sfumato.checkpoints.load import folder_of
from sfumato.checkpoints.neighbours import load_training_vectors
from sfumato.core.noise import Noise
from sfumato.core.sheet import table
from sfumato.evaluate.intervals import Interval
from sfumato.evaluate.lessons import to_images
from sfumato.evaluate.reference import distances, other_scenes
from sfumato.evaluate.report import Report, to_markdown, write_report
from sfumato.flows.prompts import Neighbours
from sfumato.flows.retrieve import Recall, Unasked, recall, unasked
from sfumato.machine import best_dtype, usable_threads
from sfumato.retrieval.build import build
from sfumato.retrieval.corpus import open_corpus
from sfumato.retrieval.embed import Maker
from sfumato.retrieval.memory import Memory
from sfumato.retrieval.patches import Whole
from sfumato.world.scene import Scene, SceneConfig, draw
from sfumato.world.store import STYLES

_BATCH, _SHOWN, _REFERENCE = 25, 12, 2000
_COLUMNS = ("Fréchet distance", "precision", "recall")
SHARES = (1.0, 0.3, 0.1, 0.03, 0.01)
PROPOSALS = {f"{name}, m = {share:g}": Unasked(share, name == "p_D") for name in ("p_D", "uniform") for share in SHARES}


@dataclass(frozen=True)
class Bench(Judged):
    """The judge, the real scenes, and how much is made."""

    count: int
    steps: int
    neighbours: int
    guidance: float
    styles: tuple[str, ...]

    def scenes(self, count: int, seed: int, shown: Sequence[Scene] = ()) -> list[Scene]:
        """Real scenes of one thing, in the styles that models were trained on, whose pictures are all different.

        They are of the validation split, which never shows what training holds out. Training draws other scenes; a
        picture may all the same occur there by chance.

        Args:
            count: how many.
            seed: of the stream that they are drawn from.
            shown: scenes whose pictures are not to be among them.
        """
        kinds = SceneConfig(singles=0.6, recoloured=0.4, pairs=0, counts=0, jitter=0.25, coloured_background=0.1)
        config = SceneConfig(**{**vars(kinds), "split": "validation", "styles": self.styles})
        return other_scenes((draw(self.world, seed, index, config) for index in itertools.count()), count, shown)

    def placed(self, images: Tensor) -> Tensor:
        """Pictures where distances are measured."""
        return self.judge.coordinates(self.judge.features(images))

    def made(self, model: str, memory: Memory | None, proposal: Unasked) -> Tensor:
        """Pictures (N, 3, 64, 64) that nobody described."""
        parts = sfumato.load(model, getattr(torch, best_dtype()))
        training = load_training_vectors(folder_of(model))
        assert training is not None, f"{model} does not say what it was trained on"
        images: list[Tensor] = []
        for start in range(0, self.count, _BATCH):
            seeds = range(start, min(start + _BATCH, self.count))
            vectors = torch.zeros(1, 1, training.shape[1])
            if memory is not None:
                queries = unasked(memory, training, proposal, Noise(seeds))
                vectors = recall(memory, queries, Recall(self.neighbours), Noise(seeds)).vectors
            guidance = 1.0 if memory is None else self.guidance
            steer = sfumato.Steering(guidance=guidance, neighbours=Neighbours(vectors, words=False))
            walk, prompts = sfumato.Walk(self.steps), [""] * len(seeds)
            images.append(sfumato.text_to_image(parts, prompts, seeds=seeds, steer=steer, walk=walk))
        return torch.cat(images).float().clamp(-1, 1)


def compared(found: Tensor, reference: Tensor) -> list[Interval | float]:
    """The columns of the table for coordinates (N, R) against real ones (M, R)."""
    measured = distances(found, reference)
    return [measured[name] for name in _COLUMNS]


def memory_for(model: str, style: str, folder: Path) -> Memory:
    """All drawings of a style, embedded by the model's encoder."""
    joint = load_joint(model)
    place = folder / f"{style}-{joint.fingerprint}"
    build(place, open_corpus(f"world:{style}"), Maker.by(joint, Whole()))
    return Memory.open(place)


def rows_of(
    bench: Bench, options: argparse.Namespace, reference: Tensor
) -> tuple[dict[str, list[Interval | float]], Tensor]:
    """The cells of every model and proposal, and their first pictures."""
    rows: dict[str, list[Interval | float]] = {}
    shown: list[Tensor] = []

    def add(name: str, images: Tensor) -> None:
        rows[name] = compared(bench.placed(images), reference)
        shown.append(images[:_SHOWN])
        print(name, *(f"{cell.value:.3f}" for cell in rows[name] if isinstance(cell, Interval)), file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder:
        for model in options.model:
            memory = memory_for(model, options.memory, Path(folder))
            for name, proposal in PROPOSALS.items():
                add(f"{Path(model).name}: {name}", bench.made(model, memory, proposal))
    for model in options.without:
        add(f"{Path(model).name}: no memory", bench.made(model, None, Unasked()))
    return rows, torch.cat(shown)


def main() -> None:
    """Make the table and its sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=500, metavar="N", help="pictures of each row (500)")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="sampling steps (10)")
    parser.add_argument("--neighbours", type=int, default=4, metavar="K", help="pictures in the context (4)")
    parser.add_argument("--guidance", type=float, default=2.0, metavar="W", help="scale (2)")
    parser.add_argument("--memory", choices=STYLES, default="3d", help="style that the memory holds (3d)")
    parser.add_argument("--model", nargs="*", default=["emoji"], metavar="PATH", help="models with a memory (emoji)")
    parser.add_argument("--without", nargs="*", default=[], metavar="PATH", help="models without one (none)")
    parser.add_argument("--name", default="memory_unconditional", metavar="NAME", help="of the files")
    parser.add_argument("--write", action="store_true", help="write the table and the sheet to docs/results")
    options = parser.parse_args()
    torch.set_num_threads(usable_threads())
    styles = tuple(style for style in STYLES if style != options.memory)
    bench = Bench(options.count, options.steps, options.neighbours, options.guidance, styles)
    real = bench.scenes(_REFERENCE, seed=1)
    others = bench.scenes(options.count, seed=2, shown=real)
    reference = bench.placed(to_images(real))
    rows = {"real scenes": compared(bench.placed(to_images(others)), reference)}
    found, shown = rows_of(bench, options, reference)
    words = [word for word in sys.argv[1:] if word != "--write"]
    report = Report(
        title="Pictures that nobody described: quality and variety by the share of the memory",
        command=" ".join(["python benchmarks/memory_unconditional.py", *words]),
        count=options.count,
        columns=_COLUMNS,
        rows={**rows, **found},
        notes=(
            f"Against {_REFERENCE} real scenes of one thing, {' and '.join(styles)}; the memory is {options.memory}.",
            "precision: pictures that look real; recall: real scenes that pictures come near to, so variety.",
        ),
        settings={
            "steps": bench.steps,
            "guidance": bench.guidance,
            "neighbours": bench.neighbours,
            "dtype": best_dtype(),
        },
    )
    print(to_markdown(report))
    if options.write:
        print(*write_report(report, RESULTS, options.name), file=sys.stderr)
        table(shown, [""] * _SHOWN, list(found)).save(RESULTS / f"{options.name}.png")


if __name__ == "__main__":
    main()
