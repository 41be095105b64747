"""Attribute binding: whether both things of a prompt are seen, each in its own colour, by method.

Four sets of prompts: pairs of the emoji world that training shows together, pairs that it never does, pairs of which it
never shows either thing in its colour, and prompts of CC-500 whose things the world has. Half of each but the third are
the other half with its colours exchanged (as ABC-6K's pairs are made).
The judge knows real drawings only. Intervals are bootstraps over prompts, whose pictures count together; a prompt is
drawn together with the one of exchanged colours, which names the same things.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from measure import RESULTS
from safetensors.torch import load_file, save_file
from torch import Tensor

import sfumato
from sfumato.attention.paint_with_words import Painted, PaintWithWords
from sfumato.attention.regions import Region, Regions
from sfumato.attention.structure import Structure
from sfumato.core.sheet import table
from sfumato.evaluate.binding import Bound, binding_of
from sfumato.evaluate.coloured_pairs import ColouredPair, cc500_pairs, drawn, world_pairs
from sfumato.evaluate.intervals import Interval, bootstrap_mean, wilson
from sfumato.evaluate.judge import Judge
from sfumato.evaluate.report import Report, to_markdown, write_report
from sfumato.evaluate.train_judge import JudgeConfig, judge_of_world
from sfumato.flows.prompts import EditOfWords
from sfumato.flows.steering import Concept
from sfumato.guidance.attend_and_excite import Excite
from sfumato.language.parse import named_parser
from sfumato.machine import best_dtype, usable_threads
from sfumato.world.store import open_world

_BATCH, _SHOWN = 25, 8
REGION_SHARE = 0.6
"""At which the embedded model still draws two things; at 0.8 each region's prompt makes a picture of its own."""
_COLUMNS = {
    "things": "both things",
    "colours": "both colours",
    "both": "both, each in its colour",
    "exchanged": "both, in each other's colour",
}
_COMPARED = ("both, of the exchanged prompts", "exchanged less first")
"""Of both things, each in its colour: over the second prompts of the pairs alone, and these less the first."""


@dataclass(frozen=True)
class Asked:
    """What a method asks for on a batch of pairs.

    Args:
        texts: the prompts.
        steer: of the denoiser.
        excite: words that are excited; None: none.
    """

    texts: list[str]
    steer: sfumato.Steering
    excite: Excite | None = None


Method = Callable[[Sequence[ColouredPair]], Asked]
TITLES: Mapping[str, str] = {
    "seen": "Pairs that training shows",
    "unseen": "Pairs that training never shows",
    "colours": "Pairs in colours that training never shows on these things",
    "cc500": "CC-500, as far as the emoji world has its things",
}


def phrases(pairs: Sequence[ColouredPair], number: int) -> tuple[str, ...]:
    """The first or second thing of each pair, as its prompt says it."""
    return tuple(pair.things[number].phrase for pair in pairs)


def halves() -> tuple[Tensor, Tensor]:
    """Masks (1, 1, 64, 64) of the left and the right half."""
    left = torch.zeros(1, 1, 64, 64)
    left[..., :32] = 1
    return left, 1 - left


def structured(variant: str, graph: bool = False) -> EditOfWords:
    """StructureDiffusion with the phrases of the rules."""
    parser = named_parser("rules")
    return Structure(parser.scene_graph if graph else parser.phrases, variant)  # pyright: ignore[reportArgumentType]


def painted(pairs: Sequence[ColouredPair]) -> EditOfWords:
    """Each phrase in its half."""
    return PaintWithWords(tuple(Painted(phrases(pairs, number), mask) for number, mask in enumerate(halves())))


def bound_to_regions(pairs: Sequence[ColouredPair]) -> EditOfWords:
    """Each phrase by itself in its half."""
    regions = tuple(Region(phrases(pairs, number), mask) for number, mask in enumerate(halves()))
    return Regions(regions, share=REGION_SHARE)


def excited(pairs: Sequence[ColouredPair]) -> Excite:
    """Both nouns."""
    return Excite(tuple(tuple(pair.things[number].noun for pair in pairs) for number in (0, 1)))


def by_edits(*makers: Callable[[Sequence[ColouredPair]], EditOfWords], excite: bool = False) -> Method:
    """Joined prompts with some edits."""

    def ask(pairs: Sequence[ColouredPair]) -> Asked:
        steer = sfumato.Steering(edits=tuple(make(pairs) for make in makers))
        return Asked([pair.text for pair in pairs], steer, excited(pairs) if excite else None)

    return ask


def composed(pairs: Sequence[ColouredPair]) -> Asked:
    """AND of the two phrases instead of one joined prompt."""
    return Asked(list(phrases(pairs, 0)), sfumato.Steering(concepts=(Concept(phrases(pairs, 1)),)))


def average(_: Sequence[ColouredPair]) -> EditOfWords:
    """Structure with averaged values."""
    return structured("average")


METHODS: Mapping[str, Method] = {
    "plain": by_edits(),
    "composable (AND)": composed,
    "structure, phrases": by_edits(average),
    "structure, scene graph": by_edits(lambda _: structured("average", graph=True)),
    "structure, conjunction": by_edits(lambda _: structured("conjunction")),
    "paint-with-words": by_edits(painted),
    f"regions, share {REGION_SHARE:g}": by_edits(bound_to_regions),
    "attend-and-excite": by_edits(excite=True),
    "structure + excite": by_edits(average, excite=True),
    "structure + paint + excite": by_edits(average, painted, excite=True),
}


@dataclass(frozen=True)
class Bench:
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
    def judge(self) -> Judge:
        return judge_of_world(open_world(), JudgeConfig(), lambda text: print(text, file=sys.stderr))

    @cached_property
    def sets(self) -> dict[str, tuple[ColouredPair, ...]]:
        """Sets of prompts; where they come in pairs, each is followed by itself with exchanged colours."""
        world, half = open_world(), self.count // 2
        sets = {
            "seen": with_swaps(world_pairs(world, half)),
            "unseen": with_swaps(world_pairs(world, half, "unseen pair")),
            "colours": world_pairs(world, self.count, "unseen colours"),
        }
        if self.cc500 is not None:
            sets["cc500"] = cc500_pairs(world, self.cc500)
        return sets

    def made(self, method: Method, pairs: Sequence[ColouredPair]) -> Tensor:
        """Pictures (seeds * pairs, 3, 64, 64): all pairs with the first seed, then with the next."""
        walk, batches = sfumato.Walk(self.steps), range(0, len(pairs), _BATCH)
        images: list[Tensor] = []
        for seed in range(self.seeds):
            for start in batches:
                some = pairs[start : start + _BATCH]
                asked = method(some)
                walk = sfumato.Walk(self.steps, excite=asked.excite)
                seeds = [seed] * len(some)
                images.append(sfumato.text_to_image(self.parts, asked.texts, seeds=seeds, steer=asked.steer, walk=walk))
        return torch.cat(images).float().clamp(-1, 1)

    def measured(self, method: Method, pairs: Sequence[ColouredPair]) -> dict[str, Tensor]:
        """The findings of a method's pictures, and the first of them as "shown"."""
        images = self.made(method, pairs)
        return {**self.found(images, pairs), "shown": images[:_SHOWN].clone()}

    def found(self, images: Tensor, pairs: Sequence[ColouredPair]) -> dict[str, Tensor]:
        """For each of ``Bound``'s findings the share of each prompt's pictures for which it holds, (prompts,)."""
        seeds = len(images) // len(pairs)
        found = [bound for part in images.chunk(seeds) for bound in binding_of(part, pairs, self.judge)]
        return {name: _by_prompt(found, name, seeds) for name in _COLUMNS}


def kept(folder: Path | None, name: str, measure: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What was measured under a name, from a former run if its folder has it."""
    if folder is None:
        return measure()
    file = folder / f"{re.sub('[^a-z0-9]+', '-', name)}.safetensors"
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


def _cells(
    found: Mapping[str, Tensor], pairs: Sequence[ColouredPair], plain: Mapping[str, Tensor] | None = None
) -> list[Interval | None]:
    """The findings with intervals over prompts; ``_COMPARED``; and how much more often both than plain."""
    both, same = found["both"], torch.arange(len(pairs))
    halves: list[Interval | None] = [None, None]
    if exchanged := exchanged_prompts(pairs):
        one, other = torch.tensor(exchanged).unbind(1)
        same[other] = one
        halves = [_share(both[other], torch.arange(len(other))), bootstrap_mean(both[other] - both[one])]
    more = None if plain is None or plain is found else bootstrap_mean(both - plain["both"], clusters=same)
    return [*(_share(found[name], same) for name in _COLUMNS), *halves, more]


def _share(values: Tensor, clusters: Tensor) -> Interval:
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


def report_set(bench: Bench, name: str, options: argparse.Namespace) -> None:
    """One set's table and sheet."""
    pairs = bench.sets[name]
    chosen = options.method or list(METHODS)
    real, there = drawn(open_world(), pairs)
    with torch.no_grad():
        codec = torch.cat([bench.parts.codec.decode(bench.parts.codec.encode(part)) for part in real.split(_BATCH)])
    rows = {f"real ({len(there)} prompts)": _cells(bench.found(real, there), there)}
    rows["real, through the codec"] = _cells(bench.found(codec.float().clamp(-1, 1), there), there)
    shown: list[Tensor] = []
    plain: dict[str, Tensor] = {}
    for method in chosen:
        found = kept(options.keep, f"{name} {method}", partial(bench.measured, METHODS[method], pairs))
        shown.append(found["shown"])
        plain = plain or found
        rows[method] = _cells(found, pairs, plain)
        print(name, method, *(f"{cell.value:.3f}" for cell in rows[method] if cell), file=sys.stderr)
    swapped = "half of the prompts are the others with exchanged colours"
    made_of = "all prompts are of different things or colours" if name == "colours" else swapped
    words = [word for word in sys.argv[1:] if word not in ("--write", "--keep", str(options.keep), *options.sets)]
    words = ["CC-500.txt" if word == str(options.cc500) else word for word in words]
    report = Report(
        title=TITLES[name],
        command=" ".join(["python benchmarks/binding.py", name, *words]),
        count=len(pairs),
        columns=(*_COLUMNS.values(), *_COMPARED, f"more than {chosen[0]}"),
        rows=rows,
        notes=(
            f"{len(pairs)} prompts, {bench.seeds} pictures each; {made_of}.",
            "Intervals are bootstraps over prompts, those with exchanged colours drawn together; where all pictures "
            "agree, Wilson's of as many trials.",
            "The last three columns are of both things, each in its colour: over the prompts that are another with its "
            "colours exchanged; these less those others, pair by pair; and all, with the same seeds, less plain.",
            "A thing is seen if it is among the judge's five likeliest of 991 concepts in its half; the halves may be "
            "left and right or upper and lower, in either order.",
            "Paint and regions: the first phrase left, the second right. Excited: the nouns. Phrases by the rules.",
        ),
        settings={"model": bench.parts.name, "steps": bench.steps, "guidance": 4, "dtype": best_dtype()},
    )
    print(to_markdown(report))
    if options.write:
        sheet = table(torch.cat(shown), [pair.text for pair in pairs[:_SHOWN]], chosen)
        print(*write_report(report, RESULTS, f"binding_{name}"), file=sys.stderr)
        sheet.save(RESULTS / f"binding_{name}.png")


if __name__ == "__main__":
    main()
