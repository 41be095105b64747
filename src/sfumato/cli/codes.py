"""Pictures of a model that draws codes one after the other: the flags, what it follows of a recipe, and the making."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from sfumato.cli.models import Model
from sfumato.cli.parser import UsageError
from sfumato.cli.progress import Advance
from sfumato.cli.recall import context_of
from sfumato.cli.sources import Sources
from sfumato.cli.values import number, whole
from sfumato.recipe import MOST_STEPS, Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.checkpoints.rarm import RarmParts

__all__ = ["add_code_flags", "check_denoiser", "draw", "load_codes", "told"]

_SCHEDULER = "codes"
_CODES = ("temperature", "top_k", "top_p")
_FOLLOWED = {
    *("prompt", "seed", "model", "fingerprint", "guidance", "width", "height", "dtype", "batch", "threads", "version"),
    *("recall", *_CODES),
}
_FLAGS = {"concepts": "and, --not", "experts": "expert", "regions": "region"}


def add_code_flags(parser: argparse.ArgumentParser) -> None:
    """Flags on how codes are drawn."""
    add = parser.add_argument_group("codes, for a model of `sfumato train rarm`").add_argument
    temperature, top_p = "of the draw; 0 takes the likeliest code (1)", "only the fewest codes that are likely by P (1)"
    add("--temperature", type=number(0, 1000), default=Recipe.temperature, metavar="T", help=temperature)
    add("--top-k", type=whole(1, 1_000_000), metavar="N", help="only the likeliest N codes (all)")
    add("--top-p", type=number(1e-9, 1), default=Recipe.top_p, metavar="P", help=top_p)


def load_codes(model: Model, recipe: Recipe) -> RarmParts:
    """Load a model that draws codes, after setting the number of threads, if it can follow a recipe.

    Raises:
        UsageError: the recipe asks for what only a denoiser does, or for another size.
        CheckpointError: the model is broken, unsafe or of an unknown kind.
    """
    import torch

    from sfumato.checkpoints.rarm import load_rarm

    if recipe.scheduler == _SCHEDULER:
        recipe = replace(recipe, scheduler=Recipe.scheduler, steps=Recipe.steps)
    for name in sorted(_changed(recipe) - _FOLLOWED):
        what = f"sfumato {recipe.task}" if name == "task" else f"--{_FLAGS.get(name, name.replace('_', '-'))}"
        raise UsageError(f"the model '{model.name}' draws codes and denoises nothing, so {what} means nothing to it")
    if recipe.recall is None:
        raise UsageError(f"the model '{model.name}' draws from neighbours alone; give it some by --memory")
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    parts = load_rarm(model.folder, getattr(torch, recipe.dtype))
    height, width = parts.size
    if (recipe.height or height, recipe.width or width) != parts.size:
        raise UsageError(f"the model '{model.name}' makes pictures of {width}x{height} alone; leave out --size")
    return parts


def told(recipe: Recipe, parts: RarmParts) -> Recipe:
    """A recipe that says how its picture is drawn: the scheduler "codes", and as many steps as there are codes."""
    return replace(recipe, scheduler=_SCHEDULER, steps=parts.rarm.length)


def check_denoiser(recipe: Recipe) -> None:
    """See that a recipe is one that a denoiser can follow.

    Raises:
        UsageError: it asks for codes, or for more than ``MOST_STEPS``.
    """
    if recipe.scheduler == _SCHEDULER:
        raise UsageError("the picture was drawn code by code; give a model of `sfumato train rarm` by --model")
    if recipe.steps > MOST_STEPS:
        raise UsageError(f"a recipe of {recipe.steps} steps is not followed; at most {MOST_STEPS} are")
    for name in sorted(_changed(recipe).intersection(_CODES)):
        raise UsageError(f"--{name.replace('_', '-')} is for a model of `sfumato train rarm`, which draws codes")


def draw(parts: RarmParts, batch: Sequence[Recipe], sources: Sources, advance: Advance) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] of recipes that differ in prompt, seed and guidance only.

    Args:
        parts: of the model.
        batch: B recipes with the names of their neighbours.
        sources: has the memory and what they name.
        advance: told of each code.

    Raises:
        UsageError: a query that means nothing without words.
    """
    from sfumato.flows.rarm import Drawing, rarm

    first, vectors = batch[0], context_of(parts, batch, sources)
    if vectors is None or first.recall is None or first.recall.mode == "and":
        raise UsageError("--mode and composes words with neighbours, and the model reads no words")
    return rarm(
        parts,
        vectors,
        seeds=[recipe.seed for recipe in batch],
        guidance=[recipe.guidance for recipe in batch],
        drawing=Drawing(first.temperature, first.top_k, first.top_p),
        watch=advance,
    )


def _changed(recipe: Recipe) -> set[str]:
    """The fields that are not as in a recipe of a prompt and a seed alone."""
    plain = Recipe(recipe.prompt, recipe.seed)
    return {field.name for field in fields(Recipe) if getattr(recipe, field.name) != getattr(plain, field.name)}
