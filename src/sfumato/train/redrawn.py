"""What does not change while a decoder trains: scenes, their latents, and these as the denoiser redraws them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sfumato.train.prepare import cached, over
from sfumato.train.scenes import SceneStream

__all__ = ["RedrawnSet", "prepare_redrawn"]


@dataclass(frozen=True, eq=False)
class RedrawnSet:
    """N scenes as a decoder meets them.

    Args:
        pictures: uint8 (N, 64, 64, 3), what it shall give back.
        encoded: (N, C, h, w) float16, the codec's latents, scaled.
        redrawn: (N, C, h, w) float16, these noised in part and drawn again.
        key: hash of everything that it was computed from, 16 hexadecimal digits.
    """

    pictures: Tensor
    encoded: Tensor
    redrawn: Tensor
    key: str


def prepare_redrawn(
    scenes: SceneStream,
    encode: Callable[[Tensor], Tensor],
    redraw: Callable[[Tensor, Sequence[str]], Tensor],
    *,
    facts: tuple[object, ...],
    folder: Path,
) -> RedrawnSet:
    """Compute a set, or read it from ``folder`` if the very same was computed before.

    Args:
        scenes: what is drawn.
        encode: images (B, 3, H, W) in [-1, 1] to latents (B, C, h, w).
        redraw: latents (N, C, h, w) and N captions to latents drawn again.
        facts: what the two follow from beside the scenes.
        folder: gets ``redrawn-KEY.safetensors``.
    """

    def compute() -> dict[str, Tensor]:
        drawn = scenes.render()
        encoded = over(drawn.pictures, "latents", lambda images: encode(images).half())
        return {"pictures": drawn.pictures, "encoded": encoded, "redrawn": redraw(encoded, drawn.captions).half()}

    found, key = cached(folder, "redrawn", (*scenes.facts, *facts), compute)
    return RedrawnSet(found["pictures"], found["encoded"], found["redrawn"], key)
