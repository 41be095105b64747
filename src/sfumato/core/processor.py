"""The one attention processor for diffusers' U-Nets that carries out edits, and its installation.

It is put on the layers once and decides nothing by itself: without an :class:`AttentionCall` it computes what
diffusers' ``AttnProcessor2_0`` computes, and with one it edits the rows that the call names.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.core.attention import AttentionCall, AttentionEdit, Site, merged

__all__ = ["EditableProcessor", "borrowed", "install"]

_STOCK = ("AttnProcessor", "AttnProcessor2_0", "EditableProcessor")


def install(network: nn.Module) -> None:
    """Put the editable processor on every attention layer of a diffusers U-Net, to stay.

    Args:
        network: a model whose attention layers are diffusers' ``Attention`` with stock processors.

    Raises:
        ValueError: a layer has another processor, which may own weights and is not overwritten.
    """
    layers = _layers(network)
    for name, layer in layers.items():
        kind = type(layer.processor).__name__
        if kind not in _STOCK:
            raise ValueError(f"{name} has a {kind}; only the stock processors {_STOCK[0]} and {_STOCK[1]} are replaced")
    for name, layer in layers.items():
        layer.set_processor(EditableProcessor(name))


@contextmanager
def borrowed(network: nn.Module) -> Generator[None]:
    """Install the editable processor for the length of a ``with`` block, and put the former ones back after it.

    Args:
        network: as in :func:`install`.

    Raises:
        ValueError: as in :func:`install`; nothing is changed then.
    """
    layers = _layers(network)
    former = {name: layer.processor for name, layer in layers.items()}
    install(network)
    try:
        yield
    finally:
        for name, layer in layers.items():
            layer.set_processor(former[name])


class EditableProcessor:
    """Computes one attention layer, with the edits of a call.

    Args:
        name: dotted path of the layer in its network.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        call: AttentionCall | None = None,
    ) -> Tensor:
        """Attention from image positions to themselves or to a context.

        Args:
            attn: the layer, diffusers' ``Attention``.
            hidden_states: (R, Q, D) or (R, D, h, w).
            encoder_hidden_states: context (R, K, D'); None for self-attention.
            attention_mask: added to the scores, (R, 1, K); None for no mask.
            temb: time embedding, for layers with a spatial norm.
            call: rows and their edits; None for none.

        Returns:
            the new hidden states, of their shape.

        Raises:
            ValueError: an edit bypasses cross-attention, or Q is no grid of x.
        """
        hidden = hidden_states if attn.spatial_norm is None else attn.spatial_norm(hidden_states, temb)
        if hidden.ndim == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        context = hidden if encoder_hidden_states is None else encoder_hidden_states
        bias = _bias(attn, attention_mask, context)
        if attn.group_norm is not None:
            hidden = attn.group_norm(hidden.transpose(1, 2)).transpose(1, 2)
        if encoder_hidden_states is None:
            context = hidden
        elif attn.norm_cross:
            context = attn.norm_encoder_hidden_states(context)
        if call is None:
            mixed = _attend(attn, attn.to_q(hidden), context, context, bias)
        else:
            kind = "self" if encoder_hidden_states is None else "cross"
            site = Site(kind, _grid(call.size, hidden.shape[1]), slice(None), slice(None), self)
            mixed = _attend_by_group(attn, attn.to_q(hidden), context, bias, call, site)
        return _finish(attn, mixed, hidden_states)


def _attend_by_group(
    attn: Any, query: Tensor, context: Tensor, bias: Tensor | None, call: AttentionCall, site: Site
) -> Tensor:
    if call.trace is not None:
        call.trace.append(site)
    groups = merged(
        (first, last, tuple(edit for edit in edits if edit.applies(site))) for first, last, edits in call.groups
    )
    parts: list[Tensor] = []
    for first, last, edits in groups:
        rows = slice(first, last)
        masked = None if bias is None else bias[rows]
        if edits:
            parts.append(_attend_edited(attn, query[rows], context[rows], masked, edits, site, call.ratio))
        else:
            parts.append(_attend(attn, query[rows], context[rows], context[rows], masked))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _attend_edited(
    attn: Any,
    query: Tensor,
    context: Tensor,
    bias: Tensor | None,
    edits: tuple[AttentionEdit, ...],
    site: Site,
    ratio: Tensor,
) -> Tensor:
    keys = values = context
    for edit in edits:
        keys, values = edit.context(keys, values, site)
    if any(edit.bypass for edit in edits):
        if site.kind != "self":
            raise ValueError(f"only self-attention can be bypassed, and {site.name} is {site.kind}-attention")
        return attn.to_v(values)
    bias = _over(bias, keys.shape[1])
    acting_fused = all(edit.fused() for edit in edits if not edit.passive)
    if acting_fused and all(edit.fused() for edit in edits):
        return _attend(attn, query, keys, values, bias)
    q, k, v = _heads(attn, query, keys, values)
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = q.to(wide) @ k.to(wide).transpose(-1, -2) * q.shape[-1] ** -0.5
    for edit in edits:
        scores = edit.scores(scores, site, ratio)
    weights = (scores if bias is None else scores + bias).softmax(dim=-1)
    for edit in edits:
        weights = edit.weights(weights, site)
    if acting_fused:  # who only looks changes no bit of what is made without it
        return _joined(F.scaled_dot_product_attention(q, k, v, attn_mask=bias))
    return _joined(weights.to(v.dtype) @ v)


def _attend(attn: Any, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    q, k, v = _heads(attn, query, keys, values)
    return _joined(F.scaled_dot_product_attention(q, k, v, attn_mask=bias))


def _heads(attn: Any, query: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (
        projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for projected in (query, attn.to_k(keys), attn.to_v(values))
    )
    q = q if attn.norm_q is None else attn.norm_q(q)
    k = k if attn.norm_k is None else attn.norm_k(k)
    return q, k, v


def _joined(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).flatten(2)


def _finish(attn: Any, mixed: Tensor, residual: Tensor) -> Tensor:
    output = attn.to_out[1](attn.to_out[0](mixed))
    if residual.ndim == 4:
        output = output.transpose(-1, -2).reshape(residual.shape)
    if attn.residual_connection:
        output = output + residual
    return output / attn.rescale_output_factor


def _bias(attn: Any, mask: Tensor | None, context: Tensor) -> Tensor | None:
    if mask is None:
        return None
    rows, keys = context.shape[:2]
    return attn.prepare_attention_mask(mask, keys, rows).view(rows, attn.heads, -1, keys)


def _over(bias: Tensor | None, keys: int) -> Tensor | None:
    """The bias of K keys over more, the added ones unmasked."""
    return bias if bias is None or bias.shape[-1] == keys else F.pad(bias, (0, keys - bias.shape[-1]))


def _grid(size: tuple[int, int] | None, queries: int) -> tuple[int, int]:
    if size is None:
        return (1, queries)
    for factor in (1, 2, 4, 8, 16, 32, 64):
        height, width = -(-size[0] // factor), -(-size[1] // factor)
        if height * width == queries:
            return (height, width)
    raise ValueError(f"{queries} queries are no grid of x of {size[0]} x {size[1]} halved some times")


def _layers(network: nn.Module) -> dict[str, Any]:
    modules = network.named_modules()
    return {name.removeprefix("_orig_mod."): module for name, module in modules if hasattr(module, "set_processor")}
