"""``sfumato evaluate``: a model's pictures of the world's fixed prompts, scored beside real ones."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from functools import partial
from pathlib import Path

from sfumato.cli.files import prepare_folder
from sfumato.cli.generate import add_machine_flags, add_sampling_flags, check_scheduler
from sfumato.cli.models import find
from sfumato.cli.parser import UsageError
from sfumato.cli.progress import emit, say
from sfumato.cli.values import whole
from sfumato.machine import best_dtype, usable_threads

__all__ = ["add_flags", "run"]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of ``sfumato evaluate``."""
    add = parser.add_argument
    add("--count", type=whole(20, 100_000), default=500, metavar="N", help="prompts, the first of the fixed list (500)")
    add("--reference", type=whole(20, 100_000), default=2000, metavar="N", help="real scenes to compare with (2000)")
    add("--seed", type=whole(0, 2**62), default=0, metavar="N", help="of the first picture, N+1 of the next (0)")
    add("--batch", type=whole(1, 10_000), default=25, metavar="N", help="pictures that are made together (25)")
    add_sampling_flags(parser)
    add_machine_flags(parser)
    add("--cache", metavar="DIR", help="of the emoji pictures; 'sample' is the small one in the package")
    add("-o", "--output", type=Path, default=Path("results"), metavar="DIR", help="folder of the report (results)")
    add("--card", action="store_true", help="also write the scores into the model's own card")
    add("--json", action="store_true", help="the report as one JSON object on stdout, instead of a table")
    add("--quiet", action="store_true", help="nothing on stderr but errors")
    add("--debug", action="store_true", help="show tracebacks and all warnings")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Score a model, and write evaluation.md, evaluation.json and evaluation.png."""
    check_scheduler(options.scheduler)
    model = find(options.model)
    if options.card and not (model.folder / "training.json").is_file():
        raise UsageError(f"{model.folder} has no training.json to write scores into; leave out --card")
    prepare_folder(options.output)

    import torch

    from sfumato.evaluate.report import scores_of, to_markdown
    from sfumato.flows.evaluate_model import EvaluationSettings, evaluate_model
    from sfumato.flows.steering import Steering
    from sfumato.flows.walk import Walk
    from sfumato.world.store import open_world

    world = open_world(options.cache)
    torch.set_num_threads(options.threads or usable_threads())
    settings = EvaluationSettings(
        count=options.count,
        reference=options.reference,
        steer=Steering(
            guidance=options.guidance,
            negative=options.negative,
            interval=options.guidance_interval,
            rescale=options.rescale,
        ),
        walk=Walk(options.steps, options.scheduler),
        seed=options.seed,
        batch=options.batch,
        max_rows=options.max_rows,
        dtype=getattr(torch, best_dtype() if options.dtype == "auto" else options.dtype),
    )
    tell = partial(say, quiet=options.quiet)
    command = _command(options)
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
