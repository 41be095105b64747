"""What a network's output means: noise, clean image, v or flow, and the way from each to the clean estimate and back.

With ``x = alpha * x0 + sigma * noise``:

| kind    | output                       | x0                                                    |
|---------|------------------------------|-------------------------------------------------------|
| "noise" | noise                        | (x - sigma * output) / alpha                          |
| "x0"    | x0                           | output                                                |
| "v"     | alpha * noise - sigma * x0   | (alpha * x - sigma * output) / (alpha^2 + sigma^2)    |
| "flow"  | noise - x0                   | (x - sigma * output) / (alpha + sigma)                |

The forms hold for any alpha and sigma; alpha^2 + sigma^2 = 1 and alpha + sigma = 1 are the two families they come from.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from sfumato.core.level import Level, along

__all__ = ["Prediction", "add_score", "from_x0", "noised", "score", "target", "to_noise", "to_x0"]

Prediction = Literal["noise", "x0", "v", "flow"]


def noised(x0: Tensor, noise: Tensor, level: Level) -> Tensor:
    """Bring clean data to a level: alpha * x0 + sigma * noise.

    Args:
        x0: clean data (B, ...).
        noise: standard normal, same shape.
        level: shape () or (B,).
    """
    return along(level.alpha, x0) * x0 + along(level.sigma, x0) * noise


def to_x0(kind: Prediction, output: Tensor, x: Tensor, level: Level) -> Tensor:
    """The clean estimate that a network output stands for.

    Args:
        kind: what the network predicts.
        output: network output (B, ...).
        x: the noisy input that it was computed from, same shape.
        level: level of x, shape () or (B,).

    Returns:
        x0 (B, ...).

    Raises:
        ValueError: noise prediction at alpha = 0, where x holds no signal; or an unknown kind.
    """
    alpha, sigma = along(level.alpha, x), along(level.sigma, x)
    match kind:
        case "x0":
            return output
        case "noise":
            if bool((level.alpha == 0).any()):
                raise ValueError("this checkpoint cannot start at pure noise (alpha = 0) with noise prediction")
            return (x - sigma * output) / alpha
        case "v":
            return (alpha * x - sigma * output) / (alpha**2 + sigma**2)
        case "flow":
            return (x - sigma * output) / (alpha + sigma)
    raise _unknown(kind)


def from_x0(kind: Prediction, x0: Tensor, x: Tensor, level: Level) -> Tensor:
    """The network output that would stand for a clean estimate; the inverse of :func:`to_x0`.

    Args:
        kind: what the network predicts.
        x0: clean estimate (B, ...).
        x: noisy input, same shape.
        level: level of x, shape () or (B,).

    Returns:
        output (B, ...).

    Raises:
        ValueError: at sigma = 0, where x says nothing about noise; or an unknown kind.
    """
    if kind == "x0":
        return x0
    if bool((level.sigma == 0).any()):
        raise ValueError(f"a clean level (sigma = 0) has no {kind} prediction")
    return target(kind, x0, (x - along(level.alpha, x) * x0) / along(level.sigma, x), level)


def to_noise(x: Tensor, x0: Tensor, level: Level) -> Tensor:
    """The noise in x beside a clean estimate: (x - alpha * x0) / sigma, (B, ...).

    Raises:
        ValueError: at sigma = 0.
    """
    return from_x0("noise", x0, x, level)


def score(x: Tensor, x0: Tensor, level: Level) -> Tensor:
    """The gradient of log p(x) at a level by Tweedie's formula: (alpha * x0 - x) / sigma^2.

    Args:
        x: (B, ...) at the level.
        x0: clean estimate, same shape.
        level: shape () or (B,), with sigma > 0.

    Returns:
        (B, ...); minus the noise, divided by sigma.
    """
    return (along(level.alpha, x) * x0 - x) / along(level.sigma, x) ** 2


def add_score(x0: Tensor, change: Tensor, level: Level) -> Tensor:
    """The clean estimate after the score has changed: x0 + sigma^2 / alpha * change.

    A gradient of log p(y | x) added here makes the estimate of p(x) that of p(x | y), by Bayes' rule.

    Args:
        x0: clean estimate (B, ...).
        change: what is added to the score, same shape.
        level: shape () or (B,), with alpha > 0.

    Returns:
        x0 (B, ...).
    """
    return x0 + along(level.sigma**2 / level.alpha, x0) * change


def target(kind: Prediction, x0: Tensor, noise: Tensor, level: Level) -> Tensor:
    """What a network should output in training for ``noised(x0, noise, level)``.

    Args:
        kind: what the network predicts.
        x0: clean data (B, ...).
        noise: the noise that was added, same shape.
        level: shape () or (B,).

    Returns:
        target (B, ...).

    Raises:
        ValueError: an unknown kind.
    """
    match kind:
        case "x0":
            return x0
        case "noise":
            return noise
        case "v":
            return along(level.alpha, x0) * noise - along(level.sigma, x0) * x0
        case "flow":
            return noise - x0
    raise _unknown(kind)


def _unknown(kind: str) -> ValueError:
    return ValueError(f"unknown prediction {kind!r}; known are 'noise', 'x0', 'v' and 'flow'")
