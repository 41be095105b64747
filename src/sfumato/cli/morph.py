"""``sfumato morph``: the pictures between two prompts or pictures, as frames or an animation."""

from __future__ import annotations

import argparse
import secrets
from dataclasses import replace
from pathlib import Path

from sfumato.cli.animation import animated, check_mp4
from sfumato.cli.checks import HIGHEST_SEED, check_prompts, guidance_of
from sfumato.cli.files import next_index, save_numbered, slug
from sfumato.cli.flags import add_machine_flags, add_output_flags, add_sampling_flags, job_of, recipe_of
from sfumato.cli.models import find
from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.progress import say
from sfumato.cli.render import render
from sfumato.cli.sources import Sources
from sfumato.cli.values import number, picture_or_words, size, whole
from sfumato.given import Given

__all__ = ["add_flags", "run"]


def add_flags(parser: Parser) -> None:
    """The flags of ``sfumato morph``."""
    add = parser.add_argument
    for name in ("first", "second"):
        add(name, type=picture_or_words, metavar=name.upper(), help="a prompt, or the file of a picture")
    add("--prompts", nargs=2, metavar="TEXT", help="what the two pictures show, if they are files")
    add("--frames", type=whole(2, 10_000), default=24, metavar="N", help="pictures, both ends included (24)")
    add("--fps", type=number(0.1, 100), default=12.0, metavar="N", help="pictures a second (12)")
    add("--as", dest="kind", choices=("gif", "mp4", "frames"), default="gif", help="beside the frames (gif)")
    add("--seed", type=whole(0, HIGHEST_SEED), metavar="N", help="of the first end (drawn)")
    add("--to-seed", type=whole(0, HIGHEST_SEED), metavar="N", help="of the second end (that of the first)")
    add("--size", type=size, metavar="WxH", help="pixels; the model's own size if not given")
    add("--batch", type=whole(1, 10_000), default=8, metavar="N", help="pictures that are made together (8)")
    add_sampling_flags(parser)
    add_machine_flags(parser)
    add_output_flags(parser)
    parser.epilog = 'example: sfumato morph "a red apple" "a blue bird" --frames 24 --seed 3'
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make the pictures between two ends."""
    if options.structure or options.show_parse or options.paint or options.region or options.excite:
        raise UsageError(
            "between two prompts there are no words whose attention could be edited; leave out --structure, "
            "--show-parse, --paint, --region and --excite"
        )
    if options.clip_guidance or options.memory:
        raise UsageError(
            "--clip-guidance pulls to one prompt and --memory finds the neighbours of one, and a morph lies between "
            "two; leave them out"
        )
    sources = Sources(find(options.model))
    ends = [_end(word, sources) for word in (options.first, options.second)]
    if options.prompts and not any(given for _, given in ends):
        raise UsageError("--prompts says what pictures show, and both ends are prompts already; leave it out")
    prompts = options.prompts or [prompt for prompt, _ in ends]
    check_prompts(options, [prompt or "a picture" for prompt in prompts], 1)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    recipe = replace(
        recipe_of(options, sources),
        task="morph",
        prompt=prompts[0],
        to_prompt=prompts[1],
        seed=seed,
        to_seed=seed if options.to_seed is None else options.to_seed,
        picture=ends[0][1],
        to_picture=ends[1][1],
    )
    if any(given and prompt for (_, given), prompt in zip(ends, prompts, strict=True)) and max(options.guidance) > 1:
        say("sfumato: note: guidance leads away from a given picture; --guidance 1 keeps it", quiet=options.quiet)
    last = options.frames - 1
    scales = guidance_of(options, options.frames)
    recipes = [replace(recipe, share=index / last, guidance=scales[index]) for index in range(options.frames)]
    words = [Path(given.name).stem if given else prompt for prompt, given in ends]
    job = replace(job_of(options, sources.model, options.batch), name=slug(f"{words[0]} to {words[1]}"))
    if options.kind == "mp4":
        check_mp4()
    paths = render(recipes, job, sources)
    if options.kind != "frames":
        first = 0 if options.force else next_index(job.folder, job.name, options.kind)
        content = animated(paths, options.kind, options.fps)
        path = save_numbered(content, job.folder, job.name, first, force=job.force, suffix=options.kind)
        say(f"{path} ({len(paths)} frames)", quiet=job.quiet)
    return 0


def _end(word: Path | str, sources: Sources) -> tuple[str, Given | None]:
    """Prompt and picture of an end."""
    return ("", sources.add(word)) if isinstance(word, Path) else (word, None)
