"""Checks of what was typed that look at several flags at once: prompts, seeds, scales, and flags without an effect."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial

from sfumato.a1111 import SAMPLERS
from sfumato.cli.parser import UsageError
from sfumato.cli.progress import note
from sfumato.cli.words import did_you_mean
from sfumato.recipe import Recipe

__all__ = [
    "BATCH",
    "HIGHEST_SEED",
    "check_idle",
    "check_prompts",
    "check_scheduler",
    "check_texts",
    "guidance_of",
    "is_steady",
]

HIGHEST_SEED, BATCH = 2**64 - 1, 8
_ONLY_WITH: Mapping[str, tuple[str, ...]] = {
    "clip_form": ("clip_guidance",),
    "like_scale": ("like",),
    "like_until": ("like",),
    "paint_strength": ("paint",),
    "parser": ("structure", "show_parse"),
    "region_share": ("region",),
}
"""Flags that say how another one acts, by their names in a recipe."""
_STEADY = ("ddim", "dpmpp_2m", "euler", "heun", "unipc")
"""Schedulers that draw nothing on the way."""


def guidance_of(options: argparse.Namespace, count: int) -> Sequence[float]:
    """The guidance scale of each of ``count`` pictures.

    Raises:
        UsageError: neither one scale nor as many as pictures.
    """
    scales = options.guidance
    if len(scales) not in (1, count):
        raise UsageError(f"--guidance has {len(scales)} scales for {count} pictures; give one, or one a picture")
    return scales if len(scales) == count else scales * count


def check_prompts(options: argparse.Namespace, prompts: Sequence[str], count: int, *, wordless: bool = False) -> None:
    """See that prompts are there and not endless, and that the last seed exists.

    Args:
        options: with the first seed, which may be None.
        prompts: what pictures show.
        count: number of pictures, one seed each.
        wordless: whether something else says what pictures show.

    Raises:
        UsageError: they are not.
    """
    if not wordless and not all(prompt.strip() for prompt in prompts):
        raise UsageError("a prompt is empty; say what the picture shows")
    check_texts(*prompts)
    last = (options.seed or 0) + count - 1
    if last > HIGHEST_SEED:
        raise UsageError(f"the last picture's seed would be {last}, above {HIGHEST_SEED}; choose a lower --seed")


def check_idle(options: argparse.Namespace) -> None:
    """Tell which flags have no effect beside the others.

    Raises:
        UsageError: attention shall be shown where there is none.
    """
    if getattr(options, "show_attention", False) and 0 in options.guidance:
        raise UsageError("--show-attention shows where the prompt looked, and with --guidance 0 it is not asked")
    for reason, flag in _idle(options):
        note(f"{reason} --{flag.replace('_', '-')} does nothing", quiet=options.quiet)


def _idle(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Why flags have no effect beside the others, and which ones, by their names."""
    on, given = partial(_is_on, options), vars(options)
    unguided, unmixed = set(options.guidance) == {1.0}, not options.pag
    without, unweighted = "without guidance (--guidance 1)", "with --guidance 0"
    off = set(options.guidance) == {0.0} and not on("guidance_interval")
    wanted = {weight > 0 for _, weight in options.concepts or ()}
    rows = [
        (unguided and not wanted and on("negative"), without, "negative"),
        (unguided and not wanted and unmixed and on("rescale"), without, "rescale"),
        (unguided and not wanted and unmixed and on("apg"), without, "apg"),
        (unguided and unmixed and on("guidance_interval"), without, "guidance_interval"),
        (off and True in wanted, unweighted, "and"),
        (off and False in wanted, unweighted, "not"),
        (given.get("exact", False) and options.batch != BATCH, "with --exact", "batch"),
    ]
    if options.memory is None:
        rows.append((on("like") and options.like_until == 0, "with --like-until 0", "like"))
    else:
        rows += [(on(flag), "with --memory, whose query --like is,", flag) for flag in ("like_scale", "like_until")]
    for flag, asked in _ONLY_WITH.items():
        rows.append((on(flag) and not any(map(on, asked)), f"without --{asked[0].replace('_', '-')}", flag))
    return [(reason, flag) for holds, reason, flag in rows if holds]


def _is_on(options: argparse.Namespace, flag: str) -> bool:
    """Whether a flag is there and not at the default of its field in a recipe."""
    value = getattr(options, flag, None)
    return value is not False and value not in (None, getattr(Recipe, flag, None))


def is_steady(options: argparse.Namespace) -> bool:
    """Whether pictures follow from where they begin: nothing is drawn from the seed on the way."""
    return options.scheduler in _STEADY and not (options.langevin or options.pool or options.unconditional)


def check_texts(*texts: str) -> None:
    """See that prompts are text, and not endless.

    Raises:
        UsageError: they are not.
    """
    for text in texts:
        if not text.isascii() and text != text.encode(errors="replace").decode():
            raise UsageError("a prompt holds bytes that are no text in UTF-8")
        if len(text) > 10_000:
            raise UsageError(f"a prompt has {len(text)} characters; 10000 are allowed")


def check_scheduler(name: str) -> None:
    """See that a capitalised name is one of a class of diffusers; the short names were seen to already.

    Raises:
        UsageError: it is not; the message names what is near.
    """
    if name in SAMPLERS:
        return
    from sfumato.samplers.diffusers_scheduler import class_names

    known = [*SAMPLERS, *class_names()]
    if name not in known:
        raise UsageError(f"--scheduler: no scheduler '{name}'{did_you_mean(name, known)}")
