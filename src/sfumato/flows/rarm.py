"""Pictures code by code: draw each code under the pictures in C, then decode.

    l   = l_0 + guidance * (l_C - l_0)           logits of the next code; l_0 under zeros in place of C
    s_i = argmax over v of l(v) / temperature + g(v),    g = -log(-log u),  u uniform in (0, 1)

The maximum is a draw from softmax(l / temperature). Its numbers u belong to a picture's seed, so that a picture is the
same in any batch, and the same u under another guidance or temperature change few codes.

Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, sections 3.2 and 3.3; top-p:
    The Curious Case of Neural Text Degeneration (Holtzman et al., 2020), arXiv:1904.09751, section 3.1.
Forwards per step: 1 a code, of twice the pictures with guidance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.checkpoints.rarm import RarmParts
from sfumato.core.noise import Noise
from sfumato.networks.rarm import Rarm

__all__ = ["Drawing", "draw_codes", "rarm"]


@dataclass(frozen=True)
class Drawing:
    """How a code is drawn.

    Args:
        temperature: the logits are divided by it, >= 0; 0 takes the likeliest code.
        top_k: only the likeliest so many, >= 1; None: all.
        top_p: only the fewest that are likely by so much together, in (0, 1]; 1: all.

    Raises:
        ValueError: a number out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be at least 0 and finite, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")

    def __call__(self, logits: Tensor, noise: Noise) -> Tensor:
        """Draw one code a picture.

        Args:
            logits: (B, V).
            noise: one seed a picture.

        Returns:
            (B,) int64 in [0, V).
        """
        if self.temperature == 0:
            return logits.argmax(-1)
        likely = _likeliest(logits.double() / self.temperature, self.top_k, self.top_p)
        return (likely - (-noise.uniform(logits.shape).log()).log().to(likely.device)).argmax(-1)


def rarm(
    parts: RarmParts,
    vectors: Tensor,
    *,
    seeds: Sequence[int],
    guidance: float | Sequence[float] = 1.0,
    drawing: Drawing | None = None,
    watch: Callable[[], None] | None = None,
) -> Tensor:
    """Make pictures under the vectors of others.

    Args:
        parts: network, codec, and how vectors become C.
        vectors: (B or 1, k, D) embeddings of k >= 1 pictures or texts, as their encoder gave them; k need not be that
            of the training.
        seeds: B seeds, one a picture; picture i depends on its vectors and its seed alone, to rounding.
        guidance: scale, one for all or one a picture; 1: none, above 1: more like C, 0: C is not heard.
        drawing: how a code is drawn; None: from the whole distribution.
        watch: called after each code.

    Returns:
        pictures (B, 3, H, W), float32, in [-1, 1].

    Raises:
        ValueError: another number of contexts or scales than of seeds, or vectors of another width.
    """
    with torch.no_grad():
        context, drawn = parts.neighbours(vectors), drawing or Drawing()
        return parts.codec.decode(draw_codes(parts.rarm, context, Noise(seeds), guidance, drawn, watch))


def draw_codes(
    network: Rarm,
    context: Tensor,
    noise: Noise,
    guidance: float | Sequence[float],
    drawing: Drawing,
    watch: Callable[[], None] | None = None,
) -> Tensor:
    """Draw all codes of pictures.

    Args:
        network: gives the logits.
        context: C (B or 1, k, D).
        noise: one seed a picture.
        guidance: scale, one for all or one a picture; 1: none.
        drawing: how a code is drawn.
        watch: called after each code.

    Returns:
        (B, length) int64 in [0, V), in the order of reading.

    Raises:
        ValueError: another number of contexts or scales than of seeds, or of another width.
    """
    count = len(noise.seeds)
    if context.ndim != 3 or len(context) not in (1, count):
        raise ValueError(f"{count} seeds need a context of shape ({count} or 1, k, D), got {tuple(context.shape)}")
    scales = torch.as_tensor(guidance, dtype=torch.float32, device=network.device).reshape(-1, 1)
    if len(scales) not in (1, count):
        raise ValueError(f"there are {len(scales)} scales of guidance for {count} pictures; give one, or one a picture")
    told = context.to(network.device).expand(count, -1, -1)
    branches = told if bool((scales == 1).all()) else torch.cat([told, torch.zeros_like(told)])
    repeats = len(branches) // count
    logits, cache = network.begin(branches)
    codes: list[Tensor] = []
    while True:
        codes.append(drawing(_guided(logits, scales) if repeats == 2 else logits, noise))
        if watch is not None:
            watch()
        if len(codes) == network.length:
            return torch.stack(codes, 1)
        logits, cache = network.go_on(codes[-1].repeat(repeats), cache)


def _guided(logits: Tensor, scales: Tensor) -> Tensor:
    """l_0 + w (l_C - l_0) of logits (2 B, V), those under C first, and scales w (B or 1, 1)."""
    told, null = logits.unflatten(0, (2, -1))
    return null + scales * (told - null)


def _likeliest(logits: Tensor, top_k: int | None, top_p: float) -> Tensor:
    """The logits (B, V), minus infinity for codes that are not drawn; the likeliest code always is."""
    ordered, places = logits.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        ordered[:, top_k:] = -torch.inf
    share = ordered.softmax(-1)
    ordered = ordered.masked_fill(share.cumsum(-1) - share >= top_p, -torch.inf) if top_p < 1 else ordered
    return torch.empty_like(logits).scatter(-1, places, ordered)
