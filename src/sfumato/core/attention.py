"""Attention edits, and the call argument by which they reach the layers of a network.

An edit belongs to a branch. ``DenoisingModel`` knows which rows of the batch are whose and says so in an
:class:`AttentionCall`, which travels as an argument of the forward pass to every attention layer; nothing is patched.
The layers' side is in ``sfumato.core.processor``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from sfumato.core.level import Level

__all__ = [
    "LARGEST_SELF_GRID",
    "AttentionCall",
    "AttentionEdit",
    "Group",
    "Layer",
    "Site",
    "check_edits",
    "keyword",
    "merged",
]

LARGEST_SELF_GRID = 64


class Layer(Protocol):
    """Whatever knows the name of an attention layer."""

    @property
    def name(self) -> str:
        """Dotted path inside the network, such as ``mid_block.attentions.0.transformer_blocks.0.attn2``."""
        ...


@dataclass(frozen=True)
class Site:
    """One attention layer during one forward pass.

    Args:
        kind: "self" (image to image), "cross" (image to text), "joint" (both sequences together).
        grid: height and width of the image queries; Q = height * width.
        text: the part of the K keys that is text.
        image: the part of the K keys that is image.
        layer: knows the layer's name.
    """

    kind: Literal["self", "cross", "joint"]
    grid: tuple[int, int]
    text: slice
    image: slice
    layer: Layer

    @property
    def name(self) -> str:
        """The layer's name; do not read it in a stage when compiling, for that makes a graph of each layer."""
        return self.layer.name


class AttentionEdit:
    """A change to attention, for the rows of the branch it is attached to and no others.

    ``context``, ``scores`` and ``weights`` are stages of one attention layer, in this order; each defaults to "no
    change". With several edits on a branch, each stage runs all edits in tuple order. An edit never learns where its
    rows lie in the batch, how many branches share the pass, or how often it has been called. A reduction inside an edit
    must be per image, never over B.

    Shapes: B images of the branch, H heads, Q queries (grid height * width), K keys, D channels. An edit that is made
    for the L tokens of a text meets K >= L keys, the first L being its own: the longest text of a pass sets K.

    Attributes:
        bypass: attention is the identity: rows skip scores, softmax and weights, and return the projected values of
            their own context. Self-attention only.
        passive: it only looks, and changes nothing; a copy of its branch is made without it.
        grows: the context stage puts further keys after the K, and the edit takes the last columns for its own; one
            such edit a branch.
    """

    bypass: bool = False
    passive: bool = False
    grows: bool = False

    def active(self, level: Level) -> bool:
        """Whether the edit takes part in this forward pass; asked in Python, before it.

        Args:
            level: level of the pass; windows use its progress, which is None outside a path.
        """
        return True

    def applies(self, site: Site) -> bool:
        """Whether the edit concerns this layer; a static choice."""
        return True

    def context(self, keys: Tensor, values: Tensor, site: Site) -> tuple[Tensor, Tensor]:
        """Change what is attended to: (B, K, D) each, before projection.

        Further keys and values may be put after the K; they are not masked, and the scores and maps that later stages
        see get columns for them after those of the K.
        """
        return keys, values

    def scores(self, scores: Tensor, site: Site, ratio: Tensor) -> Tensor:
        """Change the scores (B, H, Q, K), before the padding mask and softmax.

        Args:
            scores: scaled products of queries and keys, float32.
            site: the layer.
            ratio: sigma / alpha of the level, shape (), >= 0, infinite at pure noise.
        """
        return scores

    def weights(self, weights: Tensor, site: Site) -> Tensor:
        """Change the attention maps (B, H, Q, K), after softmax; float32."""
        return weights

    def fused(self) -> bool:
        """Whether this edit leaves scores and weights alone, so that they need not be materialised."""
        kind = type(self)
        return kind.scores is AttentionEdit.scores and kind.weights is AttentionEdit.weights


Group = tuple[int, int, tuple[AttentionEdit, ...]]
"""First row, row after the last, and the edits of the rows between."""


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """What the attention layers are told in one forward pass.

    Args:
        groups: rows and their edits; adjoining and together the whole batch.
        size: height and width of x; (1, Q) queries are assumed where x is no image and this is None.
        ratio: sigma / alpha of the level, shape (), float32, on the network's device.
        trace: where layers note that they were reached, when a model is probed.
    """

    groups: tuple[Group, ...]
    size: tuple[int, int] | None
    ratio: Tensor
    trace: list[Site] | None = None


def merged(groups: Iterable[Group]) -> tuple[Group, ...]:
    """The same groups, with unedited neighbours put together."""
    result: list[Group] = []
    for first, last, edits in groups:
        if result and not edits and not result[-1][2]:
            first = result.pop()[0]
        result.append((first, last, edits))
    return tuple(result)


def keyword(call: AttentionCall | None) -> dict[str, AttentionCall] | None:
    """The value of diffusers' ``cross_attention_kwargs`` or ``joint_attention_kwargs`` that carries a call."""
    return None if call is None else {"call": call}


def check_edits(edits: tuple[AttentionEdit, ...], sites: tuple[Site, ...]) -> None:
    """Refuse edits that would do nothing, or would need too much memory.

    Args:
        edits: the edits of one branch.
        sites: the layers that a call reaches.

    Raises:
        ValueError: an edit applies to no layer, or to the scores of self-attention on a grid above 64 x 64; or two
            edits put further keys into a context.
    """
    growing = [type(edit).__name__ for edit in edits if edit.grows]
    if len(growing) > 1:
        raise ValueError(
            f"{len(growing)} edits ({', '.join(growing)}) put further contexts beside the prompt's, as regions and "
            "conjunctions do, and each takes the last ones for its own; give a branch one of them"
        )
    for edit in edits:
        name = type(edit).__name__
        chosen = [site for site in sites if edit.applies(site)]
        if not chosen:
            raise ValueError(f"edit {name} matches no layer of this network, which has {_kinds(sites)}")
        large = [s for s in chosen if s.kind == "self" and s.grid[0] * s.grid[1] > LARGEST_SELF_GRID**2]
        if large and not (edit.bypass or edit.fused()):
            height, width = large[0].grid
            raise ValueError(
                f"edit {name} would hold {height * width} x {height * width} scores an image and head in "
                f"{large[0].name}; let its `applies` refuse self-attention grids above {LARGEST_SELF_GRID}"
            )


def _kinds(sites: tuple[Site, ...]) -> str:
    if not sites:
        return "no attention layer that edits can reach"
    found = sorted({f"{site.kind} {site.grid[0]}x{site.grid[1]}" for site in sites})
    return "attention at " + ", ".join(found)
