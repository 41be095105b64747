"""Attribute binding: whether both things of a prompt are seen, each in its own colour, by method.

Four sets of prompts: pairs of the emoji world that training shows together, pairs that it never does, pairs of which it
never shows either thing in its colour, and prompts of CC-500 whose things the world has. Half of each but the third are
the other half with its colours exchanged (as ABC-6K's pairs are made).
The judge knows real drawings only. Intervals are bootstraps over prompts, whose pictures count together; a prompt is
drawn together with the one of exchanged colours, which names the same things. Prompts that the world has drawings for
in these colours have real pictures beside them; what is compared with those is of the same prompts.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from binding_methods import METHODS, Method
from judged import Judged
from measure import RESULTS
from safetensors.torch import load_file, save_file
from torch import Tensor

import sfumato
from sfumato.checkpoints.load import folder_of
from sfumato.core.sheet import table
from sfumato.evaluate.binding import Bound, binding_of
from sfumato.evaluate.coloured_pairs import ColouredPair, cc500_pairs, drawn, world_pairs
from sfumato.evaluate.intervals import Interval, bootstrap_mean, wilson
from sfumato.evaluate.report import Cell, Report, to_markdown, write_report
from sfumato.machine import best_dtype, usable_threads
from sfumato.train.locked import digest

_BATCH, _SHOWN = 25, 8
_COLUMNS = {
    "things": "both things",
    "colours": "both colours",
    "both": "both, each in its colour",
    "exchanged": "both, in each other's colour",
}
_BOTH = _COLUMNS["both"]
TITLES: Mapping[str, str] = {
    "seen": "Pairs that training shows",
    "unseen": "Pairs that training never shows",
    "colours": "Pairs in colours that training never shows on these things",
    "cc500": "CC-500, as far as the emoji world has its things",
}


@dataclass(frozen=True)
class Bench(Judged):
    """The model, the judge, and how much is made."""

    model: str
    count: int
    seeds: int
    steps: int
    cc500: Path | None

    @cached_property
    def parts(self) -> sfumato.checkpoints.parts.Parts:
        return sfumato.load(self.model, getattr(torch, best_dtype()))

    @cached_property
    def sets(self) -> dict[str, tuple[ColouredPair, ...]]:
        """Sets of prompts; where they come in pairs, each is followed by itself with exchanged colours."""
        world, half = self.world, self.count // 2
        sets = {
            "seen": with_swaps(world_pairs(world, half)),
            "unseen": with_swaps(world_pairs(world, half, "unseen pair")),
            "colours": world_pairs(world, self.count, "unseen colours"),
        }
        if self.cc500 is not None:
            sets["cc500"] = cc500_pairs(world, self.cc500)
        return sets

    def made(self, method: Method, pairs: Sequence[ColouredPair], seeds: Sequence[int]) -> Tensor:
        """Pictures (pairs, 3, 64, 64), one of each pair, from a seed of its own."""
        images: list[Tensor] = []
        for start in range(0, len(pairs), _BATCH):
            some = pairs[start : start + _BATCH]
            asked, own = method(some), seeds[start : start + _BATCH]
            walk = sfumato.Walk(self.steps, excite=asked.excite)
            images.append(sfumato.text_to_image(self.parts, asked.texts, seeds=own, steer=asked.steer, walk=walk))
        return torch.cat(images).float().clamp(-1, 1)

    def measured(self, method: Method, pairs: Sequence[ColouredPair]) -> dict[str, Tensor]:
        """The findings of a method's pictures, each of a noise of its own, and the first of them as "shown"."""
        count = len(pairs)
        turns = [range(turn * count, (turn + 1) * count) for turn in range(self.seeds)]
        images = torch.cat([self.made(method, pairs, seeds) for seeds in turns])
        return {**self.found(images, pairs), "shown": images[:_SHOWN].clone()}

    def found(self, images: Tensor, pairs: Sequence[ColouredPair]) -> dict[str, Tensor]:
        """For each of ``Bound``'s findings the share of each prompt's pictures for which it holds, (prompts,)."""
        seeds = len(images) // len(pairs)
        found = [bound for part in images.chunk(seeds) for bound in binding_of(part, pairs, self.judge)]
        return {name: _by_prompt(found, name, seeds) for name in _COLUMNS}

    def named(self, name: str) -> str:
        """A file name that tells findings of these weights and settings from all others."""
        folder = folder_of(self.model)
        weights = digest(*sorted(path for path in folder.iterdir() if path.is_dir()))
        facts = repr((weights, self.count, self.seeds, self.steps, best_dtype()))
        said = re.sub("[^a-z0-9]+", "-", name)
        return f"{said}-{hashlib.sha256(facts.encode()).hexdigest()[:12]}.safetensors"


def kept(file: Path | None, measure: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What was measured, from a former run if its file is there."""
    if file is None:
        return measure()
    folder = file.parent
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in measure().items()}, file)
    return load_file(file)


def with_swaps(pairs: Sequence[ColouredPair]) -> tuple[ColouredPair, ...]:
    """Each pair, and then the same with exchanged colours."""
    return tuple(each for pair in pairs for each in (pair, pair.swapped))


def exchanged_prompts(pairs: Sequence[ColouredPair]) -> list[tuple[int, int]]:
    """Numbers of each two prompts of which the second has the first's colours exchanged."""
    number = {pair.text: place for place, pair in enumerate(pairs)}
    partners = ((place, number.get(pair.swapped.text, -1)) for place, pair in enumerate(pairs))
    return [(first, second) for first, second in partners if second > first]


def twins(pairs: Sequence[ColouredPair]) -> Tensor:
    """For each prompt the number of the first with its things, (prompts,): they are drawn together."""
    same = torch.arange(len(pairs))
    for first, second in exchanged_prompts(pairs):
        same[second] = first
    return same


def cells(
    found: Mapping[str, Tensor],
    pairs: Sequence[ColouredPair],
    there: Collection[ColouredPair],
    plain: Mapping[str, Tensor] | None = None,
) -> dict[str, Cell]:
    """The findings by column, with intervals over prompts.

    Args:
        found: shares of each prompt's pictures, (prompts,).
        pairs: the prompts.
        there: those that have a real picture: of them alone are the exchanged ones compared with their first.
        plain: findings that all are compared with; None: nothing.
    """
    row: dict[str, Cell] = {title: share(found[name], twins(pairs)) for name, title in _COLUMNS.items()}
    real = [each for each in exchanged_prompts(pairs) if {pairs[number] for number in each} <= set(there)]
    if real:
        first, second = torch.tensor(real).unbind(1)
        row["exchanged prompts that can be drawn"] = share(found["both"][second], torch.arange(len(second)))
        row["these less their first"] = _mean(found["both"][second] - found["both"][first])
    if plain is not None:
        row["more than plain"] = None if plain is found else _mean(found["both"] - plain["both"], twins(pairs))
    return row


def chosen_of(
    found: Mapping[str, Tensor], pairs: Sequence[ColouredPair], some: Sequence[ColouredPair]
) -> dict[str, Tensor]:
    """The findings of some of the prompts."""
    number = {pair: place for place, pair in enumerate(pairs)}
    rows = torch.tensor([number[pair] for pair in some])
    return {name: found[name][rows] for name in _COLUMNS}


def _mean(differences: Tensor, clusters: Tensor | None = None) -> Cell:
    """A mean of differences; where all are the same, which no resample changes, without an interval."""
    alike = bool((differences == differences[0]).all())
    return float(differences[0]) if alike else bootstrap_mean(differences, clusters=clusters)


def share(values: Tensor, clusters: Tensor) -> Interval:
    """A mean of shares, (prompts,); where all are 0 or all 1, which no resample changes, Wilson's of the clusters."""
    count, first = len(clusters.unique()), float(values[0])
    if first in (0.0, 1.0) and bool((values == first).all()):
        return replace(wilson(int(first) * count, count), count=len(values))
    return bootstrap_mean(values, clusters=clusters)


def _by_prompt(found: Sequence[Bound], name: str, seeds: int) -> Tensor:
    return torch.tensor([getattr(bound, name) for bound in found]).double().view(seeds, -1).mean(0)


def main() -> None:
    """Make the tables, and the pictures that they speak of."""
    assert [field.name for field in fields(Bound)] == list(_COLUMNS)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("sets", nargs="*", metavar="SET", help="seen, unseen, colours, cc500 (all)")
    parser.add_argument("--count", type=int, default=200, metavar="N", help="prompts of a set of the world (200)")
    parser.add_argument("--seeds", type=int, default=4, metavar="N", help="pictures of each prompt (4)")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="sampling steps (10)")
    parser.add_argument("--method", choices=tuple(METHODS), action="append", help="only this one; repeatable (all)")
    parser.add_argument("--model", default="emoji", metavar="PATH", help="a model (emoji)")
    parser.add_argument("--cc500", type=Path, metavar="FILE", help="CC-500.txt of its authors; all of it counts")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep what each method gave, and go on from there")
    parser.add_argument("--write", action="store_true", help="write the tables and sheets to docs/results")
    options = parser.parse_args()
    torch.set_num_threads(usable_threads())
    bench = Bench(options.model, options.count, options.seeds, options.steps, options.cc500)
    for name in options.sets or bench.sets:
        report_set(bench, name, options)


def rows_of(
    bench: Bench, name: str, methods: Sequence[str], folder: Path | None
) -> tuple[dict[str, dict[str, Cell]], Tensor]:
    """A set's findings by source, and each method's first pictures."""
    pairs = bench.sets[name]
    real, there = drawn(bench.world, pairs)
    with torch.no_grad():
        codec = torch.cat([bench.parts.codec.decode(bench.parts.codec.encode(part)) for part in real.split(_BATCH)])
    drawable = f"the {len(there)} prompts that can be drawn"
    rows = {
        f"real ({drawable})": cells(bench.found(real, there), there, there),
        "real, through the codec": cells(bench.found(codec.float().clamp(-1, 1), there), there, there),
    }
    shown: list[Tensor] = []
    plain: dict[str, Tensor] = {}
    for method in methods:
        file = None if folder is None else folder / bench.named(f"{name} {method}")
        found = kept(file, partial(bench.measured, METHODS[method], pairs))
        shown.append(found["shown"])
        if not plain:
            plain = found
            rows[f"{method} ({drawable})"] = cells(chosen_of(found, pairs, there), there, there)
        rows[method] = cells(found, pairs, there, plain)
        print(name, method, rows[method][_BOTH], file=sys.stderr)
    return rows, torch.cat(shown)


def report_set(bench: Bench, name: str, options: argparse.Namespace) -> None:
    """One set's table and sheet."""
    pairs, methods = bench.sets[name], options.method or list(METHODS)
    rows, shown = rows_of(bench, name, methods, options.keep)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    swapped = "half of the prompts are the others with exchanged colours"
    made_of = "all prompts are of different things or colours" if name == "colours" else swapped
    words = [word for word in sys.argv[1:] if word not in ("--write", "--keep", str(options.keep), *options.sets)]
    words = ["CC-500.txt" if word == str(options.cc500) else word for word in words]
    report = Report(
        title=TITLES[name],
        command=" ".join(["python benchmarks/binding.py", name, *words]),
        count=len(pairs),
        columns=columns,
        rows={source: [row.get(column) for column in columns] for source, row in rows.items()},
        notes=(
            f"{len(pairs)} prompts, {bench.seeds} pictures each; {made_of}.",
            "Intervals are bootstraps over prompts, those with exchanged colours drawn together; where all pictures "
            "agree, Wilson's of as many trials. Each picture of a method starts from a noise of its own, the same one "
            "with every method.",
            "Real pictures are of the prompts that the world has drawings for in these colours; one row of plain "
            "pictures is of the same prompts, to be compared with them.",
            "The last columns are of both things, each in its colour: over the prompts that can be drawn and are "
            "another, which can be drawn too, with its colours exchanged; these less those others, pair by pair; and "
            "over all prompts, with the same seeds, less plain.",
            "A thing is seen if it is among the judge's five likeliest of 991 concepts in its half; the halves may be "
            "left and right or upper and lower, in either order.",
            "Paint and regions: the first phrase left, the second right. Excited: the nouns. Phrases by the rules.",
        ),
        settings={"model": bench.parts.name, "steps": bench.steps, "guidance": 4, "dtype": best_dtype()},
    )
    print(to_markdown(report))
    if options.write:
        sheet = table(shown, [pair.text for pair in pairs[:_SHOWN]], methods)
        print(*write_report(report, RESULTS, f"binding_{name}"), file=sys.stderr)
        sheet.save(RESULTS / f"binding_{name}.png")


if __name__ == "__main__":
    main()
