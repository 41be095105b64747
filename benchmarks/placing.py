"""Whether colours are where paint and regions ask for them: as the words order them, and against that order."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import torch
from binding import Bench, share, twins
from binding_methods import Asked, halves, phrases
from measure import RESULTS
from torch import Tensor

import sfumato
from sfumato.attention.paint_with_words import Painted, PaintWithWords
from sfumato.attention.regions import Region, Regions
from sfumato.evaluate.colour import foreground, shown_colours
from sfumato.evaluate.coloured_pairs import ColouredPair
from sfumato.evaluate.intervals import Interval
from sfumato.evaluate.lessons import crop
from sfumato.evaluate.report import Report, to_markdown, write_report
from sfumato.flows.prompts import EditOfWords
from sfumato.machine import best_dtype, usable_threads

Order = tuple[int, int]
"""Which thing goes left, and which right."""
Way = Callable[[Sequence[ColouredPair], Order], tuple[EditOfWords, ...]]


def nothing(pairs: Sequence[ColouredPair], order: Order) -> tuple[EditOfWords, ...]:
    """No edits."""
    return ()


def painted(strength: float) -> Way:
    """Each phrase painted in its half."""

    def way(pairs: Sequence[ColouredPair], order: Order) -> tuple[EditOfWords, ...]:
        named = zip(order, halves(), strict=True)
        return (PaintWithWords(tuple(Painted(phrases(pairs, which), mask) for which, mask in named), strength),)

    return way


def bound(share: float) -> Way:
    """Each phrase by itself in its half."""

    def way(pairs: Sequence[ColouredPair], order: Order) -> tuple[EditOfWords, ...]:
        named = zip(order, halves(), strict=True)
        return (Regions(tuple(Region(phrases(pairs, which), mask) for which, mask in named), share),)

    return way


WAYS: dict[str, Way] = {
    "plain": nothing,
    **{f"paint-with-words, strength {strength:g}": painted(strength) for strength in (0.2, 0.4, 0.8)},
    **{f"regions, share {share:g}": bound(share) for share in (0.4, 0.6, 0.8, 1.0)},
}


def in_places(images: Tensor, pairs: Sequence[ColouredPair], order: Order) -> Tensor:
    """For each picture (N, 3, 64, 64) 1 if its halves show the colours of the things asked for there, else 0; (N,)."""
    grounds = foreground(images)[:, None]
    left, right = (shown_colours(crop(images, place), crop(grounds, place)[:, 0]) for place in ("left", "right"))
    wanted = [tuple(pair.things[which].colour for which in order) for pair in pairs]
    shown = zip(left, right, strict=True)
    return torch.tensor([each == colours for each, colours in zip(shown, wanted, strict=True)]).double()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, metavar="N", help="prompts (200)")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="sampling steps (10)")
    parser.add_argument("--model", default="emoji", metavar="PATH", help="a model (emoji)")
    parser.add_argument("--write", action="store_true", help="write the table to docs/results")
    options = parser.parse_args()
    torch.set_num_threads(usable_threads())
    bench = Bench(options.model, options.count, 1, options.steps, None)
    pairs = bench.sets["seen"]
    rows: dict[str, list[Interval]] = {}
    for name, way in WAYS.items():
        rows[name] = []
        for order in ((0, 1), (1, 0)):

            def ask(some: Sequence[ColouredPair], order: Order = order, way: Way = way) -> Asked:
                return Asked([pair.text for pair in some], sfumato.Steering(edits=way(some, order)))

            rows[name].append(share(in_places(bench.made(ask, pairs, range(len(pairs))), pairs, order), twins(pairs)))
        print(name, *(f"{cell.value:.3f}" for cell in rows[name]), file=sys.stderr)
    report = Report(
        title="Colours in the places that were asked for",
        command=" ".join(["python benchmarks/placing.py", *(word for word in sys.argv[1:] if word != "--write")]),
        count=len(pairs),
        columns=("first thing left, second right", "first thing right, second left"),
        rows=rows,
        notes=(
            "Share of the pictures whose left and right halves show the colours of the things asked for there; one "
            "picture of each prompt, from a noise of its own.",
            "Half of the prompts are the others with exchanged colours; intervals are bootstraps over prompts, these "
            "drawn together.",
        ),
        settings={"model": bench.parts.name, "steps": bench.steps, "guidance": 4, "dtype": best_dtype()},
    )
    print(to_markdown(report))
    if options.write:
        print(*write_report(report, RESULTS, "binding_places"), file=sys.stderr)


if __name__ == "__main__":
    main()
