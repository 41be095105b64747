"""``sfumato evaluate``: a model's pictures of the world's fixed prompts, scored beside real ones."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.codes import check_denoiser
from sfumato.cli.files import prepare_folder
from sfumato.cli.flags import add_machine_flags, add_sampling_flags, recipe_of
from sfumato.cli.models import find
from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.progress import emit, say
from sfumato.cli.sources import Sources
from sfumato.cli.steering import asked_of, followed
from sfumato.cli.values import path, whole
from sfumato.given import Box
from sfumato.metadata import written
from sfumato.recipe import Recipe

if TYPE_CHECKING:
    from sfumato.checkpoints.parts import Parts
    from sfumato.flows.evaluate_model import EvaluationSettings
    from sfumato.flows.steering import Steering

__all__ = ["add_flags", "run"]

_FILES = ("evaluation.md", "evaluation.json", "evaluation.png", "other_words.png")


def add_flags(parser: Parser) -> None:
    """The flags of ``sfumato evaluate``."""
    add = parser.add_argument
    add("--count", type=whole(20, 100_000), default=500, metavar="N", help="prompts, the first of the fixed list (500)")
    add("--reference", type=whole(20, 100_000), default=2000, metavar="N", help="real scenes to compare with (2000)")
    add("--seed", type=whole(0, 2**62), default=0, metavar="N", help="of the first picture, N+1 of the next (0)")
    add("--batch", type=whole(1, 10_000), default=25, metavar="N", help="pictures that are made together (25)")
    add_sampling_flags(parser)
    add_machine_flags(parser)
    add("--cache", metavar="DIR", help="of the emoji pictures; 'sample' is the small one in the package")
    add("-o", "--output", type=path, default=Path("results"), metavar="DIR", help="folder of the report (results)")
    add("--force", action="store_true", help="replace a former report there")
    add("--card", action="store_true", help="also write the scores into the model's own card")
    add("--json", action="store_true", help="the report as one JSON object on stdout, instead of a table")
    add("--quiet", action="store_true", help="nothing on stderr but errors")
    add("--debug", action="store_true", help="show tracebacks and all warnings")
    parser.hide("show-parse", "unconditional", "top-m", "uniform", "show-neighbours", "temperature", "top-k", "top-p")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Score a model, and write evaluation.md, evaluation.json and evaluation.png."""
    model = find(options.model)
    sources = Sources(model)
    recipe = recipe_of(options, sources)
    check_denoiser(recipe)
    if len(options.guidance) > 1:
        raise UsageError("--guidance of an evaluation is one scale")
    if options.show_parse:
        raise UsageError("--show-parse tells of prompts that you give, and an evaluation has its own; leave it out")
    if options.unconditional or options.show_neighbours:
        raise UsageError(
            "an evaluation is of prompts, and writes a table; leave out --unconditional, --show-neighbours"
        )
    if options.card and not (model.folder / "training.json").is_file():
        raise UsageError(f"{model.folder} has no training.json to write scores into; leave out --card")
    prepare_folder(options.output)
    there = [name for name in _FILES if (options.output / name).exists()]
    if there and not options.force:
        raise UsageError(f"{options.output / there[0]} is of a former evaluation; choose another --output, or --force")

    import torch

    from sfumato.evaluate.report import scores_of, to_markdown
    from sfumato.flows.evaluate_model import evaluate_model
    from sfumato.world.store import open_world

    world = open_world(options.cache)
    torch.set_num_threads(recipe.threads)
    settings = _settings(options, recipe, sources)
    tell = partial(say, quiet=options.quiet)
    command = _command(options, recipe)
    report = evaluate_model(model.folder, options.output, settings, world=world, command=command, say=tell)
    tell(str(options.output / "evaluation.md"))
    if options.card:
        from sfumato.train.card import add_scores

        tell(str(add_scores(model.folder, scores_of(report, "generated"))))
    if options.json:
        emit({**asdict(report), "day": report.day.isoformat()})
    else:
        print(to_markdown(report))
    return 0


def _settings(options: argparse.Namespace, recipe: Recipe, sources: Sources) -> EvaluationSettings:
    import torch

    from sfumato.flows.evaluate_model import EvaluationSettings
    from sfumato.flows.walk import Walk
    from sfumato.guidance.attend_and_excite import Excite

    def follow(parts: Parts, prompts: Sequence[str], seeds: Sequence[int], steer: Steering) -> Steering:
        height, width = parts.size
        one = replace(recipe, height=height, width=width)
        batch = [replace(one, prompt=prompt, seed=seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        return followed(parts, batch, sources, steer)

    excite = Excite(recipe.excite) if recipe.excite else None
    return EvaluationSettings(
        count=options.count,
        reference=options.reference,
        steer=asked_of([recipe], sources),
        follow=follow,
        walk=Walk(recipe.steps, recipe.scheduler, langevin=recipe.langevin, excite=excite),
        seed=options.seed,
        batch=options.batch,
        max_rows=options.max_rows,
        dtype=getattr(torch, recipe.dtype),
    )


def _command(options: argparse.Namespace, recipe: Recipe) -> str:
    """The command line that makes the report again, every setting that matters spelled out."""
    low, high = recipe.guidance_interval
    words = {
        "--model": options.model,
        "--count": options.count,
        "--reference": options.reference,
        "--seed": options.seed,
        "--batch": options.batch,
        "--steps": recipe.steps,
        "--scheduler": recipe.scheduler,
        "--guidance": f"{recipe.guidance:g}",
        "--guidance-interval": f"{low:g}:{high:g}",
        "--rescale": f"{recipe.rescale:g}",
        "--negative": recipe.negative or None,
        "--dtype": options.dtype,
        "--cache": options.cache,
    }
    given = [text for flag, value in words.items() if value is not None for text in (flag, str(value))]
    steered = (*_steering(options, recipe), *_words(options, recipe), *_memory(options, recipe))
    return shlex.join(["sfumato", "evaluate", *given, *steered])


def _steering(options: argparse.Namespace, recipe: Recipe) -> list[str]:
    """The flags of :func:`sfumato.cli.flags.add_steering_flags` that are on, as words."""
    on = written(recipe)
    words = [f"--{'and' if weight > 0 else 'not'}={prompt}:{abs(weight)!r}" for prompt, weight in recipe.concepts]
    words += [f"--classifier={head}={word}:{scale:g}" for head, word, scale in recipe.classifier]
    words += [f"--expert={name}@{start:g}-{stop:g}" for name, start, stop in options.expert or ()]
    plain = ("pag", "apg", "threshold", "clip_guidance", "clip_form", "langevin")
    return words + [f"--{name.replace('_', '-')}={on[name]}" for name in plain if name in on]


def _words(options: argparse.Namespace, recipe: Recipe) -> list[str]:
    """The flags of :func:`sfumato.cli.flags.add_word_flags` that are on, as words."""
    on = written(recipe)
    words = [f"--paint={phrase}={_where(where)}:{weight:g}" for phrase, where, weight in options.paint or ()]
    words += [f"--region={prompt}={_where(where)}" for prompt, where in options.region or ()]
    words += [f"--excite={phrase}" for phrase in recipe.excite]
    plain = ("structure", "parser", "paint_strength", "region_share")
    return words + [f"--{name.replace('_', '-')}={on[name]}" for name in plain if name in on]


def _memory(options: argparse.Namespace, recipe: Recipe) -> list[str]:
    """The flags of :func:`sfumato.cli.recall.add_memory_flags` that are on, as words."""
    asked = recipe.recall
    if asked is None:
        return []
    pool = [f"--pool={asked.pool}"] if asked.pool else []
    plain = (f"--mode={options.mode}", f"--neighbours={asked.count}", f"--null={asked.null}")
    return [f"--memory={options.memory}", *plain, *pool]


def _where(where: Path | Box) -> str:
    return str(where) if isinstance(where, Path) else ",".join(map(str, where))
