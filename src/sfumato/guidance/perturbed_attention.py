"""Perturbed-attention guidance: move away from the estimate that a damaged network makes.

Self-attention maps carry an image's structure. With some of them replaced by the identity, the network makes an
estimate of the same texture and a worse structure; what separates the two is structure:

    x0 = text + scale * (text - perturbed)                                     alone, works without a prompt
    x0 = none + w * (text - none) + scale * (text - perturbed)                 with classifier-free guidance

The second line is the first one's term added to another mix. The perturbed branch has the same condition as ``text``,
and its other edits, but for those that only look.
Combines with: other mixes, by adding the term; any edit; any wrapper.
Forwards per step: 1; one branch more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sfumato.core.attention import AttentionEdit
from sfumato.core.branch import Branch, Mix, Weight

__all__ = ["perturbation"]


def perturbation(text: Branch, perturb: AttentionEdit, scale: Weight) -> Callable[[Mix], Mix]:
    """A function that adds scale * (text - perturbed) to a mix.

    Args:
        text: the branch to be moved, whatever its condition.
        perturb: what damages it: ``IdentityAttention()``.
        scale: >= 0, 0 is none; 3 in the paper. A number, or one an image (B,).

    Returns:
        mix to mix; weights that summed to 1 still do.

    Paper: Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance (Ahn et al., 2024), arXiv:2403.17377,
        equations 13 and 16.
    """
    edits = tuple(edit for edit in text.edits if not edit.passive)
    perturbed = replace(text, edits=(*edits, perturb), name=f"perturbed({text!r})")
    term = scale * (text - perturbed)
    return lambda mix: mix + term
