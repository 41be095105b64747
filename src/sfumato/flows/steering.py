"""Steering: what is asked of the denoiser, and the denoiser that it makes of a checkpoint and prompts.

Places 2, 3 and 4 of the design, in the one order in which they compose, inside out (and pictures from a memory, which
are of place 1):

    edits      of the attention to the prompts, in the order given; the null and further concepts have none
    mix        none + g (text - none) + sum of g w_i (concept_i - none) + p (text - perturbed)
    guided     the mix as it is; or rescaled; or projected
    scores     + sigma^2 / alpha * scale * gradient, of each score of x and of each score of the estimate
    threshold  into [-1, 1], for models of pixels

Papers: those of the files in ``sfumato.guidance``; each part left at its default costs nothing and changes nothing
    (Rombach et al., 2022, arXiv:2112.10752, is what remains).
Forwards per step: 1, whatever is asked for; gradients of scores of the estimate add a backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.attention.identity import IdentityAttention
from sfumato.checkpoints.parts import Parts
from sfumato.core.branch import Branch, Guided, Mix, Weight
from sfumato.core.codec import LatentCodec
from sfumato.core.condition import Condition
from sfumato.core.level import Level
from sfumato.core.model import Model
from sfumato.core.steps import Denoiser
from sfumato.encoders.text import one_each
from sfumato.flows.prompts import EditOfWords, Neighbours, condition_of, null_of
from sfumato.guidance.classifier import ClassifierGuided, LogProbability
from sfumato.guidance.classifier_free import in_interval
from sfumato.guidance.clip import EstimateGuided
from sfumato.guidance.composable import composed
from sfumato.guidance.experts import Experts, by_progress
from sfumato.guidance.null_text import null_by_step
from sfumato.guidance.perturbed_attention import perturbation
from sfumato.guidance.projected import Projected
from sfumato.guidance.rescale import Rescaled
from sfumato.guidance.threshold import Thresholded

__all__ = [
    "Concept",
    "Expert",
    "Steering",
    "model_of",
    "steered",
]


@dataclass(frozen=True)
class Concept:
    """A further prompt of a composition.

    Args:
        prompt: for all pictures, or one a picture.
        weight: times the guidance scale; positive asks for it (AND), negative against it (NOT).
        neighbours: pictures beside or in place of its words.

    Raises:
        ValueError: a weight that is no finite number.
    """

    prompt: str | tuple[str, ...]
    weight: float = 1.0
    neighbours: Neighbours | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ValueError(f"the weight of a concept must be a finite number, got {self.weight}")


@dataclass(frozen=True, eq=False)
class Expert:
    """Another model for a part of the path.

    Args:
        model: with the same latents and the same kind of condition as the checkpoint's own.
        start: share of the path, in [0, 1); 0 is pure noise.
        stop: share of the path, in (start, 1].
    """

    model: Model
    start: float
    stop: float


@dataclass(frozen=True, eq=False)
class Steering:
    """What is asked of the denoiser.

    Args:
        guidance: scale of classifier-free guidance, >= 0; 1 is none; a number, or one a picture.
        negative: what to move away from, for all pictures; "" is the checkpoint's null.
        concepts: further prompts that are added (AND) or taken away (NOT).
        interval: shares of the path, 0 at pure noise and 1 at the end, between which guidance is on; None: always.
        perturb: scale of perturbed-attention guidance, >= 0; 0 is none.
        rescale: share of the guided output that gets the contrast of the conditional one, in [0, 1]; 0 is none.
        project: share of what guidance adds along the estimate that is kept, in [0, 1], for adaptive projected
            guidance; None is none.
        scores: of (x, level), each with its scale: classifiers and noised encoders.
        estimate_scores: of x0, each with its scale: encoders of clean pictures, through the network.
        threshold: a quantile in (0, 1] for dynamic thresholding, "static" for clipping, None for neither.
        experts: other models for parts of the path.
        edits: of the attention to the prompts, in the order in which each stage runs them.
        neighbours: pictures beside or in place of the words.
        nulls: tokens (B or 1, L, D) of the null for each step, from null-text inversion; None: the null, or negative.

    Raises:
        ValueError: a setting out of range, or two that cannot go together.
    """

    guidance: float | tuple[float, ...] = 4.0
    negative: str = ""
    concepts: tuple[Concept, ...] = ()
    interval: tuple[float, float] | None = None
    perturb: float = 0.0
    rescale: float = 0.0
    project: float | None = None
    scores: tuple[tuple[LogProbability, float], ...] = ()
    estimate_scores: tuple[tuple[Callable[[Tensor], Tensor], float], ...] = ()
    threshold: float | str | None = None
    experts: tuple[Expert, ...] = ()
    edits: tuple[EditOfWords, ...] = ()
    neighbours: Neighbours | None = None
    nulls: tuple[Tensor, ...] | None = None

    def __post_init__(self) -> None:
        self._check_ranges()
        if self.rescale > 0 and self.project is not None:
            raise ValueError("rescale and project both change the size of what guidance adds; choose one of them")
        if self.nulls is not None and (self.negative or self.interval is not None):
            raise ValueError(
                "tuned nulls stand where a negative prompt would, and at every step; leave negative and interval out"
            )
        by_progress(*((each.start, each.stop) for each in self.experts))

    def _check_ranges(self) -> None:
        scales = self.guidance if isinstance(self.guidance, tuple) else (self.guidance,)
        if not scales or not all(0 <= scale < math.inf for scale in scales):
            raise ValueError(f"guidance must be a number from 0 on (1 is none), got {self.guidance}")
        scored = [scale for _, scale in (*self.scores, *self.estimate_scores)]
        for name, value in (("perturb", self.perturb), *(("the scale of a score", scale) for scale in scored)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number from 0 on (0 is none), got {value}")
        for name, value in (("rescale", self.rescale), ("project", self.project or 0.0)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise ValueError(f"interval must be two shares of the path, 0 <= start < stop <= 1, got {self.interval}")
        if not _is_threshold(self.threshold):
            raise ValueError(f'threshold must be "static" or a quantile in (0, 1], got {self.threshold!r}')


def _is_threshold(value: float | str | None) -> bool:
    if isinstance(value, bool):
        return False
    return value in (None, "static") if isinstance(value, str | None) else 0 < value <= 1


def steered(parts: Parts, text: Branch, size: tuple[int, int], steer: Steering, path: Sequence[Level] = ()) -> Denoiser:
    """The denoiser that a checkpoint, a branch and steering make.

    Args:
        parts: a loaded checkpoint.
        text: what is wanted of B pictures, from :func:`prompted` as a rule, with its edits.
        size: height and width of the pictures, in pixels.
        steer: what is asked.
        path: that the nulls were tuned on; needed with ``steer.nulls`` only.

    Returns:
        x (B, C, h, w) and its level to x0.

    Raises:
        ValueError: another number of scales, nulls or prompts of a concept than pictures, nulls of another model;
            thresholding of latents.
    """
    if steer.threshold is not None and isinstance(parts.codec, LatentCodec):
        raise ValueError(
            "thresholding keeps pixels in their range, and this is a model of latents, which have none; "
            "use rescale for strong guidance"
        )
    denoise = _guided(parts, model_of(parts, steer), text, _mix(parts, text, size, steer, path), steer)
    for score, scale in steer.scores:
        denoise = ClassifierGuided(denoise, score, scale)
    if wanted := [each for each in steer.estimate_scores if each[1]]:
        denoise = EstimateGuided(denoise, _sum_of(wanted))
    if steer.threshold is None:
        return denoise
    return Thresholded(denoise, None if isinstance(steer.threshold, str) else steer.threshold)


def _sum_of(scores: Sequence[tuple[Callable[[Tensor], Tensor], float]]) -> Callable[[Tensor], Tensor]:
    """One score of x0, (B,): the sum of some, each times its scale."""
    return lambda x0: torch.stack([scale * score(x0) for score, scale in scores]).sum(0)


def model_of(parts: Parts, steer: Steering) -> Model:
    """The checkpoint's model; with experts, all of them as one."""
    if not steer.experts:
        return parts.model
    models = (parts.model, *(each.model for each in steer.experts))
    return Experts(models, by_progress(*((each.start, each.stop) for each in steer.experts)))


def _mix(
    parts: Parts, text: Branch, size: tuple[int, int], steer: Steering, path: Sequence[Level]
) -> Mix | Callable[[Level], Mix]:
    count = text.condition.count or 0
    scale = _scale(steer.guidance, count)
    concepts = [(Branch(_of_concept(parts, each, count, size), name=str(each.prompt)), each) for each in steer.concepts]
    perturb = perturbation(text, IdentityAttention(), steer.perturb)

    def at_scale(none: Branch, scale: Weight) -> Mix:
        return composed(none, (text, scale), *((branch, scale * each.weight) for branch, each in concepts))

    none = Branch(null_of(parts, count, size, steer.negative, steer.neighbours), name="none")
    if steer.nulls is not None:
        tuned = null_by_step(none.condition, [_of_each(tokens, none.condition) for tokens in steer.nulls], list(path))
        return lambda level: perturb(at_scale(tuned(level), scale))
    mix = perturb(at_scale(none, scale))
    return mix if steer.interval is None else in_interval(mix, at_scale(none, 1.0), *steer.interval)


def _of_each(tokens: Tensor, null: Condition) -> Tensor:
    """Tuned tokens (B, L, D) in the place of a null's, on its device."""
    count, width = null.count or 0, 0 if null.tokens is None else null.tokens.shape[-1]
    if null.tokens is None or tokens.ndim != 3 or tokens.shape[-1] != width:
        raise ValueError(
            f"the nulls must have shape (B, L, {width}) for this model, got {tuple(tokens.shape)}; give those that "
            "were tuned with it"
        )
    if len(tokens) not in (1, count):
        raise ValueError(f"the nulls were tuned for {len(tokens)} pictures and there are {count}")
    return tokens.to(null.tokens.device).expand(count, -1, -1)


def _of_concept(parts: Parts, concept: Concept, count: int, size: tuple[int, int]) -> Condition:
    return condition_of(parts, one_each(concept.prompt, count, "a concept"), size, concept.neighbours)


def _scale(guidance: float | tuple[float, ...], count: int) -> Weight:
    if not isinstance(guidance, tuple):
        return guidance
    if len(guidance) != count:
        raise ValueError(f"there are {count} pictures and {len(guidance)} guidance scales; give one, or one a picture")
    return guidance[0] if len(set(guidance)) == 1 else torch.tensor(guidance, dtype=torch.float64)


def _guided(parts: Parts, model: Model, text: Branch, mix: Mix | Callable[[Level], Mix], steer: Steering) -> Denoiser:
    if steer.rescale > 0:
        return Rescaled(model, mix, text, parts.network.prediction, steer.rescale)
    if steer.project is not None:
        return Projected(model, mix, text, steer.project)
    return Guided(model, mix)
