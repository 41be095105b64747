"""Composable diffusion: AND and NOT of concepts, by adding what each of them changes.

A conditional diffusion model is an energy-based model, and if concepts are independent given the image, their scores
add:

    x0 = none + sum of weight_i * (concept_i - none)

A positive weight asks for the concept (AND), a negative one against it (NOT). One concept is classifier-free guidance
with its weight as scale; the same concept twice adds its weights up; +w and -w of one concept cancel.

The sum is the score of the product of the noised densities, which is the noised product only at the clean end; steps of
``sfumato.guidance.langevin`` correct the difference. The formula knows nothing of places: two objects may come out as
one that is both. A sum of the weights' sizes above about 15 makes colours glaring; rescale helps.
Combines with: any edit on any branch; other mixes, by adding their terms; any wrapper.
Forwards per step: 1.
"""

from __future__ import annotations

from sfumato.core.branch import Branch, Mix, Weight, as_mix

__all__ = ["composed"]


def composed(none: Branch, *concepts: tuple[Branch, Weight]) -> Mix:
    """none + sum of weight * (concept - none).

    Args:
        none: the branch with the explicit null.
        concepts: branches with their weights: guidance scales, negative for NOT; a number, or one an image (B,).

    Returns:
        a mix whose weights sum to 1.

    Paper: Compositional Visual Generation with Composable Diffusion Models (Liu et al., 2022), arXiv:2206.01714,
        equations 11 (AND) and 13 (NOT).
    Differs from the paper: NOT has no formula of its own; it is a negative weight, as in the authors' code.
    """
    mix = as_mix(none)
    for concept, weight in concepts:
        mix = mix + weight * (concept - none)
    return mix
