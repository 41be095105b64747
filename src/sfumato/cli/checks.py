"""Checks of what was typed that look at several flags at once: prompts, seeds, scales, and flags without an effect."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from sfumato.a1111 import SAMPLERS
from sfumato.cli.parser import UsageError
from sfumato.cli.progress import say
from sfumato.cli.words import did_you_mean
from sfumato.recipe import Recipe

__all__ = ["HIGHEST_SEED", "check_idle", "check_prompts", "check_scheduler", "check_texts", "guidance_of"]

HIGHEST_SEED = 2**64 - 1
_ONLY_WITH: Mapping[str, tuple[str, ...]] = {
    "clip_form": ("clip_guidance",),
    "like_scale": ("like",),
    "like_until": ("like",),
    "paint_strength": ("paint",),
    "parser": ("structure", "show_parse"),
    "region_share": ("region",),
}
"""Flags that say how another one acts, by their names in a recipe."""


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
    if options.negative and set(options.guidance) == {1.0} and not options.concepts:
        say("sfumato: note: without guidance (--guidance 1) --negative does nothing", quiet=options.quiet)
    given = vars(options)
    for flag, asked in _ONLY_WITH.items():
        unasked = getattr(Recipe, flag)
        if given.get(flag, unasked) != unasked and not any(given.get(each) for each in asked):
            idle, missing = flag.replace("_", "-"), asked[0].replace("_", "-")
            say(f"sfumato: note: without --{missing} --{idle} does nothing", quiet=options.quiet)


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
