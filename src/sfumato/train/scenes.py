"""Scenes of the emoji world as tensors, rendered once and kept in memory as bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from sfumato.world.scene import SceneConfig, draw
from sfumato.world.sources import World

__all__ = ["SceneSet", "render", "to_images"]


@dataclass(frozen=True, eq=False)
class SceneSet:
    """Pictures with their captions.

    Args:
        pictures: uint8 (N, 64, 64, 3).
        captions: N captions.
    """

    pictures: Tensor
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def digest(self) -> str:
        """Hash of pictures and captions, for caches and model cards: 16 hexadecimal digits."""
        digest = hashlib.sha256(self.pictures.numpy().tobytes())
        digest.update("\n".join(self.captions).encode())
        return digest.hexdigest()[:16]


def render(world: World, seed: int, count: int, config: SceneConfig) -> SceneSet:
    """Scenes 0 to ``count - 1`` of a stream.

    Args:
        world: where pictures come from.
        seed: the stream, >= 0.
        count: number of scenes, >= 1.
        config: what kinds of scenes.

    Raises:
        ValueError: no scenes are asked for.
    """
    if count < 1:
        raise ValueError(f"need at least one scene, got {count}")
    pictures = torch.empty(count, 64, 64, 3, dtype=torch.uint8)
    captions: list[str] = []
    for index in tqdm(range(count), desc="scenes", unit="scene", disable=None, leave=False):
        scene = draw(world, seed, index, config)
        pictures[index] = torch.from_numpy(scene.image)
        captions.append(scene.caption)
    return SceneSet(pictures, tuple(captions))


def to_images(pictures: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
