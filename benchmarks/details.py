"""Where details are lost: real scenes noised to a level and drawn again after their captions, and how much stays right.

The first row only encodes and decodes; the last begins at noise alone, and is what a prompt gives. In between, the rows
tell which levels cost a thing its identity: those at which the share of right things falls.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from judged import Judged
from measure import RESULTS
from torch import Tensor

import sfumato
from sfumato.checkpoints.parts import Parts
from sfumato.core.path import suffix
from sfumato.core.sheet import table
from sfumato.evaluate.intervals import Interval
from sfumato.evaluate.judge import Judge
from sfumato.evaluate.report import Report, to_markdown, write_report
from sfumato.evaluate.world_score import judge_pictures, real_pictures, shares
from sfumato.flows.redraw import Redraw, redraw
from sfumato.flows.walk import Walk, sampler_of
from sfumato.machine import best_dtype, usable_threads
from sfumato.train.reconstruction import psnr
from sfumato.world.splits import EvaluationPrompt, evaluation_prompts
from sfumato.world.store import World

_BATCH, _SHOWN = 25, 10
_COLUMNS = ("concept top-1", "both things", "both things top-5", "both things with their colours")
_STRENGTHS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def prompts_of(world: World, count: int) -> list[EvaluationPrompt]:
    """As many prompts of one thing as of two, ``count`` of each, that ``sfumato evaluate`` does not ask."""
    asked = len(evaluation_prompts(world, 500))
    others = evaluation_prompts(world, asked + 12 * count)[asked:]
    kinds = ([each for each in others if len(each.spec.objects) == number] for number in (1, 2))
    return [each for kind in kinds for each in kind[:count]]


def drawn_again(parts: Parts, images: Tensor, prompts: Sequence[EvaluationPrompt], strength: float) -> Tensor:
    """Pictures (N, 3, 64, 64) noised and drawn again; at strength 0 only encoded and decoded."""
    made: list[Tensor] = []
    for start in range(0, len(images), _BATCH):
        some, texts = images[start : start + _BATCH], [each.text for each in prompts[start : start + _BATCH]]
        seeds = range(start, start + len(some))
        with torch.no_grad():
            made.append(
                redraw(parts, Redraw(some, strength), texts, seeds=seeds)
                if strength
                else parts.codec.decode(parts.codec.encode(some))
            )
    return torch.cat(made).float().clamp(-1, 1)


def judged(images: Tensor, real: Tensor, prompts: Sequence[EvaluationPrompt], judge: Judge) -> list[Interval | float]:
    """The cells of a row: what is right, and the PSNR to the real scenes."""
    found = shares(judge_pictures(images, prompts, judge))
    return [*(found[name] for name in _COLUMNS), psnr(images, real)]


def main() -> None:
    """Make the table, and a sheet of scenes at every strength."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=200, metavar="N", help="scenes of one thing, and of two (200)")
    parser.add_argument("--model", default="emoji", metavar="PATH", help="a model (emoji)")
    parser.add_argument("--write", action="store_true", help="write the table and the sheet to docs/results")
    options = parser.parse_args()
    torch.set_num_threads(usable_threads())
    bench, parts = Judged(), sfumato.load(options.model, getattr(torch, best_dtype()))
    world, judge = bench.world, bench.judge
    prompts = prompts_of(world, options.count)
    real = real_pictures(world, prompts)
    path = sampler_of(parts, Walk()).path
    rows: dict[str, list[Interval | float]] = {}
    shown: list[Tensor] = []
    places = slice(options.count, options.count + _SHOWN)
    for strength in (0.0, *_STRENGTHS):
        sigma = float(suffix(path, strength)[0].sigma) if strength else 0.0
        name = f"{strength:g} (sigma {sigma:.2f})"
        images = drawn_again(parts, real, prompts, strength)
        rows[name] = judged(images, real, prompts, judge)
        shown.append(images[places])
        print(name, rows[name], file=sys.stderr)
    report = Report(
        title="Where details are lost: real scenes noised in part and drawn again",
        command=" ".join(["python benchmarks/details.py", *(word for word in sys.argv[1:] if word != "--write")]),
        count=len(prompts),
        columns=(*_COLUMNS, "PSNR, dB"),
        rows=rows,
        notes=(
            "A row is the share of the path that is walked, and the level at which it begins. 0 is the codec alone.",
            f"{options.count} scenes of one thing give the first column, {options.count} of two the next three.",
        ),
        settings={
            "model": parts.name,
            "steps": Walk().steps,
            "guidance": sfumato.Steering().guidance,
            "dtype": best_dtype(),
        },
    )
    print(to_markdown(report))
    if options.write:
        print(*write_report(report, RESULTS, "details"), file=sys.stderr)
        texts = [each.text for each in prompts[places]]
        table(torch.cat([real[places], *shown]), texts, ["real", *rows]).save(RESULTS / "details.png")


if __name__ == "__main__":
    main()
