"""Flags that several commands share, and what they say as a recipe and a job."""

from __future__ import annotations

import argparse
from pathlib import Path

from sfumato.a1111 import SAMPLERS
from sfumato.cli.checks import BATCH, HIGHEST_SEED, check_idle, check_scheduler, check_texts
from sfumato.cli.codes import add_code_flags
from sfumato.cli.models import Model, find
from sfumato.cli.parser import UsageError
from sfumato.cli.recall import add_memory_flags, recall_of
from sfumato.cli.render import Job
from sfumato.cli.sources import Sources
from sfumato.cli.values import (
    existing_file,
    expert,
    interval,
    number,
    numbers,
    painted,
    path,
    region,
    size,
    threshold,
    wanted_class,
    weighted_prompt,
    whole,
)
from sfumato.cli.words import did_you_mean
from sfumato.given import Box, Given
from sfumato.machine import best_dtype, usable_threads
from sfumato.recipe import MOST_STEPS, PARSERS, Recipe

__all__ = [
    "add_like_flags",
    "add_machine_flags",
    "add_output_flags",
    "add_sampling_flags",
    "add_seed_flags",
    "add_steering_flags",
    "add_word_flags",
    "job_of",
    "recipe_of",
]

_SCHEDULERS = f"{', '.join(SAMPLERS)}, or a scheduler class of diffusers (ddim)"
_INTERVAL = "shares of the path between which guidance acts; 0 is pure noise (0:1)"


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """Flags on how pictures are sampled and steered."""
    add = parser.add_argument_group("sampling").add_argument
    add("--negative", default="", metavar="TEXT", help="what the pictures move away from")
    add("--steps", type=whole(1, MOST_STEPS), default=Recipe.steps, metavar="N", help="sampling steps (20)")
    add("--scheduler", type=_scheduler, default=Recipe.scheduler, metavar="NAME", help=_SCHEDULERS)
    one = (Recipe.guidance,)
    add("--guidance", type=numbers(0, 1000), default=one, metavar="W", help="scale, or W,W one a picture; 1 is off (4)")
    add("--guidance-interval", type=interval, default=Recipe.guidance_interval, metavar="LOW:HIGH", help=_INTERVAL)
    add("--rescale", type=number(0, 1), default=0.0, metavar="S", help="tames the contrast of strong guidance (0)")
    add_steering_flags(parser)
    add_word_flags(parser)
    add_memory_flags(parser)
    add_code_flags(parser)


def add_steering_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of the ways of steering beyond classifier-free guidance, all off if not given."""
    add = parser.add_argument_group("ways of steering, all off if not given").add_argument
    scale = number(0, 1000)
    wanted = "another prompt to show, W times guidance; repeatable"
    unwanted = "a prompt to leave out, W times guidance; repeatable"
    classes = "follow the model's classifier (concept, style, colour); repeatable"
    form = "encoder of noised x, or of clean pictures through the estimate (noised)"
    add("--and", dest="concepts", type=weighted_prompt(1), action="append", metavar="TEXT:W", help=wanted)
    add("--not", dest="concepts", type=weighted_prompt(-1), action="append", metavar="TEXT:W", help=unwanted)
    add("--pag", type=scale, default=0.0, metavar="W", help="perturbed-attention guidance (0)")
    add("--apg", type=number(0, 1), metavar="S", help="projected guidance: share kept along x0; the paper's is 0")
    add("--classifier", type=wanted_class, action="append", metavar="HEAD=WORD:W", help=classes)
    add("--clip-guidance", type=scale, default=0.0, metavar="W", help="follow the likeness of picture and prompt (0)")
    add("--clip-form", choices=("noised", "estimate"), default="noised", help=form)
    add("--threshold", type=threshold, metavar="KIND", help="static or dynamic:0.995; for models of pixels")
    add("--expert", type=expert, action="append", metavar="PATH@A-B", help="another model for a share of the path")
    add("--langevin", type=whole(0, 100), default=0, metavar="N", help="Langevin steps after each step (0)")


def add_word_flags(parser: argparse.ArgumentParser) -> None:
    """Flags on the attention that words of the prompt get, all off if not given."""
    add = parser.add_argument_group("words and their places, all off if not given").add_argument
    kinds = ("phrases", "scene-graph", "conjunction")
    structure = "bind adjectives to their nouns, by encoding phrases alone too; phrases if no kind is named"
    parsers = "what finds the phrases; all but rules need a package of their own (rules)"
    where = "in a mask's white, or LEFT,TOP,RIGHT,BOTTOM in pixels; repeatable"
    paint = f"where a phrase of the prompt shall be, W times as strong (1): {where}"
    excite = "a phrase of the prompt that shall not be overlooked; repeatable"
    add("--structure", choices=kinds, nargs="?", const="phrases", default="", help=structure)
    add("--parser", choices=PARSERS, default=Recipe.parser, help=parsers)
    add("--show-parse", action="store_true", help="say which phrases are found")
    add("--paint", type=painted, action="append", metavar="PHRASE=WHERE:W", help=paint)
    strength = Recipe.paint_strength
    add("--paint-strength", type=number(0, 1000), default=strength, metavar="S", help=f"of all paint ({strength:g})")
    add("--region", type=region, action="append", metavar="PROMPT=WHERE", help=f"a prompt for a part: {where}")
    share = Recipe.region_share
    add("--region-share", type=number(0, 1), default=share, metavar="S", help=f"of its prompt in a part ({share:g})")
    add("--excite", action="append", metavar="PHRASE", help=excite)


def add_like_flags(parser: argparse.ArgumentParser) -> None:
    """Flags on a picture whose coarse shapes are followed."""
    query = "with --memory: the picture that is asked for"
    add = parser.add_argument_group("a picture to follow").add_argument
    add("--like", type=existing_file, metavar="IMAGE", help=f"follow a picture's coarse shapes and colours; {query}")
    add("--like-scale", type=whole(1, 4096), default=16, metavar="PX", help="side of the blocks that are followed (16)")
    add("--like-until", type=number(0, 1), default=0.8, metavar="S", help="share of the path that follows it (0.8)")


def add_seed_flags(parser: argparse.ArgumentParser) -> None:
    """Flags on which pictures and how many."""
    add = parser.add_argument_group("which pictures").add_argument
    add("--count", type=whole(1, 10_000), default=1, metavar="N", help="pictures of each prompt (1)")
    add("--seed", type=whole(0, HIGHEST_SEED), metavar="N", help="of the first picture, N+1 of the next (drawn)")
    add("--size", type=size, metavar="WxH", help="pixels; the model's own size if not given")
    add("--grid", action="store_true", help="also write a contact sheet")
    add("--show-attention", action="store_true", help="also write a sheet a picture of where each word acted")
    add("--exact", action="store_true", help="one by one, each bit for bit what it is alone")
    add("--batch", type=whole(1, 10_000), default=BATCH, metavar="N", help="pictures that are made together (8)")


def add_machine_flags(parser: argparse.ArgumentParser) -> None:
    """Flags on how pictures are computed."""
    add = parser.add_argument_group("model and machine").add_argument
    dtypes = ("auto", "float32", "bfloat16")
    add("--model", metavar="PATH", help="an installed model, or a folder in diffusers' layout (emoji)")
    add("--dtype", choices=dtypes, default="auto", help="of the networks (auto: bfloat16 where it is native)")
    rows = "most rows of one forward pass, to save memory; the same picture to rounding"
    add("--max-rows", type=whole(1), metavar="N", help=rows)
    add("--threads", type=whole(1, 4096), metavar="N", help="of the CPU (all cores in reach)")


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    """Flags on where pictures go and what is told."""
    add = parser.add_argument_group("files and messages").add_argument
    add("-o", "--output", type=path, default=Path(), metavar="DIR", help="folder of the pictures (.)")
    add("--force", action="store_true", help="number from 0000 and overwrite, instead of taking free numbers")
    add("--no-metadata", action="store_true", help="write no recipe into the pictures")
    add("--json", action="store_true", help="JSON objects on stdout, one a file")
    add("--quiet", action="store_true", help="nothing on stderr but errors")
    add("--debug", action="store_true", help="show tracebacks and all warnings")


def job_of(options: argparse.Namespace, model: Model, batch: int = 1, *, grid: bool = False) -> Job:
    """What the flags of :func:`add_machine_flags` and :func:`add_output_flags` say."""
    return Job(
        model=model,
        folder=options.output,
        batch=batch,
        max_rows=options.max_rows,
        force=options.force,
        metadata=not options.no_metadata,
        grid=grid,
        attention=getattr(options, "show_attention", False),
        neighbours=getattr(options, "show_neighbours", False),
        json=options.json,
        quiet=options.quiet,
    )


def recipe_of(options: argparse.Namespace, sources: Sources) -> Recipe:
    """What the flags on sampling, following, size and machine say, for a picture of no prompt.

    Args:
        options: of a command with :func:`add_sampling_flags` and :func:`add_machine_flags`.
        sources: gets the files and models that they name.

    Raises:
        UsageError: an unknown scheduler, an endless prompt, no such model, or flags that do not go together.
    """
    if options.structure == "conjunction" and options.region:
        raise UsageError(
            "--structure conjunction and --region each add texts to what the picture looks at, and there is room for "
            "one of them; leave one out"
        )
    check_scheduler(options.scheduler)
    check_texts(options.negative, *(prompt for prompt, _ in options.concepts or ()))
    check_idle(options)
    width, height = getattr(options, "size", None) or (None, None)
    like, recall = getattr(options, "like", None), recall_of(options, sources)
    like = like if recall is None else None
    followed = {} if like is None else {"like_scale": options.like_scale, "like_until": options.like_until}
    return Recipe(
        prompt="",
        seed=0,
        negative=options.negative,
        steps=options.steps,
        scheduler=options.scheduler,
        guidance=options.guidance[0],
        guidance_interval=options.guidance_interval,
        rescale=options.rescale,
        width=width,
        height=height,
        dtype=best_dtype() if options.dtype == "auto" else options.dtype,
        threads=options.threads or usable_threads(),
        concepts=tuple(options.concepts or ()),
        pag=options.pag,
        apg=options.apg,
        threshold=options.threshold or "",
        classifier=tuple(options.classifier or ()),
        clip_guidance=options.clip_guidance,
        clip_form=options.clip_form,
        experts=tuple((sources.add_model(find(name)), start, stop) for name, start, stop in options.expert or ()),
        langevin=options.langevin,
        structure=options.structure,
        parser=options.parser,
        paint=tuple((phrase, _placed(where, sources), weight) for phrase, where, weight in options.paint or ()),
        paint_strength=options.paint_strength,
        regions=tuple((prompt, _placed(where, sources)) for prompt, where in options.region or ()),
        region_share=options.region_share,
        excite=tuple(options.excite or ()),
        recall=recall,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        like=None if like is None else sources.add(like),
        **followed,
    )


def _placed(where: Path | Box, sources: Sources) -> Given | Box:
    return sources.add(where) if isinstance(where, Path) else where


def _scheduler(word: str) -> str:
    if word in SAMPLERS or word[:1].isupper():
        return word
    raise argparse.ArgumentTypeError(f"no scheduler '{word}'{did_you_mean(word, SAMPLERS)}")
