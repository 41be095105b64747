"""Attend-and-excite: before each step, move x until every subject of the prompt is attended to somewhere.

A model may forget one of two subjects. Where that happens, no position of the picture attends to its word. So, with
a_s (h, w) the attention that subject s gets, smoothed by a small Gaussian, x is moved against the neglect of the most
neglected one, image by image:

    loss = max over s of (1 - max over positions of a_s),     x <- x - size * grad_x loss,
    size = scale * sqrt(1 - progress / 2)

At some shares of the path the loss itself must reach a bound first, by as many such moves as it takes. Then the step
goes on from the moved x.

Combines with: any denoiser and step; the attention may be that of a branch with edits of its own.
Forwards per step: those of the inner step, and 1 of ``attend`` with a backward pass while progress < ``until``; more
where a bound must be met.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.core.steps import Denoiser, State, Step, goes_up

__all__ = ["Attend", "AttendAndExcite", "Excite", "neglect"]

Attend = Callable[[Tensor, Level], Tensor]
"""x (B, ...) and its level to the attention (B, S, h, w) in [0, 1] that each of S subjects gets, differentiable in x;
no image may depend on another."""

_EDGE = math.exp(-1.0)
_ROUNDING = 1e-9
_BOUNDS = ((0.0, 0.05), (0.2, 0.5), (0.4, 0.8))


def neglect(attention: Tensor) -> Tensor:
    """How little the most neglected subject is attended to: max over s of (1 - max over positions of smoothed a_s).

    The smoothing is 3 x 3 with weights 1 and 1/e along each axis, which is what the authors' code makes of its
    "sigma = 0.5", and reflects at the edges.

    Args:
        attention: (B, S, h, w) in [0, 1], h and w at least 2.

    Returns:
        (B,) in [0, 1].

    Raises:
        ValueError: attention over fewer positions.

    Paper: Attend-and-Excite: Attention-Based Semantic Guidance for Text-to-Image Diffusion Models (Chefer et al.,
        2023), arXiv:2301.13826, section 4.
    """
    if min(attention.shape[-2:]) < 2:
        raise ValueError("excite needs attention over at least 2 x 2 positions, which these pictures are too small for")
    line = attention.new_tensor([_EDGE, 1.0, _EDGE]) / (1 + 2 * _EDGE)
    padded = F.pad(attention.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="reflect")
    smooth = F.conv2d(padded, (line[:, None] * line)[None, None]).view_as(attention)
    return (1 - smooth.amax(dim=(2, 3))).amax(dim=1)


@dataclass(frozen=True)
class AttendAndExcite:
    """A step that first moves x so that no subject is neglected.

    Forwards per step: those of the inner step, and 1 of ``attend`` with a backward pass while progress < ``until``; up
    to ``most`` more at each share of ``refine``; none more where the path goes up.

    Args:
        step: goes from level to level.
        attend: the attention that the subjects get.
        until: share of the path up to which it acts, in [0, 1]; 0 leaves the step as it is.
        scale: length of a move, >= 0, in units of x per unit of the gradient; 0 leaves the step as it is.
        refine: (share of the path, attention) pairs: in the first step at or beyond the share, moves are repeated
            until every subject has at least that attention.
        most: largest number of repeated moves, >= 0.

    Raises:
        ValueError: a setting out of range; in the call, a level outside a path (progress is None).

    Paper: Attend-and-Excite: Attention-Based Semantic Guidance for Text-to-Image Diffusion Models (Chefer et al.,
        2023), arXiv:2301.13826, section 4 and algorithm 1.
    Differs from the paper: its repeated moves end as soon as the bound is met; the authors' code makes one more. Their
        size falls to sqrt(1/2) in the last step, not at the end of the path.
    """

    step: Step
    attend: Attend
    until: float = 0.5
    scale: float = 20.0
    refine: tuple[tuple[float, float], ...] = _BOUNDS
    most: int = 20

    def __post_init__(self) -> None:
        _check(self.until, self.scale, self.refine, self.most)

    def __call__(
        self, denoise: Denoiser, x: Tensor, level: Level, next_level: Level, state: State, noise: Noise
    ) -> tuple[Tensor, State]:
        """x (B, ...) at ``level`` to x at ``next_level``, by way of a moved x."""
        if level.progress is None or next_level.progress is None:
            raise ValueError("attend-and-excite needs levels of a path, which know their progress")
        if self.scale and level.progress < self.until and not goes_up(level, next_level):
            x = self._excited(x, level, self._wanted(level.progress, next_level.progress))
        return self.step(denoise, x, level, next_level, state, noise)

    def _wanted(self, progress: float, next_progress: float) -> float:
        """The attention that must be reached in this step; 0 for none."""
        before = 2 * progress - next_progress + _ROUNDING
        return max((wanted for share, wanted in self.refine if before < share <= progress + _ROUNDING), default=0.0)

    def _excited(self, x: Tensor, level: Level, wanted: float) -> Tensor:
        size = self.scale * math.sqrt(1 - (level.progress or 0.0) / 2)
        losses, towards = self._look(x, level)
        for _ in range(self.most if wanted else 0):
            far = losses > 1 - wanted
            if not bool(far.any()):
                break
            x = torch.where(far.view(-1, *[1] * (x.ndim - 1)), x - size * towards, x)
            losses, towards = self._look(x, level)
        return x - size * towards

    def _look(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """The neglect in each image (B,), and its gradient (B, ...)."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            losses = neglect(self.attend(leaf, level))
            (towards,) = torch.autograd.grad(losses.sum(), leaf)
        return losses.detach(), towards


@dataclass(frozen=True)
class Excite:
    """What a flow is asked to excite: the phrases, and the settings of :class:`AttendAndExcite`.

    Args:
        phrases: one or more subjects, each for all prompts or one a prompt; "car" rather than "a red car".
        until: as in :class:`AttendAndExcite`.
        scale: likewise.
        refine: likewise.
        most: likewise.

    Raises:
        ValueError: no phrases, or a setting out of range.
    """

    phrases: tuple[str | tuple[str, ...], ...]
    until: float = 0.5
    scale: float = 20.0
    refine: tuple[tuple[float, float], ...] = _BOUNDS
    most: int = 20

    def __post_init__(self) -> None:
        if not self.phrases:
            raise ValueError("nothing to excite: give at least one phrase of the prompt")
        _check(self.until, self.scale, self.refine, self.most)

    def over(self, step: Step, attend: Attend) -> AttendAndExcite:
        """The step round another one, given the attention that the phrases get, (B, phrases, h, w)."""
        return AttendAndExcite(step, attend, self.until, self.scale, self.refine, self.most)


def _check(until: float, scale: float, refine: tuple[tuple[float, float], ...], most: int) -> None:
    if not 0 <= until <= 1 or not 0 <= scale < math.inf or most < 0:
        raise ValueError(f"needs until in [0, 1], scale >= 0 and most >= 0, got {until}, {scale} and {most}")
    if any(not (0 <= share <= 1 and 0 <= wanted <= 1) for share, wanted in refine):
        raise ValueError(f"refine needs pairs (share of the path, attention), each in [0, 1], got {refine}")
