"""From recipes to images: what each setting of a recipe means to the flows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sfumato.cli.codes import draw
from sfumato.cli.edits import edits_of
from sfumato.cli.progress import Advance
from sfumato.cli.recall import with_neighbours
from sfumato.cli.sources import Sources
from sfumato.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.attention.maps import MapRecorder
    from sfumato.checkpoints.parts import Parts
    from sfumato.checkpoints.rarm import RarmParts
    from sfumato.core.sample import Record
    from sfumato.encoders.text import EncodedText, TextEncoder
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


@dataclass(frozen=True, eq=False)
class _Run:
    """What all pictures of a command are made with."""

    parts: Parts
    sources: Sources
    watch: Callable[[Record], None]
    seen: MapRecorder | None

    def steering(self, batch: Sequence[Recipe], inverted: Inverted | None = None) -> Steering:
        steer, seen = steering_of(self.parts, batch, self.sources, inverted), self.seen
        if seen is None:
            return steer

        def recorder(encoder: TextEncoder, text: EncodedText) -> MapRecorder:
            return seen

        return replace(steer, edits=(*steer.edits, recorder))


def make(
    parts: Parts | RarmParts,
    batch: Sequence[Recipe],
    sources: Sources,
    advance: Advance,
    seen: MapRecorder | None = None,
) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] of recipes that differ in prompt, seed, guidance and share only.

    Args:
        parts: of the model.
        batch: B recipes with a size.
        sources: has the files and models that they name.
        advance: told of each step, or of each code.
        seen: gets the attention maps, after all that edits them.

    Raises:
        UsageError: the model lacks a part that a setting needs, or settings that do not fit together.
        ValueError: a setting that the model cannot follow.
    """

    from sfumato.checkpoints.rarm import RarmParts

    if isinstance(parts, RarmParts):
        return draw(parts, batch, sources, advance)

    def watch(_: Record) -> None:
        advance()

    tasks = {"generate": _generate, "redraw": _redraw, "morph": _morph, "rewrite": _rewrite}
    return tasks.get(batch[0].task, _inpaint)(_Run(parts, sources, watch, seen), batch)


def _generate(run: _Run, batch: Sequence[Recipe]) -> Tensor:
    from sfumato.flows.text_to_image import text_to_image

    inverted = None if batch[0].start is None else run.sources.start(batch[0].start)
    return text_to_image(
        run.parts,
        [recipe.prompt for recipe in batch],
        seeds=[recipe.seed for recipe in batch],
        size=batch[0].size,
        steer=run.steering(batch, inverted),
        walk=_walk(batch[0], run.sources, inverted),
        watch=run.watch,
    )


def _redraw(run: _Run, batch: Sequence[Recipe]) -> Tensor:
    from sfumato.flows.redraw import Redraw, redraw

    first = batch[0]
    assert first.picture is not None
    mask = None if first.mask is None else run.sources.mask(first.mask, first.picture, first.size)
    return redraw(
        run.parts,
        Redraw(run.sources.image(first.picture, first.size), first.strength, mask, first.paste),
        [recipe.prompt for recipe in batch],
        seeds=[recipe.seed for recipe in batch],
        steer=run.steering(batch),
        walk=_walk(first, run.sources),
        watch=run.watch,
    )


def _inpaint(run: _Run, batch: Sequence[Recipe]) -> Tensor:
    from sfumato.flows.inpaint import Inpaint, extended, inpaint

    first = batch[0]
    assert first.picture is not None
    image = run.sources.image(first.picture, first.size)
    if first.mask is None:
        image, mask = extended(image, *first.border)
    else:
        mask = run.sources.mask(first.mask, first.picture, first.size)
    return inpaint(
        run.parts,
        Inpaint(image, mask, first.repaint, _STRETCH, first.paste),
        [recipe.prompt for recipe in batch],
        seeds=[recipe.seed for recipe in batch],
        steer=run.steering(batch),
        walk=_walk(first, run.sources),
        watch=run.watch,
    )


def _morph(run: _Run, batch: Sequence[Recipe]) -> Tensor:
    from sfumato.flows.morph import End, Morph, morph

    first = batch[0]
    ends: list[End] = []
    for prompt, seed, given in (
        (first.prompt, first.seed, first.picture),
        (first.to_prompt, first.to_seed, first.to_picture),
    ):
        start = None
        if given is not None:
            start = run.sources.inverted(run.parts, given, first, prompt).start
        ends.append(End(prompt, seed, start))
    return morph(
        run.parts,
        Morph(ends[0], ends[1], [recipe.share for recipe in batch]),
        size=first.size,
        steer=run.steering(batch),
        walk=_walk(first, run.sources),
        watch=run.watch,
    )


def _rewrite(run: _Run, batch: Sequence[Recipe]) -> Tensor:
    """Pictures of prompts rewritten from recipes of one source, whose picture is made once a seed."""
    from sfumato.flows.rewrite import Blend, Rewrite, rewrite

    first = batch[0]
    inverted = None
    if first.picture is not None:
        tuned = first.guidance if first.guidance > 1 else None
        inverted = run.sources.inverted(run.parts, first.picture, first, first.prompt, tuned)
    given: list[Rewrite] = []
    rows: list[Recipe] = []
    for seed in dict.fromkeys(recipe.seed for recipe in batch):
        own = [recipe for recipe in batch if recipe.seed == seed]
        changed = [recipe for recipe in own if not _is_source(recipe)] or own
        given.append(
            Rewrite(
                first.prompt,
                targets=tuple(recipe.to_prompt for recipe in changed),
                cross=first.cross,
                self_attention=first.self_attention,
                weights=dict(changed[0].reweight),
                blend=Blend(changed[0].blend) if changed[0].blend else None,
            )
        )
        rows += [replace(own[0], to_prompt=own[0].prompt, reweight=(), blend=()), *changed]
    images = rewrite(
        run.parts,
        given,
        seeds=list(dict.fromkeys(recipe.seed for recipe in batch)),
        size=first.size,
        steer=run.steering([replace(recipe, prompt=recipe.to_prompt) for recipe in rows], inverted),
        walk=_walk(first, run.sources, inverted),
        watch=run.watch,
    )
    return images[[rows.index(recipe) for recipe in batch]]


def _is_source(recipe: Recipe) -> bool:
    return recipe.to_prompt == recipe.prompt and not recipe.reweight


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


def _walk(recipe: Recipe, sources: Sources, inverted: Inverted | None = None) -> Walk:
    from sfumato.flows.walk import Like, Walk
    from sfumato.guidance.attend_and_excite import Excite

    like = None
    if recipe.like is not None:
        like = Like(sources.image(recipe.like, recipe.whole_size), recipe.like_scale, recipe.like_until)
    excite = Excite(recipe.excite) if recipe.excite else None
    start = None if inverted is None else inverted.start
    return Walk(recipe.steps, recipe.scheduler, like, recipe.langevin, excite, start)
