"""``sfumato rewrite``: a picture of a prompt, and the same picture of the prompt rewritten, side by side."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from sfumato.cli.checks import check_prompts, guidance_of
from sfumato.cli.edits import tell_parse
from sfumato.cli.files import next_index, picture_bytes, save_numbered, slug
from sfumato.cli.flags import add_machine_flags, add_output_flags, add_sampling_flags, add_seed_flags, job_of, recipe_of
from sfumato.cli.models import find
from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.progress import announce, note
from sfumato.cli.render import Job, render
from sfumato.cli.sources import Sources
from sfumato.cli.values import existing_file, number, reweighted
from sfumato.recipe import Recipe

__all__ = ["add_flags", "run"]


def add_flags(parser: Parser) -> None:
    """The flags of ``sfumato rewrite``."""
    add, share = parser.add_argument, number(0, 1)
    add("source", metavar="PROMPT", help="what the picture shows")
    add("targets", nargs="+", metavar="REWRITTEN", help="the prompt with other words, more words or fewer")
    add("--image", type=existing_file, metavar="IMAGE", help="rewrite this picture of the prompt, by its inversion")
    cross, own = Recipe.cross, Recipe.self_attention
    places, shapes = f"share of the path that keeps where words act ({cross})", f"likewise what shapes are like ({own})"
    add("--cross", type=share, default=cross, metavar="S", help=places)
    add("--self", dest="self_attention", type=share, default=own, metavar="S", help=shapes)
    factor = "a phrase that counts for more or less, such as blue:2; repeatable"
    add("--weight", dest="reweight", type=reweighted, action="append", metavar="PHRASE:F", help=factor)
    kept = "keep the picture outside the place of this phrase; repeatable"
    add("--blend", action="append", metavar="PHRASE", help=kept)
    add_seed_flags(parser)
    add_sampling_flags(parser)
    add_machine_flags(parser)
    add_output_flags(parser)
    parser.epilog = 'example: sfumato rewrite "a red car" "a blue car" --seed 3'
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make pictures of a prompt and of its rewrites, and a sheet with one row a seed."""
    sources = Sources(find(options.model))
    recipes = _planned(options, sources)
    prompts = [recipe.shows for recipe in recipes[: len(recipes) // options.count]]
    if options.image is not None:
        from sfumato.core.image import open_picture

        open_picture(options.image)
        if options.seed is not None:
            note("a picture brings its own start, so --seed does nothing", quiet=options.quiet)
        note("the picture is inverted first, which takes as long as making some", quiet=options.quiet)
    together = 1 if options.exact else max(1, options.batch // len(prompts)) * len(prompts)
    job = job_of(options, sources.model, together, grid=options.grid)
    paths = render(recipes, job, sources)
    sheet = _write_sheet(paths, recipes, prompts, job)
    announce(sheet, "rewrite", "side by side", json=job.json, quiet=job.quiet)
    return 0


def _planned(options: argparse.Namespace, sources: Sources) -> list[Recipe]:
    """For each seed the picture of the prompt, which is the one rewritten to itself, and its rewrites."""
    check_prompts(options, [options.source, *options.targets], options.count)
    first = secrets.randbits(32) if options.seed is None else options.seed
    shared = replace(
        recipe_of(options, sources),
        task="rewrite",
        prompt=options.source,
        cross=options.cross,
        self_attention=options.self_attention,
        reweight=tuple(options.reweight or ()),
        blend=tuple(options.blend or ()),
        picture=None if options.image is None else sources.add(options.image),
    )
    if options.show_parse:
        tell_parse(shared, [options.source, *options.targets], quiet=options.quiet)
    scales = guidance_of(options, options.count)
    if options.image is not None:
        _check_inversion(shared, scales)
    source = replace(shared, to_prompt=options.source, reweight=(), blend=())
    others = [prompt for prompt in options.targets if prompt != options.source or options.reweight]
    every = dict.fromkeys([source, *(replace(shared, to_prompt=prompt) for prompt in others)])
    return [
        replace(recipe, seed=first + number, guidance=scales[number])
        for number, recipe in product(range(options.count), every)
    ]


def _check_inversion(recipe: Recipe, scales: Sequence[float]) -> None:
    """Refuse, before a picture is inverted, what cannot go with its inversion."""
    if len(scales) > 1:
        raise UsageError("--image comes back the same whatever the seed; leave out --count")
    if recipe.scheduler != "ddim" or recipe.langevin:
        raise UsageError("--image comes back along 'ddim' alone; leave out --scheduler and --langevin")
    if scales[0] > 1 and (recipe.negative or recipe.guidance_interval != Recipe.guidance_interval):
        raise UsageError(
            "--image is inverted for guidance at every step and without a negative prompt; leave out --negative and "
            "--guidance-interval, or give --guidance 1"
        )


def _write_sheet(paths: Sequence[Path], recipes: Sequence[Recipe], prompts: Sequence[str], job: Job) -> Path:
    import torch

    from sfumato.core.image import from_pictures, open_picture
    from sfumato.core.sheet import table

    images = torch.cat([from_pictures([open_picture(path)]) for path in paths])
    rows = recipes[:: len(prompts)]
    seeds = ["" if recipe.picture else f"seed {recipe.seed}" for recipe in rows]
    name = f"{slug(prompts[0])}-rewrite"
    first = 0 if job.force else next_index(job.folder, name)
    while (job.folder / f"{name}-{first:04d}.png") in paths:
        first += 1
    return save_numbered(picture_bytes(table(images, prompts, seeds), {}), job.folder, name, first, force=job.force)
