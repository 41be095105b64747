"""From recipes to images: what each setting of a recipe means to the flows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sfumato.cli.codes import draw
from sfumato.cli.progress import Advance
from sfumato.cli.sources import Sources
from sfumato.cli.steering import steering_of
from sfumato.given import Given
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

__all__ = ["inversion_steps", "make", "steps_of"]

_STRETCH = 2


def steps_of(recipe: Recipe) -> int:
    """Steps that a recipe walks."""
    from sfumato.core.path import bumps, suffix

    path = list(range(recipe.steps + 1))
    if recipe.task == "redraw":
        return (len(suffix(path, recipe.strength)) - 1) * recipe.repeats
    if recipe.task in ("inpaint", "outpaint"):
        path = bumps(path, _STRETCH, recipe.repaint)
    return len(path) - 1


def inversion_steps(recipe: Recipe) -> int:
    """Steps that inverting its pictures takes, up the path and once more where nulls are tuned."""
    if recipe.task == "morph":
        ends = {(recipe.picture, recipe.prompt), (recipe.to_picture, recipe.to_prompt)}
        return recipe.steps * sum(picture is not None for picture, _ in ends)
    if recipe.task == "rewrite" and recipe.picture is not None:
        return recipe.steps * (2 if _null_text(recipe) else 1)
    return 0


def _null_text(recipe: Recipe) -> float | None:
    """The scale that nulls are tuned for; None: none are."""
    return recipe.guidance if recipe.guidance > 1 else None


@dataclass(frozen=True, eq=False)
class _Run:
    """What all pictures of a command are made with."""

    parts: Parts
    sources: Sources
    advance: Advance
    seen: MapRecorder | None

    def watch(self, record: Record) -> None:
        """A step is done."""
        self.advance()

    def inverted(self, given: Given, recipe: Recipe, prompt: str, null_text: float | None = None) -> Inverted:
        """The inversion of a picture of a prompt, its nulls tuned for a guidance scale if one is given."""
        return self.sources.inverted(self.parts, given, recipe, prompt, null_text=null_text, watch=self.watch)

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

    tasks = {"generate": _generate, "redraw": _redraw, "morph": _morph, "rewrite": _rewrite}
    return tasks.get(batch[0].task, _inpaint)(_Run(parts, sources, advance, seen), batch)


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
        Redraw(run.sources.image(first.picture, first.size), first.strength, mask, first.paste, first.repeats),
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
            start = run.inverted(given, first, prompt).start
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
        inverted = run.inverted(first.picture, first, first.prompt, _null_text(first))
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


def _walk(recipe: Recipe, sources: Sources, inverted: Inverted | None = None) -> Walk:
    from sfumato.flows.walk import Like, Walk
    from sfumato.guidance.attend_and_excite import Excite

    like = None
    if recipe.like is not None:
        like = Like(sources.image(recipe.like, recipe.whole_size), recipe.like_scale, recipe.like_until)
    excite = Excite(recipe.excite) if recipe.excite else None
    start = None if inverted is None else inverted.start
    return Walk(recipe.steps, recipe.scheduler, like, recipe.langevin, excite, start)
