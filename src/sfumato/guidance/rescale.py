"""Guidance rescale: give the guided estimate the contrast of the conditional one.

A large scale makes the network's guided output too strong, and images too bright or flat. Per image:

    g' = g * std(p) / std(g)        g the guided output, p the conditional one, std over all but the batch
    out = share * g' + (1 - share) * g

g and p are outputs in the network's own parametrisation, as in the paper (v) and in diffusers (any): the estimates are
converted to outputs, rescaled, and converted back, so results equal those of diffusers' ``guidance_rescale``. In x0 the
same formula would be another method, since the share of x in an output changes its std.

Not affine, so it is a denoiser and not a mix: it replaces ``Guided``, and evaluates all branches at once.
Combines with: any edit, any mix, any wrapper round it.
Forwards per step: 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sfumato.core.branch import Branch, Mix, evaluate, mix_at
from sfumato.core.level import Level
from sfumato.core.model import Model
from sfumato.core.predict import Prediction, from_x0, to_x0

__all__ = ["Rescaled"]


@dataclass(frozen=True, eq=False)
class Rescaled:
    """A denoiser that mixes and then matches the std of one branch.

    Args:
        model: evaluates branches together.
        mix: a mix, or a function from a level to one; weights must sum to 1.
        text: the conditional branch, whose std is kept.
        prediction: parametrisation in which std is taken; the network's own, of several experts that of the first.
        share: of the rescaled output, in [0, 1]; 0 changes nothing, the paper uses 0.7.

    Raises:
        ValueError: share out of range, weights that do not sum to 1; at sigma = 0, unless prediction is "x0".

    Paper: Common Diffusion Noise Schedules and Sample Steps are Flawed (Lin et al., 2023), arXiv:2305.08891,
        equations 14 to 16.
    Differs from the paper: any parametrisation, as diffusers does; the paper has v.
    """

    model: Model
    mix: Mix | Callable[[Level], Mix]
    text: Branch
    prediction: Prediction
    share: float = 0.7

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must lie in [0, 1], got {self.share}")
        if isinstance(self.mix, Mix):
            self.mix.check()

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        """The rescaled clean estimate (B, ...) of x (B, ...) at a level () or (B,)."""
        mix = mix_at(self.mix, level)
        estimates = evaluate(self.model, x, level, (*mix.branches, self.text))
        guided = from_x0(self.prediction, mix.of(estimates), x, level)
        wanted = from_x0(self.prediction, estimates[self.text], x, level)
        factor = self.share * _std(wanted) / _std(guided) + 1 - self.share
        return to_x0(self.prediction, factor * guided, x, level)


def _std(output: Tensor) -> Tensor:
    return output.std(dim=tuple(range(1, output.ndim)), keepdim=True)
