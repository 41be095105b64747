"""``sfumato generate``: pictures of prompts."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from dataclasses import replace

from sfumato.cli.checks import check_prompts, guidance_of, is_steady
from sfumato.cli.edits import tell_parse
from sfumato.cli.flags import (
    add_like_flags,
    add_machine_flags,
    add_output_flags,
    add_sampling_flags,
    add_seed_flags,
    job_of,
    recipe_of,
)
from sfumato.cli.models import find
from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.progress import note
from sfumato.cli.render import render
from sfumato.cli.sources import Sources
from sfumato.cli.values import existing_file
from sfumato.recipe import Recipe

__all__ = ["add_flags", "add_picture_flags", "planned", "recipes_of", "run"]


def add_flags(parser: Parser) -> None:
    """The flags of ``sfumato generate``."""
    what = "what a picture shows; several make a batch; none with --memory and --like or --unconditional"
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help=what)
    add_seed_flags(parser)
    add_picture_flags(parser)
    parser.epilog = 'example: sfumato generate "a red apple" "a blue bird" --count 4 --grid -o pictures'
    parser.set_defaults(run=run)


def add_picture_flags(parser: Parser) -> None:
    """All flags of ``sfumato generate`` on what one picture is like, without its prompt and seed."""
    add_sampling_flags(parser)
    add_like_flags(parser)
    parser.add_argument("--start", type=existing_file, metavar="FILE", help="begin from a file of sfumato invert")
    add_machine_flags(parser)
    add_output_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Make pictures of prompts."""
    sources = Sources(find(options.model))
    recipes = planned(options, sources)
    batch = 1 if options.exact else options.batch
    render(recipes, job_of(options, sources.model, batch, grid=options.grid), sources)
    return 0


def planned(options: argparse.Namespace, sources: Sources) -> list[Recipe]:
    """The recipes that the flags ask for; ``sources`` gets the files and models that they name.

    Raises:
        UsageError: settings that cannot be.
    """
    start = None if options.start is None else sources.add(options.start)
    shared = replace(recipe_of(options, sources), start=start)
    if start is not None:
        _check_start(options, sources.start(start).steps)
    if not options.prompts and not _needs_no_words(options):
        raise UsageError("something is missing: PROMPT, what the picture shows (see `sfumato generate --help`)")
    return recipes_of(options, shared, options.prompts or [""])


def _check_start(options: argparse.Namespace, steps: int | None) -> None:
    """See that a start of an inversion of so many steps is used as it was made; None: of an unknown number."""
    if options.count > 1 and is_steady(options):
        raise UsageError(
            f"from one --start '{options.scheduler}' makes the same picture whatever the seed; leave out --count, or "
            "choose --scheduler euler_a, which draws noise on the way"
        )
    if options.seed is not None and is_steady(options):
        note(
            f"a start brings its own noise, and '{options.scheduler}' draws none, so --seed does nothing",
            quiet=options.quiet,
        )
    if steps is not None and (options.steps, options.scheduler) != (steps, "ddim"):
        note(
            f"the start is of {steps} steps of 'ddim', and this walks {options.steps} of '{options.scheduler}': the "
            "picture comes back less exactly",
            quiet=options.quiet,
        )


def _needs_no_words(options: argparse.Namespace) -> bool:
    """Whether something else than a prompt says what pictures show."""
    return options.memory is not None and (options.unconditional or options.like is not None)


def recipes_of(options: argparse.Namespace, shared: Recipe, prompts: Sequence[str]) -> list[Recipe]:
    """One recipe a picture: ``--count`` of each prompt, with seeds that count up and guidance one by one.

    Raises:
        UsageError: an empty or endless prompt, a seed too high, or another number of scales than pictures.
    """
    if options.unconditional and any(prompts):
        raise UsageError("--unconditional makes pictures that nobody describes; leave out the prompt, or the flag")
    shown = [prompt for prompt in prompts for _ in range(options.count)]
    check_prompts(options, prompts, len(shown), wordless=list(prompts) == [""] and _needs_no_words(options))
    if options.show_parse:
        tell_parse(shared, prompts, quiet=options.quiet)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    pairs = zip(shown, guidance_of(options, len(shown)), strict=True)
    return [replace(shared, prompt=p, seed=seed + i, guidance=scale) for i, (p, scale) in enumerate(pairs)]
