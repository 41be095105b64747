"""``sfumato evaluate``: a model's pictures of the world's fixed prompts, scored beside real ones."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.files import picture_bytes, prepare_folder, write_whole
from sfumato.cli.generate import add_machine_flags, add_sampling_flags, check_scheduler
from sfumato.cli.models import Model, find
from sfumato.cli.progress import bar, emit, say
from sfumato.cli.render import load_parts, make_batch
from sfumato.cli.values import whole
from sfumato.machine import best_dtype, usable_threads
from sfumato.metadata import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.checkpoints.parts import Parts
    from sfumato.evaluate.intervals import Interval
    from sfumato.evaluate.judge import Judge
    from sfumato.evaluate.report import Report
    from sfumato.evaluate.world_score import Agreement
    from sfumato.world.splits import EvaluationPrompt
    from sfumato.world.store import World

__all__ = ["add_flags", "run"]

_SIDE, _SHOWN = 64, 60


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of ``sfumato evaluate``."""
    add = parser.add_argument
    add("--count", type=whole(6, 100_000), default=500, metavar="N", help="prompts, the first of the fixed list (500)")
    add("--reference", type=whole(6, 100_000), default=2000, metavar="N", help="real scenes to compare with (2000)")
    add("--seed", type=whole(0, 2**62), default=0, metavar="N", help="of the first picture, N+1 of the next (0)")
    add("--batch", type=whole(1, 10_000), default=50, metavar="N", help="pictures that are made together (50)")
    add_sampling_flags(parser)
    add_machine_flags(parser)
    add("--cache", metavar="DIR", help="of the emoji pictures; 'sample' is the small one in the package")
    add("-o", "--output", type=Path, default=Path("results"), metavar="DIR", help="folder of the report (results)")
    add("--name", type=_name, default="world", metavar="NAME", help="the report is NAME.md and NAME.json (world)")
    add("--json", action="store_true", help="the report as one JSON object on stdout, instead of a table")
    add("--quiet", action="store_true", help="nothing on stderr but errors")
    add("--debug", action="store_true", help="show tracebacks and all warnings")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Score a model, and write the report."""
    from sfumato.evaluate.report import to_markdown, write_report
    from sfumato.evaluate.train_judge import judge_of_world
    from sfumato.world.splits import evaluation_prompts
    from sfumato.world.store import open_world

    check_scheduler(options.scheduler)
    model = find(options.model)
    prepare_folder(options.output)
    world = open_world(options.cache)
    prompts = evaluation_prompts(world, options.count)
    recipe = _recipe(options)
    parts = load_parts(model, recipe, options.max_rows)
    judge = judge_of_world(world, say=lambda text: say(text, quiet=options.quiet))
    made = _pictures(parts, prompts, recipe, options)
    report = _report(_columns(parts, world, judge, made, prompts, options), judge, model, recipe, options)
    sheet = options.output / f"{options.name}.png"
    write_whole(_sheet(made, prompts), sheet, replace=True)
    for path in (*write_report(report, options.output, options.name), sheet):
        say(str(path), quiet=options.quiet)
    if options.json:
        emit({**asdict(report), "day": report.day.isoformat()})
    else:
        print(to_markdown(report))
    return 0


def _name(word: str) -> str:
    if not word or word != Path(word).name:
        raise argparse.ArgumentTypeError(f"needs a file name without folders, got '{word}'")
    return word


def _recipe(options: argparse.Namespace) -> Recipe:
    return Recipe(
        prompt="",
        seed=options.seed,
        negative=options.negative,
        steps=options.steps,
        scheduler=options.scheduler,
        guidance=options.guidance,
        guidance_interval=options.guidance_interval,
        rescale=options.rescale,
        dtype=best_dtype() if options.dtype == "auto" else options.dtype,
        threads=options.threads or usable_threads(),
    )


def _pictures(parts: Parts, prompts: Sequence[EvaluationPrompt], recipe: Recipe, options: argparse.Namespace) -> Tensor:
    """The model's pictures of all prompts, (N, 3, 64, 64)."""
    import torch

    from sfumato.core.image import resize

    height, width = parts.size
    recipes = [
        replace(recipe, prompt=prompt.text, seed=recipe.seed + number, height=height, width=width)
        for number, prompt in enumerate(prompts)
    ]
    batches = [recipes[start : start + options.batch] for start in range(0, len(recipes), options.batch)]
    made: list[Tensor] = []
    with bar(recipe.steps * len(batches), "making pictures", "step", quiet=options.quiet) as advance:
        for batch in batches:
            made.append(resize(make_batch(parts, batch, advance), _SIDE, _SIDE))
    return torch.cat(made).clamp(-1, 1)


def _sheet(made: Tensor, prompts: Sequence[EvaluationPrompt]) -> bytes:
    """A PNG file with some of the pictures, evenly taken from the list, to look at beside the numbers."""
    from sfumato.core.image import grid

    shown = min(_SHOWN, len(prompts))
    chosen = [number * len(prompts) // shown for number in range(shown)]
    return picture_bytes(grid(made[chosen], 10, [prompts[number].text for number in chosen]), {})


def _columns(
    parts: Parts,
    world: World,
    judge: Judge,
    made: Tensor,
    prompts: Sequence[EvaluationPrompt],
    options: argparse.Namespace,
) -> dict[str, dict[str, Interval | float]]:
    """Scores of the model, of the codec's reconstructions of real pictures, and of the real pictures."""
    from sfumato.evaluate.world_score import real_pictures, reference_of_world, score

    say("scoring", quiet=options.quiet)
    real = real_pictures(world, prompts)
    reference = reference_of_world(world, judge, len(prompts), options.reference)
    sources = {"generated": made, "reconstructed": _reconstructed(parts, real), "real": real}
    agreement = _agreement(parts, options.model)
    return {name: score(images, prompts, judge, reference, agreement) for name, images in sources.items()}


def _agreement(parts: Parts, model: str) -> Agreement | None:
    """Cosines of pictures and words, where the checkpoint has an encoder of pictures for its text."""
    import torch

    from sfumato.checkpoints.load import load_pictures
    from sfumato.encoders.image import sentences

    encoder = load_pictures(find(model).folder)
    if encoder is None:
        return None

    def agreement(images: Tensor, texts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            vectors = torch.cat([encoder(part) for part in images.split(64)])
        return (vectors * sentences(parts.text, texts)).sum(1)

    return agreement


def _reconstructed(parts: Parts, real: Tensor) -> Tensor:
    import torch

    with torch.no_grad():
        made = [parts.codec.decode(parts.codec.encode(real[i : i + 50])) for i in range(0, len(real), 50)]
        return torch.cat(made)


def _report(
    columns: Mapping[str, Mapping[str, Interval | float]],
    judge: Judge,
    model: Model,
    recipe: Recipe,
    options: argparse.Namespace,
) -> Report:
    from sfumato.evaluate.report import Report

    measures = dict.fromkeys(measure for scores in columns.values() for measure in scores)
    accuracy = "; ".join(f"{name} {found.value:.3f}" for name, found in judge.accuracy.items())
    settings = {name: getattr(recipe, name) for name in ("steps", "scheduler", "guidance", "rescale", "dtype", "seed")}
    return Report(
        title=f"The model '{model.name}' on the prompts of the emoji world",
        command=_command(options),
        count=options.count,
        columns=tuple(columns),
        rows={measure: [scores.get(measure) for scores in columns.values()] for measure in measures},
        notes=(
            "reconstructed: real pictures through the codec; with the real ones, the ceiling of what can be reached",
            f"{options.reference} other real scenes are the reference of the distances",
            f"the judge's own accuracy on held-out real scenes: {accuracy}",
        ),
        settings={
            "model": f"{model.name}, fingerprint {model.fingerprint}",
            "world": str(judge.settings.get("world", "")),
            **settings,
            "guidance interval": "{:g}:{:g}".format(*recipe.guidance_interval),
            "negative": recipe.negative or "none",
        },
    )


def _command(options: argparse.Namespace) -> str:
    """The command line that makes the report again, every setting that matters spelled out."""
    low, high = options.guidance_interval
    words = {
        "--model": options.model,
        "--count": options.count,
        "--reference": options.reference,
        "--seed": options.seed,
        "--batch": options.batch,
        "--steps": options.steps,
        "--scheduler": options.scheduler,
        "--guidance": f"{options.guidance:g}",
        "--guidance-interval": f"{low:g}:{high:g}",
        "--rescale": f"{options.rescale:g}",
        "--negative": options.negative or None,
        "--dtype": options.dtype,
        "--cache": options.cache,
    }
    given = [text for flag, value in words.items() if value is not None for text in (flag, str(value))]
    return shlex.join(["sfumato", "evaluate", *given])
