"""Classifier guidance: follow the gradient of a classifier that was trained on noisy images.

By Bayes' rule the score of p(x | y) is that of p(x) plus the gradient of log p(y | x), here times a scale:

    x0 <- x0 + sigma^2 / alpha * scale * grad_x log p(y | x, level)

In noise coordinates this is the paper's ``noise - sigma * scale * gradient``, whatever the step. A scale above 1
sharpens p(y | x): more of the class, less variety. Any score of (x, level) may stand for the classifier: a sum of
several, an energy, the noised encoder of ``clip``.

Combines with: any denoiser, so any mix or wrapper inside; other wrappers round it, whose gradients add up.
Forwards per step: 1, and a forward and backward pass of the classifier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.branch import Weight, is_zero, times
from sfumato.core.level import Level
from sfumato.core.predict import add_score
from sfumato.core.steps import Denoiser

__all__ = ["ClassifierGuided", "LogProbability", "gradient", "has_no_say"]

LogProbability = Callable[[Tensor, Level], Tensor]
"""x (B, ...) and its level to one number an image, (B,); no image may depend on another."""


@dataclass(frozen=True, eq=False)
class ClassifierGuided:
    """A denoiser moved along the gradient of a log-probability.

    Args:
        denoise: the estimate without it.
        log_probability: log p(y | x, level) of the wanted y, (B,), differentiable in x.
        scale: >= 0, 0 changes nothing; a number, or one an image (B,). The paper's own name for it; not a
            classifier-free scale, where 1 changes nothing.
        largest_ratio: no guidance at levels whose sigma / alpha is larger. There x holds next to no signal; an exact
            gradient would fade as fast as sigma^2 / alpha grows, a trained classifier's does not. Stable Diffusion's
            levels end at 14.6.

    Paper: Diffusion Models Beat GANs on Image Synthesis (Dhariwal & Nichol, 2021), arXiv:2105.05233, section 4 and
        algorithm 2.
    Differs from the paper: algorithm 2 (a change of the noise) for stochastic steps too, where the paper's algorithm 1
        shifts the mean by the posterior's variance; both agree as steps get short. The last argument.
    """

    denoise: Denoiser
    log_probability: LogProbability
    scale: Weight = 1.0
    largest_ratio: float = 20.0

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        """The guided clean estimate (B, ...) of x (B, ...) at a level ()."""
        x0 = self.denoise(x, level)
        if has_no_say(self.scale, level, self.largest_ratio):
            return x0
        towards = gradient(lambda x: self.log_probability(x, level), x)
        return add_score(x0, times(self.scale, towards), level)


def has_no_say(scale: Weight, level: Level, largest_ratio: float) -> bool:
    """Whether a score is not asked: its scale is 0, or sigma / alpha of the level, shape (), is above the largest."""
    return is_zero(scale) or bool(level.sigma > largest_ratio * level.alpha)


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of each image's number with respect to the image.

    Args:
        function: x (B, ...) to (B,); no number may depend on another image.
        x: (B, ...); gradients are recorded for it here, whether or not the caller has switched them off.

    Returns:
        (B, ...), without a history; zeros where the function does not depend on x.

    Raises:
        ValueError: the function gives something else than one number an image.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        values = function(leaf)
        if values.shape != x.shape[:1]:
            raise ValueError(f"guidance needs one number an image, ({len(x)},), got shape {tuple(values.shape)}")
        if not values.requires_grad:
            return torch.zeros_like(x)
        (found,) = torch.autograd.grad(values.sum(), leaf, materialize_grads=True)
    return found.to(x.dtype)
