"""``sfumato redraw``: a picture drawn anew after a prompt, by SDEdit."""

from __future__ import annotations

import argparse
from dataclasses import replace

from sfumato.cli.flags import (
    add_like_flags,
    add_machine_flags,
    add_output_flags,
    add_sampling_flags,
    add_seed_flags,
    job_of,
    recipe_of,
)
from sfumato.cli.generate import recipes_of
from sfumato.cli.models import find
from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.render import render
from sfumato.cli.sources import Sources
from sfumato.cli.values import existing_file, number, whole
from sfumato.recipe import Recipe

__all__ = ["add_edit_flags", "add_flags", "render_edits", "run"]


def add_flags(parser: Parser) -> None:
    """The flags of ``sfumato redraw``."""
    add_edit_flags(parser)
    strength = number(1e-6, 1)
    parser.add_argument(
        "--strength", type=strength, default=0.6, metavar="S", help="share of the path that is drawn anew (0.6)"
    )
    repeats = "redraw N times, each time what the last one left (1)"
    parser.add_argument("--repeats", type=whole(1, 100), default=1, metavar="N", help=repeats)
    parser.add_argument(
        "--mask", type=existing_file, metavar="IMAGE", help="white where it is redrawn; everywhere if not given"
    )
    parser.add_argument("--paste", action="store_true", help="put what the mask keeps back at the end, exactly")
    parser.epilog = 'example: sfumato redraw strokes.png "a red apple" --strength 0.7 --count 4 --grid'
    parser.set_defaults(run=run)


def add_edit_flags(parser: Parser, *more: tuple[str, str]) -> None:
    """A picture, further files, prompts, and the flags of ``sfumato generate`` that go with them.

    Args:
        parser: gets them.
        more: name and help of each further file.
    """
    for name, text in (("image", "PNG, JPEG or WebP; its middle is cut out"), *more):
        parser.add_argument(name, type=existing_file, metavar=name.upper(), help=text)
    parser.add_argument("prompts", nargs="+", metavar="PROMPT", help="what the whole picture shall show")
    add_seed_flags(parser)
    add_sampling_flags(parser)
    add_like_flags(parser)
    add_machine_flags(parser)
    add_output_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Redraw a picture."""
    if options.paste and options.mask is None:
        raise UsageError("--paste puts back what --mask keeps, and there is no --mask: all of the picture is redrawn")
    sources = Sources(find(options.model))
    mask = None if options.mask is None else sources.add(options.mask)
    recipe = replace(
        recipe_of(options, sources),
        task="redraw",
        strength=options.strength,
        repeats=options.repeats,
        mask=mask,
        paste=options.paste,
    )
    return render_edits(options, recipe, sources)


def render_edits(options: argparse.Namespace, recipe: Recipe, sources: Sources) -> int:
    """Render a recipe of ``options.image`` for each prompt and seed.

    Raises:
        PictureError: a file is no picture.
        UsageError: prompts, seeds or guidance that cannot be.
    """
    recipe = replace(recipe, picture=sources.add(options.image))
    recipes = recipes_of(options, recipe, options.prompts)
    _check_pictures(options)
    batch = 1 if options.exact else options.batch
    render(recipes, job_of(options, sources.model, batch, grid=options.grid), sources)
    return 0


def _check_pictures(options: argparse.Namespace) -> None:
    """Read the pictures before a model is loaded for them."""
    from sfumato.core.image import open_picture

    for path in (options.image, getattr(options, "mask", None), options.like):
        if path is not None:
            open_picture(path)
