"""diffusers' ``UNet2DConditionModel`` as a network: a Condition becomes its keyword arguments.

| Condition             | goes to                                                          | networks               |
|-----------------------|------------------------------------------------------------------|------------------------|
| tokens, token_mask    | ``encoder_hidden_states``, ``encoder_attention_mask``            | all                    |
| vector, "size"        | ``added_cond_kwargs``: ``text_embeds``, ``time_ids``             | SDXL                   |
| vector                | ``class_labels``                                                 | unCLIP decoders        |
| "class" or "augment"  | ``class_labels``                                                 | classes, upscalers     |
| "guidance"            | ``timestep_cond``, sines of 1000 (scale - 1)                     | distilled              |
| channels              | concatenated to x                                                | more ``in_channels``   |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

from sfumato.core.attention import AttentionCall, keyword
from sfumato.core.condition import Condition
from sfumato.core.predict import Prediction
from sfumato.core.processor import install

__all__ = ["UNetNetwork"]

_VECTOR_CLASSES = ("projection", "simple_projection", "identity")


@dataclass(frozen=True, eq=False)
class UNetNetwork:
    """A U-Net with cross-attention, with the editable attention processor put on its layers at construction.

    Args:
        unet: a diffusers ``UNet2DConditionModel``.
        prediction: what its output stands for.

    Raises:
        ValueError: an attention layer has a processor of its own kind, which is not overwritten; or the network takes
            in images in a way that no Condition describes.
    """

    unet: Any
    prediction: Prediction = "noise"

    def __post_init__(self) -> None:
        config = self.unet.config
        if config.addition_embed_type not in (None, "text_time"):
            raise ValueError(f"U-Nets with addition_embed_type {config.addition_embed_type!r} are not supported")
        if config.encoder_hid_dim_type not in (None, "text_proj"):
            raise ValueError(f"U-Nets with encoder_hid_dim_type {config.encoder_hid_dim_type!r} are not supported")
        install(self.unet)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its weights, read from the first; diffusers' own ``dtype`` walks through all of them."""
        return next(self.unet.parameters()).dtype

    @property
    def sized(self) -> bool:
        """Whether it is told picture sizes, as SDXL is: the extra "size" is needed."""
        return self.unet.config.addition_embed_type == "text_time"

    def __call__(self, x: Tensor, time: Tensor, condition: Condition, call: AttentionCall | None) -> Tensor:
        """The raw output.

        Args:
            x: (R, C, H, W), in ``dtype``.
            time: (R,), float32.
            condition: R images; tokens are needed.
            call: passed on to the attention layers; None leaves the stock computation.

        Returns:
            (R, C_out, H, W), in ``dtype``.

        Raises:
            ValueError: the condition lacks what the network takes in, or has what it does not.
        """
        if condition.tokens is None:
            raise ValueError("this U-Net attends to tokens, and the condition has none; use an encoder's null")
        return self.unet(
            self._with_channels(x, condition.channels),
            time,
            encoder_hidden_states=condition.tokens,
            encoder_attention_mask=condition.token_mask,
            class_labels=self._class_labels(condition),
            timestep_cond=self._guidance(condition),
            added_cond_kwargs=self._added(condition),
            cross_attention_kwargs=keyword(call),
            return_dict=False,
        )[0]

    def _with_channels(self, x: Tensor, channels: Tensor | None) -> Tensor:
        joined = x if channels is None else torch.cat([x, channels.to(x.dtype)], dim=1)
        if joined.shape[1] != self.unet.config.in_channels:
            extra = 0 if channels is None else channels.shape[1]
            raise ValueError(
                f"this U-Net takes {self.unet.config.in_channels} channels, and got {x.shape[1]} of x and {extra} of "
                "the condition"
            )
        return joined

    def _class_labels(self, condition: Condition) -> Tensor | None:
        by_vector = self.unet.config.class_embed_type in _VECTOR_CLASSES
        given = [condition.extras[name] for name in ("class", "augment") if name in condition.extras]
        given += [condition.vector] if by_vector and condition.vector is not None else []
        needed = by_vector or self.unet.class_embedding is not None
        if len(given) != needed:
            wanted = "a vector" if by_vector else 'one of the extras "class" and "augment"' if needed else "no class"
            raise ValueError(f"this U-Net takes {wanted}, and the condition has {len(given)} such values")
        return given[0] if given else None

    def _guidance(self, condition: Condition) -> Tensor | None:
        width = self.unet.config.time_cond_proj_dim
        if (width is not None) != ("guidance" in condition.extras):
            taken = "is told" if width is not None else "is not told"
            raise ValueError(f'this U-Net {taken} a guidance scale; the extra "guidance" must agree')
        if width is None:
            return None
        told = 1000 * (condition.extras["guidance"].float() - 1)
        return get_timestep_embedding(told, width, downscale_freq_shift=1).to(self.dtype)

    def _added(self, condition: Condition) -> dict[str, Tensor] | None:
        if not self.sized:
            unused = condition.vector is not None and self.unet.config.class_embed_type not in _VECTOR_CLASSES
            if unused or "size" in condition.extras:
                raise ValueError("this U-Net takes no vector and no size, and the condition has one")
            return None
        if condition.vector is None or "size" not in condition.extras:
            raise ValueError('this U-Net takes a vector and the extra "size", and the condition lacks one')
        return {"text_embeds": condition.vector, "time_ids": condition.extras["size"].float()}
