"""``sfumato generate``: pictures of prompts."""

from __future__ import annotations

import argparse
import secrets
from dataclasses import replace
from pathlib import Path

from sfumato.a1111 import SAMPLERS
from sfumato.cli.models import Model, find
from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.render import Job, render
from sfumato.cli.values import interval, number, size, whole
from sfumato.cli.words import did_you_mean
from sfumato.machine import best_dtype, usable_threads
from sfumato.metadata import Recipe

__all__ = [
    "add_flags",
    "add_machine_flags",
    "add_output_flags",
    "add_sampling_flags",
    "check_scheduler",
    "job_of",
    "run",
]

_HIGHEST_SEED = 2**64 - 1
_SCHEDULERS = f"{', '.join(SAMPLERS)}, or a scheduler class of diffusers (ddim)"
_INTERVAL = "shares of the path between which guidance acts; 0 is pure noise (0:1)"


def add_flags(parser: Parser) -> None:
    """The flags of ``sfumato generate``."""
    add = parser.add_argument
    add("prompts", nargs="+", metavar="PROMPT", help="what a picture shows; several make a batch")
    add("--count", type=whole(1, 10_000), default=1, metavar="N", help="pictures of each prompt (1)")
    add("--seed", type=whole(0, _HIGHEST_SEED), metavar="N", help="of the first picture, N+1 of the next (drawn)")
    add_sampling_flags(parser)
    add("--size", type=size, metavar="WxH", help="pixels; the model's own size if not given")
    add("--grid", action="store_true", help="also write a contact sheet")
    add("--exact", action="store_true", help="one by one, each bit for bit what it is alone")
    add("--batch", type=whole(1, 10_000), default=8, metavar="N", help="pictures that are made together (8)")
    add_machine_flags(parser)
    add_output_flags(parser)
    parser.epilog = 'example: sfumato generate "a red apple" "a blue bird" --count 4 --grid -o pictures'
    parser.set_defaults(run=run)


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """Flags on how pictures are sampled."""
    add, share = parser.add_argument, Recipe.guidance_interval
    add("--negative", default="", metavar="TEXT", help="what the pictures move away from")
    add("--steps", type=whole(1, 1000), default=Recipe.steps, metavar="N", help="sampling steps (20)")
    add("--scheduler", type=_scheduler, default=Recipe.scheduler, metavar="NAME", help=_SCHEDULERS)
    add("--guidance", type=number(0, 1000), default=Recipe.guidance, metavar="W", help="scale; 1 is no guidance (4)")
    add("--guidance-interval", type=interval, default=share, metavar="LOW:HIGH", help=_INTERVAL)
    add("--rescale", type=number(0, 1), default=0.0, metavar="S", help="tames the contrast of strong guidance (0)")


def run(options: argparse.Namespace) -> int:
    """Make pictures of prompts."""
    _check_prompts(options)
    check_scheduler(options.scheduler)
    model = find(options.model)
    width, height = options.size or (None, None)
    shared = Recipe(
        prompt="",
        seed=0,
        negative=options.negative,
        steps=options.steps,
        scheduler=options.scheduler,
        guidance=options.guidance,
        guidance_interval=options.guidance_interval,
        rescale=options.rescale,
        width=width,
        height=height,
        dtype=best_dtype() if options.dtype == "auto" else options.dtype,
        threads=options.threads or usable_threads(),
    )
    seed = secrets.randbits(32) if options.seed is None else options.seed
    prompts = [prompt for prompt in options.prompts for _ in range(options.count)]
    recipes = [replace(shared, prompt=prompt, seed=seed + i) for i, prompt in enumerate(prompts)]
    render(recipes, replace(job_of(options, model), batch=1 if options.exact else options.batch, grid=options.grid))
    return 0


def add_machine_flags(parser: argparse.ArgumentParser) -> None:
    """Flags on how pictures are computed."""
    add, dtypes = parser.add_argument, ("auto", "float32", "bfloat16")
    add("--model", metavar="PATH", help="an installed model, or a folder in diffusers' layout (emoji)")
    add("--dtype", choices=dtypes, default="auto", help="of the networks (auto: bfloat16 where it is native)")
    add("--max-rows", type=whole(1), metavar="N", help="most rows of one forward pass, to save memory")
    add("--threads", type=whole(1, 4096), metavar="N", help="of the CPU (all cores in reach)")


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Flags on where pictures go and what is told."""
    add = parser.add_argument
    add("-o", "--output", type=Path, default=Path(), metavar="DIR", help="folder of the pictures (.)")
    add("--force", action="store_true", help="number from 0000 and overwrite, instead of taking free numbers")
    add("--no-metadata", action="store_true", help="write no recipe into the pictures")
    add("--json", action="store_true", help="one JSON object per picture on stdout")
    add("--quiet", action="store_true", help="nothing on stderr but errors")
    add("--debug", action="store_true", help="show tracebacks and all warnings")


def job_of(options: argparse.Namespace, model: Model) -> Job:
    """What the flags of :func:`add_machine_flags` and :func:`add_output_flags` say."""
    return Job(
        model=model,
        folder=options.output,
        max_rows=options.max_rows,
        force=options.force,
        metadata=not options.no_metadata,
        json=options.json,
        quiet=options.quiet,
    )


def _check_prompts(options: argparse.Namespace) -> None:
    for prompt in options.prompts:
        if not prompt.strip():
            raise UsageError("a prompt is empty; say what the picture shows")
    for text in (*options.prompts, options.negative):
        if len(text) > 10_000:
            raise UsageError(f"a prompt has {len(text)} characters; 10000 are allowed")
    last = (options.seed or 0) + len(options.prompts) * options.count - 1
    if last > _HIGHEST_SEED:
        raise UsageError(f"the last picture's seed would be {last}, above {_HIGHEST_SEED}; choose a lower --seed")


def _scheduler(word: str) -> str:
    if word in SAMPLERS or word[:1].isupper():
        return word
    raise argparse.ArgumentTypeError(f"no scheduler '{word}'{did_you_mean(word, SAMPLERS)}")


def check_scheduler(name: str) -> None:
    """See that a capitalised name is one of a class of diffusers; the short names were seen to already.

    Raises:
        UsageError: it is not; the nearest are named.
    """
    if name in SAMPLERS:
        return
    from sfumato.samplers.diffusers_scheduler import class_names

    known = [*SAMPLERS, *class_names()]
    if name not in known:
        raise UsageError(f"--scheduler: no scheduler '{name}'{did_you_mean(name, known)}")
