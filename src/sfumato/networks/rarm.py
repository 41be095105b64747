"""A picture's codes one after the other, under pictures that are like it: the autoregressive twin of a denoiser.

    log p(s | C) = sum over i of log p(s_i | s_1, ..., s_(i-1), C)

with s the codes of a vector-quantised picture in the order of reading, and C the vectors of its neighbours in a memory.
A causal transformer: each layer attends to the codes before, then to C, which has no order and may have any length.
Keys and values of C have no bias, so that C of zeros adds the same as no C at all, whatever its length.

Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

__all__ = ["Cache", "Rarm", "log_likelihood"]

_STD = 0.02
_WIDEST, _DEEPEST, _LONGEST, _MOST_CODES = 8192, 64, 65_536, 262_144


@dataclass(frozen=True, eq=False)
class _Pair:
    """Keys and values (B, heads, n, d) of one layer's attention."""

    keys: Tensor
    values: Tensor

    def followed_by(self, other: _Pair) -> _Pair:
        return _Pair(torch.cat([self.keys, other.keys], 2), torch.cat([self.values, other.values], 2))


@dataclass(frozen=True, eq=False)
class Cache:
    """What a network has read of B pictures: nothing in it changes, going on makes another.

    Args:
        context: of each layer, keys and values (B, heads, k, d) of C.
        codes: of each layer, keys and values (B, heads, n + 1, d) of the start and the first n codes.
    """

    context: tuple[_Pair, ...]
    codes: tuple[_Pair, ...]


class Rarm(ModelMixin, ConfigMixin):
    """The network; no picture depends on another.

    Args:
        codes: V, of the codebook.
        length: codes of a picture.
        context_width: length D of a vector of C.
        width: of the transformer; a multiple of ``heads``.
        layers: each of self-attention, attention to C, and two linear layers four times as wide.
        heads: of an attention.

    Raises:
        ValueError: a size that no honest network has, or a width that the heads do not divide.
    """

    @register_to_config
    def __init__(
        self, codes: int, length: int, context_width: int, width: int = 192, layers: int = 6, heads: int = 6
    ) -> None:
        super().__init__()
        sizes = {"codes": (codes, _MOST_CODES), "length": (length, _LONGEST), "context_width": (context_width, _WIDEST)}
        _check({**sizes, "width": (width, _WIDEST), "layers": (layers, _DEEPEST), "heads": (heads, width)})
        if width % heads:
            raise ValueError(f"the width must be a multiple of the heads, got {width} and {heads}")
        self.start = nn.Parameter(torch.empty(width))
        self.places = nn.Parameter(torch.empty(length, width))
        self.embedding = nn.Embedding(codes, width)
        self.blocks = nn.ModuleList([_Layer(width, heads, context_width) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, codes, bias=False)
        for weight in self.parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=_STD)
        nn.init.normal_(self.start, std=_STD)

    @property
    def codes(self) -> int:
        """Codes V of the codebook."""
        return self.embedding.num_embeddings

    @property
    def length(self) -> int:
        """Codes of a picture."""
        return len(self.places)

    @property
    def context_width(self) -> int:
        """Length D of a vector of C."""
        return int(self.config["context_width"])

    def forward(self, codes: Tensor, context: Tensor) -> Tensor:
        """The logits of the first code, and of each that follows those that are given.

        Args:
            codes: (B, n) int64 in [0, V), the first n of a picture, 0 <= n < ``length``.
            context: C (B, k, D), k >= 1; no order.

        Returns:
            (B, n + 1, V), float32; those at place i depend on C and the codes before i alone.

        Raises:
            ValueError: other shapes, or as many codes as a picture has.
        """
        if codes.ndim != 2 or codes.shape[1] >= self.length:
            raise ValueError(f"expected (B, n) codes with n < {self.length}, got shape {tuple(codes.shape)}")
        pairs = self._pairs(context, len(codes))
        start = self.start.expand(len(codes), 1, -1)
        x = torch.cat([start, self.embedding(codes)], 1) + self.places[: codes.shape[1] + 1]
        return self._read(x, pairs, None)[0]

    def begin(self, context: Tensor) -> tuple[Tensor, Cache]:
        """The logits of the first code, and what :meth:`go_on` goes on from.

        Args:
            context: C (B, k, D), k >= 1.

        Returns:
            (B, V), float32, and the cache.

        Raises:
            ValueError: another shape.
        """
        pairs = self._pairs(context, len(context))
        x = (self.start + self.places[0]).expand(len(context), 1, -1)
        logits, codes = self._read(x, pairs, None)
        return logits[:, 0], Cache(pairs, codes)

    def go_on(self, code: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Read one more code of each picture.

        Args:
            code: (B,) int64 in [0, V).
            cache: of what was read before.

        Returns:
            the logits (B, V) of the code after it, float32: those of :meth:`forward` for all codes; and the new cache.

        Raises:
            ValueError: the picture has all its codes.
        """
        read = cache.codes[0].keys.shape[2]
        if read >= self.length:
            raise ValueError(f"a picture has {self.length} codes, and the last of them needs not be read")
        logits, codes = self._read(self.embedding(code)[:, None] + self.places[read], cache.context, cache.codes)
        return logits[:, 0], Cache(cache.context, codes)

    def _pairs(self, context: Tensor, count: int) -> tuple[_Pair, ...]:
        width = self.context_width
        if context.ndim != 3 or len(context) != count or context.shape[1] < 1 or context.shape[2] != width:
            raise ValueError(f"expected C of shape ({count}, k, {width}) with k >= 1, got {tuple(context.shape)}")
        return tuple(layer.to_context.pair(context.to(self.start.dtype)) for layer in self._layers)

    def _read(
        self, x: Tensor, context: tuple[_Pair, ...], past: tuple[_Pair, ...] | None
    ) -> tuple[Tensor, tuple[_Pair, ...]]:
        """Logits at the places of x (B, m, width), and keys and values of all that was read; m is 1 after a past."""
        pairs: list[_Pair] = []
        for number, layer in enumerate(self._layers):
            x, pair = layer(x, context[number], None if past is None else past[number])
            pairs.append(pair)
        logits = self.head(self.norm(x))
        return logits.to(torch.promote_types(logits.dtype, torch.float32)), tuple(pairs)

    @property
    def _layers(self) -> list[_Layer]:
        return [layer for layer in self.blocks if isinstance(layer, _Layer)]


class _Attention(nn.Module):
    """Attention with heads, from width to width; keys and values of another width, without biases."""

    def __init__(self, width: int, heads: int, source_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(source_width, width, bias=False)
        self.to_v = nn.Linear(source_width, width, bias=False)
        self.to_out = nn.Linear(width, width)

    def pair(self, source: Tensor) -> _Pair:
        """Keys and values of a source (B, n, source_width)."""
        return _Pair(self._split(self.to_k(source)), self._split(self.to_v(source)))

    def forward(self, x: Tensor, pair: _Pair, causal: bool) -> Tensor:
        """What x (B, m, width) finds; if causal, place i sees places 0 to i."""
        found = F.scaled_dot_product_attention(self._split(self.to_q(x)), pair.keys, pair.values, is_causal=causal)
        return self.to_out(found.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class _Layer(nn.Module):
    """x + self-attention, + attention to C, + two linear layers, each of the normalised x."""

    def __init__(self, width: int, heads: int, context_width: int) -> None:
        super().__init__()
        self.norm_codes, self.norm_context, self.norm_linear = (nn.LayerNorm(width) for _ in range(3))
        self.to_codes = _Attention(width, heads, width)
        self.to_context = _Attention(width, heads, context_width)
        self.linear = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, context: _Pair, past: _Pair | None) -> tuple[Tensor, _Pair]:
        """Go on at the places of x (B, m, width): as many as there are without a past, one after it."""
        normed = self.norm_codes(x)
        own = self.to_codes.pair(normed)
        pair = own if past is None else past.followed_by(own)
        x = x + self.to_codes(normed, pair, causal=past is None)
        x = x + self.to_context(self.norm_context(x), context, causal=False)
        return x + self.linear(self.norm_linear(x)), pair


def log_likelihood(rarm: Callable[[Tensor, Tensor], Tensor], codes: Tensor, context: Tensor) -> Tensor:
    """log p(s | C) of pictures, by one forward pass.

    Args:
        rarm: a :class:`Rarm`, or what wraps one.
        codes: s (B, n) int64 in [0, V), n >= 1.
        context: C (B, k, D).

    Returns:
        (B,) float32, in nats, at most 0.
    """
    logits = rarm(codes[:, :-1], context)
    return -F.cross_entropy(logits.transpose(1, 2), codes, reduction="none").sum(1)


def _check(sizes: dict[str, tuple[int, int]]) -> None:
    for name, (size, largest) in sizes.items():
        if not 1 <= size <= largest:
            raise ValueError(f"{name} must lie in 1 to {largest}, got {size}")
