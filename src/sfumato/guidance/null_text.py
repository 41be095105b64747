"""Null-text inversion: tune the null of each step so that guided sampling comes back to a given image.

Inversion without guidance leads from an image to noise along the pivots z*_t. Sampling with guidance from that noise
leaves them at once. So at each step, from the noisy end on, the tokens of the null are moved until one guided DDIM step
from where the last one ended meets the next pivot:

    min over null_t of  mean |DDIM(x_t, null_t + scale * (text - null_t)) - z*_next|^2

The tokens of one step are where the next one begins. Of all that were tried the best stay, so that no step ends
further from its pivot than with the plain null. Afterwards the image can be edited by editing the text alone.

Combines with: any edit on the text branch afterwards; the nulls belong to one image, path and scale.
Forwards per step: 1, and of the null branch alone up to ``iterations`` + 2, and as many backward as iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.branch import Branch, evaluate
from sfumato.core.condition import Condition
from sfumato.core.level import Level
from sfumato.core.model import Model
from sfumato.core.path import Path
from sfumato.core.sample import Record
from sfumato.core.steps import move

__all__ = ["NullText", "null_by_step"]


@dataclass(frozen=True)
class NullText:
    """The optimisation of the nulls of a path.

    Forwards per step: 1, and of the null branch alone up to ``iterations`` + 2, and as many backward as iterations.

    Args:
        scale: of classifier-free guidance, > 1.
        iterations: at most so many steps of Adam at a level, >= 1.
        rate: of Adam at the first level; falls by 1 % of it a level, by less on a path of more than 100 steps.
        close_enough: mean squared error of an image at which its null is left, at the first level; grows by 2e-5 a
            level.

    Raises:
        ValueError: scale not above 1, or iterations below 1.

    Paper: Null-text Inversion for Editing Real Images using Guided Diffusion Models (Mokady et al., 2022),
        arXiv:2211.09794, algorithm 1.
    Differs from the paper: rate and bound are those of the authors' code, for each image by itself; it moves once more
        after the bound is met, and keeps the last tokens where these are the best, the plain null among them.
    """

    scale: float = 7.5
    iterations: int = 10
    rate: float = 1e-2
    close_enough: float = 1e-5

    def __post_init__(self) -> None:
        if not self.scale > 1 or self.iterations < 1:
            raise ValueError(f"needs scale > 1 and iterations >= 1, got {self.scale} and {self.iterations}")

    def __call__(
        self,
        model: Model,
        text: Branch,
        none: Condition,
        pivots: Sequence[Tensor],
        path: Path,
        watch: Callable[[Record], None] | None = None,
    ) -> list[Tensor]:
        """Tune the nulls.

        Args:
            model: its weights are left alone.
            text: the prompt that describes the images.
            none: the null to begin with, for B images, with tokens (B, L, D).
            pivots: x (B, ...) at each level of the path, noisiest first, from an inversion at scale 1.
            path: S + 1 levels, noisiest first.
            watch: called with a record after each step.

        Returns:
            tokens (B, L, D) for each of the S steps.

        Raises:
            ValueError: a pivot is missing, or the null has no tokens.
        """
        if len(pivots) != len(path) or none.tokens is None:
            raise ValueError(f"needs a pivot for each of {len(path)} levels and a null with tokens, got {len(pivots)}")
        plain, found, steps = none.tokens.detach().float(), list[Tensor](), len(path) - 1
        x, tokens = pivots[0], plain
        for index, (level, next_level) in enumerate(zip(path, path[1:], strict=False)):
            with torch.no_grad():
                (asked,) = evaluate(model, x, level, [text]).values()
            step = _GuidedStep(model, x, level, next_level, none, asked, self.scale)
            rate, enough = self.rate * (1 - index / max(100, steps)), self.close_enough + 2e-5 * index
            best = self._tuned(step, tokens, plain, _Best(pivots[index + 1]), rate, enough)
            tokens, x = best.tokens, best.x
            found.append(tokens)
            if watch is not None:
                watch(Record(index + 1, steps, next_level, x.clone()))
        return found

    def _tuned(
        self, step: _GuidedStep, tokens: Tensor, plain: Tensor, best: _Best, rate: float, enough: float
    ) -> _Best:
        with torch.enable_grad():
            tuned = tokens.clone().requires_grad_()
            adam = torch.optim.Adam([tuned], lr=rate)
            for _ in range(self.iterations):
                losses = best.of(tuned, step(tuned))
                near = best.losses < enough
                if bool(near.all()):
                    return best
                (tuned.grad,) = torch.autograd.grad(losses.sum(), tuned)
                before = tuned.detach().clone()
                adam.step()
                tuned.data[near] = before[near]
        with torch.no_grad():
            for last in (tuned.detach(), plain):
                best.of(last, step(last))
        return best


class _Best:
    """Of all tokens that were tried at a step, those of each image that came nearest to its pivot (B, ...)."""

    def __init__(self, pivot: Tensor) -> None:
        self.pivot = pivot
        self.tokens = self.x = torch.empty(0)
        self.losses = torch.empty(0)

    def of(self, tokens: Tensor, x: Tensor) -> Tensor:
        """The losses (B,) of tokens (B, L, D) that lead to x (B, ...), differentiable; the better ones are kept."""
        losses = (x - self.pivot).square().flatten(1).mean(1)
        if not len(self.losses):
            self.tokens, self.x, self.losses = tokens.detach().clone(), x.detach(), losses.detach()
            return losses
        better = losses.detach() < self.losses
        self.losses = torch.where(better, losses.detach(), self.losses)
        self.tokens = torch.where(better[:, None, None], tokens.detach(), self.tokens)
        self.x = torch.where(better.view(-1, *[1] * (x.ndim - 1)), x.detach(), self.x)
        return losses


@dataclass(frozen=True, eq=False)
class _GuidedStep:
    """Tokens of the null (B, L, D) to x (B, ...) at the next level; the text's estimate is there already."""

    model: Model
    x: Tensor
    level: Level
    next_level: Level
    none: Condition
    asked: Tensor
    scale: float

    def __call__(self, tokens: Tensor) -> Tensor:
        (without,) = evaluate(self.model, self.x, self.level, [Branch(self.none.replace(tokens=tokens))]).values()
        return move(self.x, without + self.scale * (self.asked - without), self.level, self.next_level)


def null_by_step(none: Condition, tokens: Sequence[Tensor], path: Path) -> Callable[[Level], Branch]:
    """The null branch of each step: at a level, what the guidance of that level moves away from.

    Args:
        none: the null, for B images.
        tokens: (B, L, D) for each of S steps.
        path: the S + 1 levels that the tokens were tuned on.

    Returns:
        a function from a level of that path to a branch.

    Raises:
        ValueError: another number of tokens than steps; in the call, a level that is not on the path.
    """
    if len(tokens) != len(path) - 1:
        raise ValueError(f"the path has {len(path) - 1} steps and there are nulls for {len(tokens)}")
    times = [float(level.time) for level in path[:-1]]
    branches = {time: Branch(none.replace(tokens=each), name="null") for time, each in zip(times, tokens, strict=True)}

    def branch(level: Level) -> Branch:
        if float(level.time) not in branches:
            raise ValueError(f"no null was tuned for {level}; sample along the path that was inverted, by 'ddim'")
        return branches[float(level.time)]

    return branch
