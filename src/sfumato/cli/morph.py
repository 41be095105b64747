"""``sfumato morph``: the pictures between two prompts or pictures, as frames or an animation."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sfumato.cli.animation import animated, check_mp4
from sfumato.cli.checks import BATCH, HIGHEST_SEED, check_prompts, check_texts, guidance_of, is_steady
from sfumato.cli.files import next_index, save_numbered, slug
from sfumato.cli.flags import add_machine_flags, add_output_flags, add_sampling_flags, job_of, recipe_of
from sfumato.cli.models import find
from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.progress import announce, note
from sfumato.cli.render import render
from sfumato.cli.sources import Sources
from sfumato.cli.values import number, picture_or_words, size, whole
from sfumato.given import Given

__all__ = ["add_flags", "run"]

_FPS = 12.0
_OF_ONE_PROMPT = (
    *("structure", "parser", "show-parse", "paint", "paint-strength", "region", "region-share", "excite"),
    *("clip-guidance", "clip-form", "memory", "neighbours", "mode", "pool", "unconditional", "top-m"),
    *("uniform", "null", "show-neighbours", "temperature", "top-k", "top-p"),
)
"""Flags that a morph refuses, since they speak of words or of one prompt, or of a model that draws codes."""


def add_flags(parser: Parser) -> None:
    """The flags of ``sfumato morph``."""
    add = parser.add_argument
    for name in ("first", "second"):
        add(name, type=picture_or_words, metavar=name.upper(), help="a prompt, or the file of a picture")
    add("--prompts", nargs="+", metavar="TEXT", help="what each end shows that is the file of a picture")
    add("--frames", type=whole(2, 10_000), default=24, metavar="N", help="pictures, both ends included (24)")
    add("--fps", type=number(0.1, 100), default=_FPS, metavar="N", help="pictures a second (12)")
    add("--as", dest="kind", choices=("gif", "mp4", "frames"), default="gif", help="beside the frames (gif)")
    add("--seed", type=whole(0, HIGHEST_SEED), metavar="N", help="of the first end (drawn)")
    add("--to-seed", type=whole(0, HIGHEST_SEED), metavar="N", help="of the second end (that of the first)")
    add("--size", type=size, metavar="WxH", help="pixels; the model's own size if not given")
    add("--batch", type=whole(1, 10_000), default=BATCH, metavar="N", help="pictures that are made together (8)")
    add_sampling_flags(parser)
    add_machine_flags(parser)
    add_output_flags(parser)
    parser.hide(*_OF_ONE_PROMPT)
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
    prompts = _prompts(options, ends)
    _tell_idle(options, ends)
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
        note("guidance leads away from a given picture; --guidance 1 keeps it", quiet=options.quiet)
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
        announce(path, options.kind, f"{len(paths)} frames", json=job.json, quiet=job.quiet)
    return 0


def _prompts(options: argparse.Namespace, ends: Sequence[tuple[str, Given | None]]) -> list[str]:
    """What both ends show: the words that were typed, and of pictures what ``--prompts`` says, or "".

    Raises:
        UsageError: an empty or endless prompt, or another number of texts than pictures.
    """
    texts, pictures = options.prompts or [], sum(given is not None for _, given in ends)
    if texts and not pictures:
        raise UsageError("--prompts says what pictures show, and both ends are prompts already; leave it out")
    if texts and len(texts) != pictures:
        raise UsageError(f"--prompts has {len(texts)} texts and {pictures} of the ends are pictures; give one for each")
    check_prompts(options, [words for words, given in ends if given is None], 1)
    check_texts(*texts)
    told = iter(texts or [""] * pictures)
    return [words if given is None else next(told) for words, given in ends]


def _tell_idle(options: argparse.Namespace, ends: Sequence[tuple[str, Given | None]]) -> None:
    """Tell which flags of a morph have no effect beside the others."""
    if options.kind == "frames" and options.fps != _FPS:
        note("frames have no rate, so --fps does nothing; --as gif or mp4 has one", quiet=options.quiet)
    seeded = [given is None or not is_steady(options) for _, given in ends]
    for flag, seed, acts in (("seed", options.seed, any(seeded)), ("to-seed", options.to_seed, ends[1][1] is None)):
        if seed is not None and not acts:
            note(f"a picture brings its own start, so --{flag} does nothing", quiet=options.quiet)


def _end(word: Path | str, sources: Sources) -> tuple[str, Given | None]:
    """Prompt and picture of an end."""
    return ("", sources.add(word)) if isinstance(word, Path) else (word, None)
