"""Classifier-free guidance: exaggerate what the condition changes.

The estimate with the condition is moved away from the estimate without it:

    x0 = none + scale * (text - none)

The same equation holds in noise and v coordinates, since its weights sum to 1. A negative prompt takes the place of the
null. Over an interval only, guidance costs less and keeps variety: early it decides too much, late it does nothing.

Scale 1 is no guidance and evaluates one branch; 0 ignores the condition.
Combines with: any edit on either branch; other mixes, by adding their terms.
Forwards per step: 1.
"""

from __future__ import annotations

from collections.abc import Callable

from sfumato.core.branch import Branch, Mix, Weight, as_mix
from sfumato.core.level import Level

__all__ = ["classifier_free", "in_interval"]


def classifier_free(text: Branch, none: Branch, scale: Weight) -> Mix:
    """none + scale * (text - none).

    Args:
        text: the branch with the condition.
        none: the branch with the explicit null, or with the negative prompt.
        scale: 1 is no guidance; a number, or one an image (B,).

    Returns:
        a mix whose weights sum to 1.

    Paper: Classifier-Free Diffusion Guidance (Ho & Salimans, 2022), arXiv:2207.12598, equation 6.
    Differs from the paper: scale = w + 1, the convention of Imagen and Stable Diffusion.
    """
    return none + scale * (text - none)


def in_interval(guided: Mix, plain: Branch | Mix, start: float, stop: float) -> Callable[[Level], Mix]:
    """One mix over a part of the path, and another outside it.

    Args:
        guided: where start <= progress < stop.
        plain: everywhere else, usually the conditional branch.
        start: share of the path, in [0, 1); 0 is pure noise.
        stop: share of the path, in (start, 1]; 1 is the clean end.

    Returns:
        a function from a level of a path to a mix, for ``Guided``.

    Raises:
        ValueError: no interval; or, in the call, a level outside a path (progress is None).

    Paper: Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models
        (Kynkaanniemi et al., 2024), arXiv:2404.07724, equation 5.
    Differs from the paper: the interval is one of path shares, not of sigma / alpha.
    """
    if not 0 <= start < stop <= 1:
        raise ValueError(f"needs 0 <= start < stop <= 1, got {start} and {stop}")

    def mix(level: Level) -> Mix:
        if level.progress is None:
            raise ValueError("interval guidance needs a level of a path, which knows its progress")
        return guided if start <= level.progress < stop else as_mix(plain)

    return mix
