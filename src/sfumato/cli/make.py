"""From recipes to images: what each setting of a recipe means to the flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sfumato.cli.parser import UsageError
from sfumato.cli.progress import Advance
from sfumato.cli.sources import Sources
from sfumato.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.checkpoints.parts import Parts
    from sfumato.core.sample import Record
    from sfumato.flows.invert import Inverted
    from sfumato.flows.morph import End
    from sfumato.flows.steering import Steering
    from sfumato.flows.walk import Walk

__all__ = ["asked_of", "followed", "make", "steering_of", "steps_of"]

_STRETCH = 2


def steps_of(recipe: Recipe) -> int:
    """Steps that a recipe walks."""
    from sfumato.core.path import bumps, suffix

    path = list(range(recipe.steps + 1))
    if recipe.task == "redraw":
        path = suffix(path, recipe.strength)
    if recipe.task in ("inpaint", "outpaint"):
        path = bumps(path, _STRETCH, recipe.repaint)
    return len(path) - 1


def make(parts: Parts, batch: Sequence[Recipe], sources: Sources, advance: Advance) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] of recipes that differ in prompt, seed, guidance and share only.

    Args:
        parts: of the model.
        batch: B recipes with a size.
        sources: has the files and models that they name.
        advance: told of each step.

    Raises:
        UsageError: the model lacks a part that a setting needs, or settings that do not fit together.
        ValueError: a setting that the model cannot follow.
    """

    def watch(_: Record) -> None:
        advance()

    if batch[0].task == "morph":
        return _morph(parts, batch, sources, watch)
    if batch[0].task == "generate":
        return _generate(parts, batch, sources, watch)
    if batch[0].task == "redraw":
        return _redraw(parts, batch, sources, watch)
    return _inpaint(parts, batch, sources, watch)


def _generate(parts: Parts, batch: Sequence[Recipe], sources: Sources, watch: Callable[[Record], None]) -> Tensor:
    from sfumato.flows.text_to_image import text_to_image

    inverted = None if batch[0].start is None else sources.start(batch[0].start)
    return text_to_image(
        parts,
        [recipe.prompt for recipe in batch],
        seeds=[recipe.seed for recipe in batch],
        size=_size(batch[0]),
        steer=steering_of(parts, batch, sources, inverted),
        walk=_walk(batch[0], sources, inverted),
        watch=watch,
    )


def _redraw(parts: Parts, batch: Sequence[Recipe], sources: Sources, watch: Callable[[Record], None]) -> Tensor:
    from sfumato.flows.redraw import Redraw, redraw

    first = batch[0]
    assert first.picture is not None
    mask = None if first.mask is None else sources.mask(first.mask, first.picture, _size(first))
    return redraw(
        parts,
        Redraw(sources.image(first.picture, _size(first)), first.strength, mask),
        [recipe.prompt for recipe in batch],
        seeds=[recipe.seed for recipe in batch],
        steer=steering_of(parts, batch, sources),
        walk=_walk(first, sources),
        watch=watch,
    )


def _inpaint(parts: Parts, batch: Sequence[Recipe], sources: Sources, watch: Callable[[Record], None]) -> Tensor:
    from sfumato.flows.inpaint import Inpaint, extended, inpaint

    first = batch[0]
    assert first.picture is not None
    image = sources.image(first.picture, _size(first))
    if first.mask is None:
        image, mask = extended(image, *first.border)
    else:
        mask = sources.mask(first.mask, first.picture, _size(first))
    return inpaint(
        parts,
        Inpaint(image, mask, first.repaint, _STRETCH, first.paste),
        [recipe.prompt for recipe in batch],
        seeds=[recipe.seed for recipe in batch],
        steer=steering_of(parts, batch, sources),
        walk=_walk(first, sources),
        watch=watch,
    )


def _morph(parts: Parts, batch: Sequence[Recipe], sources: Sources, watch: Callable[[Record], None]) -> Tensor:
    from sfumato.flows.morph import End, Morph, morph

    first = batch[0]
    ends: list[End] = []
    for prompt, seed, given in (
        (first.prompt, first.seed, first.picture),
        (first.to_prompt, first.to_seed, first.to_picture),
    ):
        start = None
        if given is not None:
            start = sources.inverted(parts, given, first, prompt, _size(first)).start
        ends.append(End(prompt, seed, start))
    return morph(
        parts,
        Morph(ends[0], ends[1], [recipe.share for recipe in batch]),
        size=_size(first),
        steer=steering_of(parts, batch, sources),
        walk=_walk(first, sources),
        watch=watch,
    )


def steering_of(parts: Parts, batch: Sequence[Recipe], sources: Sources, inverted: Inverted | None = None) -> Steering:
    """What recipes ask of the denoiser.

    Args:
        parts: of the model.
        batch: B recipes that differ in prompt, seed, guidance and share only.
        sources: has the models that they name.
        inverted: has the tuned nulls, if any.

    Raises:
        UsageError: the model lacks a part that a setting needs.
        ValueError: settings that do not fit together.
    """
    return followed(parts, batch, sources, asked_of(batch, sources, inverted))


def asked_of(batch: Sequence[Recipe], sources: Sources, inverted: Inverted | None = None) -> Steering:
    """The part of :func:`steering_of` that is the same whatever the prompts."""
    import torch

    from sfumato.flows.steering import Concept, Expert, Steering

    scales = tuple(recipe.guidance for recipe in batch)
    first, kind = batch[0], batch[0].threshold.partition(":")
    dtype = getattr(torch, first.dtype)
    experts = [(sources.expert(given, dtype).model, start, stop) for given, start, stop in first.experts]
    return Steering(
        guidance=scales if len(set(scales)) > 1 else scales[0],
        negative=first.negative,
        concepts=tuple(Concept(prompt, weight) for prompt, weight in first.concepts),
        interval=None if first.guidance_interval == (0.0, 1.0) else first.guidance_interval,
        perturb=first.pag,
        rescale=first.rescale,
        project=first.apg,
        threshold=float(kind[2]) if kind[2] else kind[0] or None,
        experts=tuple(Expert(model, start, stop) for model, start, stop in experts),
        nulls=None if inverted is None or inverted.nulls is None else inverted.nulls,
    )


def followed(parts: Parts, batch: Sequence[Recipe], sources: Sources, steer: Steering) -> Steering:
    """Steering with the scores of classifiers, and of the likeness of B pictures to their prompts."""
    first = batch[0]
    if not first.classifier and not first.clip_guidance:
        return steer
    from sfumato.encoders.image import sentences
    from sfumato.guidance.clip import CleanSimilarity, NoisySimilarity
    from sfumato.networks.guide import log_probability

    scores = [(log_probability(sources.guide, head, word), scale) for head, word, scale in first.classifier]
    if not first.clip_guidance:
        return replace(steer, scores=tuple(scores))
    target = sentences(parts.text, [recipe.prompt for recipe in batch])
    if first.clip_form == "estimate":
        clean = CleanSimilarity(parts.codec.decode, sources.pictures, target)
        return replace(steer, scores=tuple(scores), estimate_scores=((clean, first.clip_guidance),))
    noised = NoisySimilarity(sources.guide.encode, target, sources.guide.scale)
    return replace(steer, scores=(*scores, (noised, first.clip_guidance)))


def _walk(recipe: Recipe, sources: Sources, inverted: Inverted | None = None) -> Walk:
    from sfumato.flows.walk import Like, Walk

    like = None
    if recipe.like is not None:
        like = Like(sources.image(recipe.like, _whole_size(recipe)), recipe.like_scale, recipe.like_until)
    start = None if inverted is None else inverted.start
    return Walk(recipe.steps, recipe.scheduler, like, recipe.langevin, start)


def _size(recipe: Recipe) -> tuple[int, int]:
    """Height and width of the picture inside a border."""
    if recipe.height is None or recipe.width is None:
        raise UsageError("the recipe names no size")
    return recipe.height, recipe.width


def _whole_size(recipe: Recipe) -> tuple[int, int]:
    height, width = _size(recipe)
    left, right, above, below = recipe.border
    return height + above + below, width + left + right
