"""Rewrite: pictures of a prompt, and the same pictures of the prompt rewritten.

    source and rewrites are images of one batch that share their noise
    while a window lasts, attention maps of the source stand in for those of the rewrite   (attention.prompt_to_prompt)
    after each step, the source is put back outside the area of the chosen words          (guidance.local_blend)

Self-attention and the area of words are taken from grids whose sides are at most a quarter of the latents' longer side,
or 16 where that is less: 16 x 16 for Stable Diffusion at 512 x 512, 32 x 32 for SDXL at 1024 x 1024.

To rewrite a given picture, invert it by its prompt (``flows.invert``) and hand over what comes back: in
``Walk(start=...)`` without guidance, and in ``Steering(nulls=...)`` too under the guidance that they were tuned for.

Papers: Prompt-to-Prompt Image Editing with Cross Attention Control (Hertz et al., 2022), arXiv:2208.01626; of given
    pictures: Null-text Inversion for Editing Real Images using Guided Diffusion Models (Mokady et al., 2022),
    arXiv:2211.09794.
Forwards per step: 1 (2 with ``heun``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sfumato.attention.alignment import Alignment, Pair, aligned
from sfumato.attention.maps import MapRecorder, coarse_side
from sfumato.attention.prompt_to_prompt import SelfInjection, check_window, cross_edits
from sfumato.checkpoints.parts import Parts
from sfumato.core.attention import AttentionEdit
from sfumato.core.image import resize
from sfumato.core.noise import Noise
from sfumato.core.sample import AfterStep, Record, sample
from sfumato.encoders.text import EncodedText
from sfumato.flows.prompts import has_words, prompted
from sfumato.flows.steering import Steering, model_of, steered
from sfumato.flows.walk import Walk, after_steps, sampler_of, start_of, step_of
from sfumato.guidance.local_blend import LocalBlend, check_blend

__all__ = ["Align", "Blend", "Rewrite", "rewrite"]

Align = Callable[[EncodedText, Sequence[Pair]], Alignment]
"""How tokens are matched: ``aligned``, ``replaced`` or ``refined`` of ``sfumato.attention.alignment``."""


@dataclass(frozen=True)
class Blend:
    """Where rewrites may differ from their source.

    Args:
        words: phrases of the source or of rewrites; each prompt counts those that it has, at all their places.
        keep: phrases whose own area is never changed, likewise.
        start: share of the path after which the source is put back, in [0, 1].
        threshold: share of a map's largest value above which a position belongs to the area, in [0, 1).

    Raises:
        ValueError: no words, or a setting out of range.
    """

    words: tuple[str, ...]
    keep: tuple[str, ...] = ()
    start: float = 0.2
    threshold: float = 0.3

    def __post_init__(self) -> None:
        if not self.words:
            raise ValueError("a blend needs the words whose area may change")
        check_blend(self.start, self.threshold)


@dataclass(frozen=True, eq=False)
class Rewrite:
    """A prompt, and what it is rewritten to.

    Args:
        source: the prompt of the picture.
        targets: n >= 1 prompts that it is rewritten to.
        cross: end of the window in which the maps of words are those of the source, a share of the path in [0, 1].
        self_attention: end of the window in which the maps of self-attention are, in [0, 1]; longer keeps more shape.
        windows: other ends than ``cross`` for phrases of the targets; shorter leaves a new word more freedom.
        weights: factors for phrases of the targets, while their window lasts; 1 changes nothing, 0 removes the phrase.
        blend: where the pictures may differ; None: everywhere.
        align: how tokens of source and target are matched; by word where both have as many, else by what is common.

    Raises:
        ValueError: no targets, or a setting out of range.
    """

    source: str
    targets: tuple[str, ...]
    cross: float = 0.8
    self_attention: float = 0.4
    windows: Mapping[str, float] = field(default_factory=dict[str, float])
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    blend: Blend | None = None
    align: Align = aligned

    def __post_init__(self) -> None:
        if isinstance(self.targets, str) or not self.targets:
            raise ValueError(f"a rewrite needs a tuple of one or more targets, got {self.targets!r}")
        for until in (self.cross, self.self_attention, *self.windows.values()):
            check_window(until)
        for phrase, factor in self.weights.items():
            if not math.isfinite(factor):
                raise ValueError(f"the weight of {phrase!r} must be a finite number, got {factor}")
        if self.weights and not any((self.cross, *self.windows.values())):
            raise ValueError("weights act while a window of their words lasts, and all windows are 0; give cross")


def rewrite(
    parts: Parts,
    given: Sequence[Rewrite],
    *,
    seeds: Sequence[int],
    size: tuple[int, int] | None = None,
    steer: Steering = Steering(),  # noqa: B008 (frozen)
    walk: Walk = Walk(),  # noqa: B008 (frozen)
    watch: Callable[[Record], None] | None = None,
) -> Tensor:
    """Make pictures of prompts and of their rewrites.

    Args:
        parts: a loaded checkpoint.
        given: G rewrites, all made in one batch; what is made of one does not depend on the others, to rounding.
        seeds: G seeds, one a rewrite: a source and its targets share their noise.
        size: height and width in pixels, multiples of the codec's factor; None: those that were trained.
        steer: guidance and all else that is asked of the denoiser; its edits run before those of the rewrite, but for
            those that only look, which come last; its nulls may be given for G sources.
        walk: steps and scheduler; its start may be given for G sources.
        watch: called with a record after each step.

    Returns:
        pictures (B, 3, H, W), float32, in [-1, 1]: of each rewrite its source, then its targets in their order.

    Raises:
        ValueError: another number of seeds, a phrase that is in no prompt of its rewrite, a weight of a phrase whose
            window is 0, or a setting out of range.
    """
    if not given or len(given) != len(seeds):
        raise ValueError(f"needs a list of rewrites and one seed for each, got {len(given)} and {len(seeds)}")
    if not has_words(parts, steer.neighbours):
        raise ValueError("a rewrite changes words, and the context has neighbours in their place; keep the words")
    size, pairs = size or parts.size, _pairs(given)
    rows = [index for index, each in enumerate(given) for _ in (each.source, *each.targets)]
    steer, walk = _of_images(steer, walk, rows)
    sampler, noise = sampler_of(parts, walk), Noise([seeds[index] for index in rows])
    with torch.no_grad():
        prompts = [prompt for each in given for prompt in (each.source, *each.targets)]
        text = prompted(parts, prompts, size, steer.edits, steer.neighbours)
        x = start_of(parts, walk, sampler.scale, noise, size)
        side = coarse_side(*x.shape[-2:])
        asked_for = sorted((*text.branch.edits, *_edits(text.words, given, pairs, side)), key=lambda edit: edit.passive)
        edited = replace(text.branch, edits=tuple(asked_for))
        recorder = MapRecorder(side)
        recorded = (recorder,) if any(each.blend for each in given) else ()
        asked = replace(edited, edits=(*recorded, *edited.edits))
        denoise = steered(parts, asked, size, steer, sampler.path)
        grid = _coarse(x.shape[-2], x.shape[-1], side)
        blends = _blends(text.words, given, pairs, lambda: resize(recorder.finest(), *grid))
        step = step_of(model_of(parts, steer), walk, sampler, replace(text, branch=edited))
        after = (*after_steps(parts, walk, noise, size), *blends)
        return parts.codec.decode(sample(denoise, x, sampler.path, step, noise=noise, after=after, watch=watch))


def _pairs(given: Sequence[Rewrite]) -> list[tuple[Pair, ...]]:
    """For each rewrite, the images of its source and its targets."""
    found: list[tuple[Pair, ...]] = []
    first = 0
    for each in given:
        found.append(tuple((first, first + index) for index in range(1, len(each.targets) + 1)))
        first += 1 + len(each.targets)
    return found


def _of_images(steer: Steering, walk: Walk, rows: Sequence[int]) -> tuple[Steering, Walk]:
    """Nulls, neighbours and a start that are given for the sources, for all images."""

    def spread(value: Tensor) -> Tensor:
        return value[list(rows)] if len(value) == rows[-1] + 1 else value

    if steer.nulls is not None:
        steer = replace(steer, nulls=tuple(spread(tokens) for tokens in steer.nulls))
    if steer.neighbours is not None:
        steer = replace(steer, neighbours=replace(steer.neighbours, vectors=spread(steer.neighbours.vectors)))
    return steer, walk if walk.start is None else replace(walk, start=spread(walk.start))


def _edits(
    words: EncodedText, given: Sequence[Rewrite], pairs: Sequence[tuple[Pair, ...]], side: int
) -> tuple[AttentionEdit, ...]:
    shape = (len(words.texts), len(words.spans[0]))
    until, factors = torch.zeros(shape, dtype=torch.float64), torch.ones(shape)
    injected: dict[float, tuple[Pair, ...]] = {}
    for each, its in zip(given, pairs, strict=True):
        targets = [target for _, target in its]
        until[targets] = each.cross
        for table, asked in ((until, each.windows), (factors, each.weights)):
            for phrase, value in asked.items():
                for image, tokens in _places(words, phrase, targets):
                    table[image, tokens] = value
        for phrase in each.weights:
            if not any(until[image, tokens].any() for image, tokens in _places(words, phrase, targets)):
                raise ValueError(
                    f"the weight of {phrase!r} acts while its window lasts, and that is 0; give it another"
                )
        injected[each.self_attention] = (*injected.get(each.self_attention, ()), *its)
    alignment = Alignment.cat([each.align(words, its) for each, its in zip(given, pairs, strict=True)])
    shapes = (SelfInjection(its, end, side) for end, its in injected.items() if end > 0)
    return (*cross_edits(alignment, until, factors), *shapes)


def _blends(
    words: EncodedText, given: Sequence[Rewrite], pairs: Sequence[tuple[Pair, ...]], maps: Callable[[], Tensor]
) -> list[AfterStep]:
    blends: list[AfterStep] = []
    for each, its in zip(given, pairs, strict=True):
        if each.blend is not None:
            images = [its[0][0], *(target for _, target in its)]
            chosen, kept = (_tokens(words, phrases, images) for phrases in (each.blend.words, each.blend.keep))
            blends.append(LocalBlend(maps, its, chosen, kept, each.blend.start, each.blend.threshold))
    return blends


def _tokens(words: EncodedText, phrases: Sequence[str], images: Sequence[int]) -> list[list[int]]:
    """For each image, the tokens of the phrases that it has."""
    found: list[list[int]] = [[] for _ in words.texts]
    for phrase in phrases:
        for image, tokens in _places(words, phrase, images):
            found[image] += tokens
    return found


def _places(words: EncodedText, phrase: str, images: Sequence[int]) -> list[tuple[int, list[int]]]:
    """The images that have a phrase, at least one, and its tokens there."""
    found: list[tuple[int, list[int]]] = []
    for image in images:
        with suppress(ValueError):
            found.append((image, words.find_all(phrase, image)))
    return found or [(images[0], words.find_all(phrase, images[0]))]


def _coarse(height: int, width: int, side: int) -> tuple[int, int]:
    """The size halved until no side is above that of the grid whose maps are blended."""
    while max(height, width) > side:
        height, width = -(-height // 2), -(-width // 2)
    return height, width
