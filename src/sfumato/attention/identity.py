"""Identity attention: each image position attends to itself only.

Self-attention maps carry an image's structure. Replacing them by the identity makes an estimate with the same texture
and a worse structure, away from which perturbed-attention guidance moves:

    A = softmax(Q K^T / sqrt(d))  becomes  A = I, so that the output is V

No Q x Q matrix is built. Combines with: any mix and any edit of cross-attention.
Forwards per step: 1, as a branch of the mix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sfumato.core.attention import AttentionEdit, Site

__all__ = ["IdentityAttention", "middle"]


def middle(site: Site) -> bool:
    """Whether a layer belongs to the middle block of a U-Net, where the paper perturbs Stable Diffusion."""
    return site.name.startswith("mid_block.")


@dataclass(frozen=True)
class IdentityAttention(AttentionEdit):
    """Self-attention that returns its values.

    Args:
        where: which self-attention layers; the middle block's by default. Asked for each layer by
            :class:`~sfumato.core.attention.Site`, whose name makes a graph of each layer when compiling.

    Raises:
        ValueError: by the model, where no layer is chosen.

    Paper: Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance (Ahn et al., 2024), arXiv:2403.17377,
        section 4.
    Differs from the paper: no.
    """

    where: Callable[[Site], bool] = middle
    bypass = True

    def applies(self, site: Site) -> bool:
        """Whether this is a chosen self-attention layer."""
        return site.kind == "self" and self.where(site)
