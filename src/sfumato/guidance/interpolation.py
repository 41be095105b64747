"""Interpolation between two images: along the sphere in noise and in embeddings, along the line in token states.

    slerp(a, b; s) = sin((1 - s) w) / sin w * a + sin(s w) / sin w * b,    cos w = <a, b> / (|a| |b|)

Normal noise of many dimensions lies near a sphere, and what lies on the line between two points of it is too short to
be noise: networks answer with blur. slerp keeps the length. Token states are no such thing; their mean is as good as
they are.

Combines with: everything; it makes starts and conditions.
Forwards per step: 0 of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.core.condition import Condition

__all__ = ["lerp_conditions", "slerp"]

_PARALLEL = 1e-4


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """The way from one vector to another along a sphere, image by image.

    Args:
        first: (B, ...), each image one vector.
        second: same shape.
        share: of the way, in [0, 1]; the ends are exact.

    Returns:
        (B, ...); a straight line where the vectors point the same way or opposite ways.

    Raises:
        ValueError: another shape, or a share out of range.

    Paper: Hierarchical Text-Conditional Image Generation with CLIP Latents (Ramesh et al., 2022), arXiv:2204.06125,
        section 3.2.
    """
    if first.shape != second.shape or not 0 <= share <= 1:
        raise ValueError(f"needs equal shapes and a share in [0, 1], got {tuple(first.shape)}, {tuple(second.shape)}")
    if share in (0, 1):
        return second if share else first
    a, b = first.flatten(1).double(), second.flatten(1).double()
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1, 1)[:, None]
    angle = cosine.acos()
    sine = angle.sin()
    straight = sine < _PARALLEL
    safe = torch.where(straight, 1.0, sine)
    left = torch.where(straight, 1 - share, ((1 - share) * angle).sin() / safe)
    right = torch.where(straight, share, (share * angle).sin() / safe)
    return (left * a + right * b).to(first.dtype).reshape(first.shape)


def lerp_conditions(first: Condition, second: Condition, share: float) -> Condition:
    """The way from one condition to another: tokens along a line, vectors along a sphere.

    Where one has more valid tokens than the other, its surplus is mixed with zeros while it is seen by both ends.

    Args:
        first: for B images.
        second: the same fields, for B images.
        share: of the way, in [0, 1]; the ends are exact.

    Raises:
        ValueError: different fields, channels or extras that differ, or a share out of range.

    Paper: Hierarchical Text-Conditional Image Generation with CLIP Latents (Ramesh et al., 2022), arXiv:2204.06125,
        section 3.2.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"needs a share in [0, 1], got {share}")
    if share in (0, 1):
        return second if share else first
    joined = Condition.cat([first, second])
    count = first.count or 0
    if joined.channels is not None or any(not torch.equal(v[:count], v[count:]) for v in joined.extras.values()):
        raise ValueError("only tokens and vectors can be interpolated; channels and extras must be absent or equal")
    tokens, mask, vector = joined.tokens, joined.token_mask, joined.vector
    if tokens is not None:
        valid = tokens if mask is None else tokens * mask[..., None]
        tokens = torch.lerp(valid[:count], valid[count:], share)
    return Condition(
        tokens=tokens,
        token_mask=None if mask is None else mask[:count] | mask[count:],
        vector=None if vector is None else slerp(vector[:count], vector[count:], share),
        extras={name: value[:count] for name, value in joined.extras.items()},
    )
