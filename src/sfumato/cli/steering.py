"""From recipes to steering: what they ask of the denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sfumato.cli.edits import edits_of
from sfumato.cli.recall import with_neighbours
from sfumato.cli.sources import Sources
from sfumato.recipe import Recipe

if TYPE_CHECKING:
    from sfumato.checkpoints.parts import Parts
    from sfumato.flows.invert import Inverted
    from sfumato.flows.steering import Steering

__all__ = ["asked_of", "followed", "steering_of"]


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
    """The part of :func:`steering_of` that is the same whatever the prompts and the size."""
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
    """Steering with the edits of words, the scores of classifiers, and of the likeness of B pictures to their prompts.

    Args:
        parts: of the model.
        batch: B recipes with a size.
        sources: has the files that they name.
        steer: what is asked beside.

    Raises:
        UsageError: the model lacks a part that a setting needs, or a mask or box does not fit.
        ValueError: a parser that is not installed.
    """
    first = batch[0]
    steer = with_neighbours(parts, batch, sources, replace(steer, edits=edits_of(first, sources)))
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
