"""What a network is conditioned on, by the way it takes it in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["EXTRAS", "Condition"]

EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "class": "class number, (B,) int64",
        "augment": "noise level of a low-resolution channel condition, (B,)",
        "guidance": "guidance scale that a distilled network is told, (B,)",
        "size": "SDXL's original height, width, crop top, crop left, target height, width, in pixels, (B, 6)",
    }
)


def _nothing() -> Mapping[str, Tensor]:
    return MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Condition:
    """Everything a network can take in beside x and the time; an absent field is one that the network does not have.

    "Unconditional" is never an absent field but an explicit null that an encoder makes: the encoding of "", zero
    neighbours, zero channels.

    Args:
        tokens: (B, L, D), attended to by cross-attention.
        token_mask: (B, L) bool, True where a token is valid; None means that all are.
        vector: (B, D), added to the time embedding.
        channels: (B, C, H, W), concatenated to x: a low-resolution image, a mask, source latents.
        extras: (B, ...) each, under the names in ``EXTRAS``.

    Raises:
        ValueError: a shape that is not as above, different numbers of images, or an unknown extra.
    """

    tokens: Tensor | None = None
    token_mask: Tensor | None = None
    vector: Tensor | None = None
    channels: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=_nothing)

    def __post_init__(self) -> None:
        for name, ndim in (("tokens", 3), ("token_mask", 2), ("vector", 2), ("channels", 4)):
            value = getattr(self, name)
            if value is not None and value.ndim != ndim:
                raise ValueError(f"{name} must have {ndim} dimensions, got shape {tuple(value.shape)}")
        if self.token_mask is not None and (self.tokens is None or self.token_mask.shape != self.tokens.shape[:2]):
            raise ValueError("token_mask must have the shape (B, L) of the tokens")
        unknown = sorted(set(self.extras) - set(EXTRAS))
        if unknown:
            raise ValueError(f"unknown extra {unknown[0]!r}; known are {', '.join(EXTRAS)}")
        if len({len(value) for value in self._fields().values()}) > 1:
            sizes = {name: len(value) for name, value in self._fields().items()}
            raise ValueError(f"all fields of a condition must have the same number of images, got {sizes}")

    @property
    def count(self) -> int | None:
        """Number of images B; None for the empty condition, which fits any number."""
        return next((len(value) for value in self._fields().values()), None)

    def replace(self, **fields: Any) -> Condition:
        """A copy with other values in some fields, checked again."""
        return replace(self, **fields)

    def rows(self, index: slice | Tensor | Sequence[int]) -> Condition:
        """The images at ``index``, in that order.

        Args:
            index: a slice, or numbers in [0, B), shape (N,); they may repeat, so ``rows([0] * 4)`` serves four images.

        Returns:
            a condition for those N images.
        """
        chosen = index if isinstance(index, slice | Tensor) else list(index)
        return self._map(lambda value: value[chosen])

    def to(self, target: torch.device | str | torch.dtype) -> Condition:
        """A copy on a device; or with tokens, vector and channels (but not extras) in a dtype."""
        if not isinstance(target, torch.dtype):
            return self._map(lambda value: value.to(target))
        cast = {name: None if value is None else value.to(target) for name, value in self._floats().items()}
        return replace(self, **cast)

    @staticmethod
    def cat(parts: Sequence[Condition]) -> Condition:
        """Put the images of several conditions after one another.

        Tokens of different lengths are padded with zeros and masked; the mask stays None when all lengths agree and
        no part has one, which keeps fused attention.

        Raises:
            ValueError: no parts; or one part has a field that another lacks.
        """
        if len(parts) == 1:
            return parts[0]
        if not parts:
            raise ValueError("cat needs at least one condition")
        names = [frozenset(part._fields()) - {"token_mask"} for part in parts]
        if len(set(names)) > 1:
            lacking = sorted(frozenset.union(*names) - frozenset.intersection(*names))
            raise ValueError(f"{', '.join(lacking)}: some conditions have it, others not; give those an explicit null")
        tokens, mask = _cat_tokens(parts)
        return Condition(
            tokens=tokens,
            token_mask=mask,
            vector=_cat([part.vector for part in parts]),
            channels=_cat([part.channels for part in parts]),
            extras={name: torch.cat([part.extras[name] for part in parts]) for name in parts[0].extras},
        )

    def _floats(self) -> dict[str, Tensor | None]:
        return {"tokens": self.tokens, "vector": self.vector, "channels": self.channels}

    def _fields(self) -> dict[str, Tensor]:
        named = {**self._floats(), "token_mask": self.token_mask, **self.extras}
        return {name: value for name, value in named.items() if value is not None}

    def _map(self, change: Callable[[Tensor], Tensor]) -> Condition:
        named = {**self._floats(), "token_mask": self.token_mask}
        changed = {name: None if value is None else change(value) for name, value in named.items()}
        return Condition(**changed, extras={name: change(value) for name, value in self.extras.items()})


def _cat(values: Sequence[Tensor | None]) -> Tensor | None:
    present = [value for value in values if value is not None]
    return torch.cat(present) if present else None


def _cat_tokens(parts: Sequence[Condition]) -> tuple[Tensor | None, Tensor | None]:
    tokens = [part.tokens for part in parts if part.tokens is not None]
    if not tokens:
        return None, None
    longest = max(value.shape[1] for value in tokens)
    padded = torch.cat([F.pad(value, (0, 0, 0, longest - value.shape[1])) for value in tokens])
    if all(part.token_mask is None for part in parts) and len({value.shape[1] for value in tokens}) == 1:
        return padded, None
    masks = [
        part.token_mask if part.token_mask is not None else value.new_ones(value.shape[:2], dtype=torch.bool)
        for part, value in zip(parts, tokens, strict=True)
    ]
    return padded, torch.cat([F.pad(mask, (0, longest - mask.shape[1])) for mask in masks])
