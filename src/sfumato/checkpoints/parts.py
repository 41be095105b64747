"""What a checkpoint is once loaded: independent parts, not a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sfumato.core.codec import LatentCodec, PixelCodec
from sfumato.core.model import DenoisingModel
from sfumato.encoders.joint import NeighbourTokens
from sfumato.encoders.text import TextEncoder
from sfumato.networks.unet import UNetNetwork

__all__ = ["Parts"]


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of a text-to-image checkpoint.

    Args:
        model: evaluates branches; its network is a ``UNetNetwork``.
        codec: between pictures (B, 3, H, W) in [-1, 1] and what the model denoises.
        text: prompts to conditions.
        scheduler: the scheduler settings that it was published with.
        size: height and width, in pixels, of the pictures that it was trained on.
        name: what it was loaded by: "emoji", or the name of its folder.
        neighbours: how it takes embeddings of pictures in; None: it takes none.
    """

    model: DenoisingModel
    codec: LatentCodec | PixelCodec
    text: TextEncoder
    scheduler: Mapping[str, Any]
    size: tuple[int, int]
    name: str = ""
    neighbours: NeighbourTokens | None = None

    @property
    def network(self) -> UNetNetwork:
        """The model's network.

        Raises:
            TypeError: the model was built with another kind of network.
        """
        if not isinstance(self.model.network, UNetNetwork):
            raise TypeError(f"expected a UNetNetwork, got {type(self.model.network).__name__}")
        return self.model.network

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.unet.device

    def to(self, target: torch.device | str | torch.dtype) -> Parts:
        """Move all weights to a device, or cast them to a floating-point dtype; in place, as torch modules do.

        The codec stays float32 when its checkpoint says that half precision overflows (``force_upcast``) and the target
        is float16.

        Returns:
            itself.
        """
        self.network.unet.to(target)
        for encoder in self.text.encoders:
            encoder.module.to(target)
        if isinstance(self.codec, LatentCodec):
            overflows = target == torch.float16 and getattr(self.codec.vae.config, "force_upcast", False)
            self.codec.vae.to(torch.float32 if overflows else target)
        return self
