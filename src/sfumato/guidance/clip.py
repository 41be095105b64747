"""CLIP guidance: follow the gradient of the agreement of a picture with a text, in one of two forms.

With f a picture encoder, g(c) the unit vector of the wanted text, and 100 CLIP's logit scale:

    noised       s = 100 * f(x, level) . g(c)                f trained on noisy x: ``NoisySimilarity``, a score for
                                                             ``ClassifierGuided``
    through x0   s = 100 * f(decode(x0(x, level))) . g(c)    any f: ``CleanSimilarity``, a score for ``EstimateGuided``,
                                                             which differentiates through the network

    x0 <- x0 + sigma^2 / alpha * scale * grad_x s

An f for clean pictures given a noisy x directly has adversarial gradients, which is why there is no third form. With a
strong scale either form attacks f: the score rises and the picture does not. GLIDE found classifier-free guidance
better.

Combines with: any denoiser inside; other wrappers round it.
Forwards per step: 1, and a forward and backward pass of f; through x0, also a backward pass of the network and decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sfumato.core.branch import Weight, times
from sfumato.core.level import Level
from sfumato.core.predict import add_score
from sfumato.core.steps import Denoiser
from sfumato.guidance.classifier import gradient, has_no_say

__all__ = ["CleanSimilarity", "EstimateGuided", "NoisySimilarity"]


@dataclass(frozen=True, eq=False)
class NoisySimilarity:
    """100 * cosine of noisy x and a text: a score for ``ClassifierGuided``.

    Args:
        encode: x (B, ...) and its level to unit vectors (B, D), by an encoder that was trained on noisy x.
        target: unit vectors of the wanted texts, (B, D).
        logit_scale: > 0; CLIP's 100.

    Paper: GLIDE: Towards Photorealistic Image Generation and Editing with Text-Guided Diffusion Models (Nichol et al.,
        2021), arXiv:2112.10741, equation 8.
    """

    encode: Callable[[Tensor, Level], Tensor]
    target: Tensor
    logit_scale: float = 100.0

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        """The score of x (B, ...) at a level, (B,)."""
        return self.logit_scale * (self.encode(x, level) * self.target).sum(-1)


@dataclass(frozen=True, eq=False)
class CleanSimilarity:
    """100 * cosine of a decoded clean estimate and a text: a score for ``EstimateGuided``.

    Args:
        decode: x0 (B, ...) to pictures (B, 3, H, W) in [-1, 1].
        encode: pictures to unit vectors (B, D).
        target: unit vectors of the wanted texts, (B, D).
        logit_scale: > 0; CLIP's 100.

    Paper: Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021),
        arXiv:2103.00020, figure 3.
    """

    decode: Callable[[Tensor], Tensor]
    encode: Callable[[Tensor], Tensor]
    target: Tensor
    logit_scale: float = 100.0

    def __call__(self, x0: Tensor) -> Tensor:
        """The score of x0 (B, ...), (B,)."""
        return self.logit_scale * (self.encode(self.decode(x0)) * self.target).sum(-1)


@dataclass(frozen=True, eq=False)
class EstimateGuided:
    """A denoiser moved along the gradient of a score of its own clean estimate, through the network.

    Args:
        denoise: the estimate without it; differentiable in x, which another EstimateGuided is not: add up their scores.
        score: clean estimate (B, ...) to (B,), differentiable; no image may depend on another.
        scale: >= 0, 0 changes nothing; a number, or one an image (B,).
        largest_ratio: no guidance at levels whose sigma / alpha is larger; see ``ClassifierGuided``.

    Raises:
        ValueError: in the call, an estimate that has no gradient with respect to x.

    Paper: More Control for Free! Image Synthesis with Semantic Diffusion Guidance (Liu et al., 2021), arXiv:2112.05744,
        section 3; through the estimate as in Universal Guidance for Diffusion Models (Bansal et al., 2023),
        arXiv:2302.07121, equation 6.
    """

    denoise: Denoiser
    score: Callable[[Tensor], Tensor]
    scale: Weight = 1.0
    largest_ratio: float = 20.0

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        """The guided clean estimate (B, ...) of x (B, ...) at a level ()."""
        if has_no_say(self.scale, level, self.largest_ratio):
            return self.denoise(x, level)
        kept: list[Tensor] = []

        def score_of_estimate(leaf: Tensor) -> Tensor:
            kept.append(self.denoise(leaf, level))
            if not kept[0].requires_grad:
                raise ValueError(
                    "the estimate inside has no gradient with respect to x, so its score cannot guide; of several "
                    "scores of the estimate give one EstimateGuided the sum"
                )
            return self.score(kept[0])

        towards = gradient(score_of_estimate, x)
        return add_score(kept[0].detach(), times(self.scale, towards), level)
