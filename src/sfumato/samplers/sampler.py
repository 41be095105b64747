"""A sampler as flows use it: a path, a step, and the scale of the noise at its start."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.core.path import Path
from sfumato.core.steps import Step

__all__ = ["Sampler"]


@dataclass(frozen=True, eq=False)
class Sampler:
    """How to go from noise to a clean estimate.

    Args:
        path: S + 1 levels or more, noisiest first.
        step: how to go from a level to the next.
        scale: what standard normal noise is multiplied by to be x at the first level, about 1. A path that begins above
            zero signal needs sigma < 1 by the schedule; checkpoints are published with samplers that use 1.
    """

    path: Path
    step: Step
    scale: float = 1.0
