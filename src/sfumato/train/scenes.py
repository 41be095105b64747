"""Scenes of the emoji world as tensors, rendered once and kept in memory as bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from sfumato.world.scene import Scene, SceneConfig, draw
from sfumato.world.sources import World

__all__ = ["Labels", "SceneSet", "SceneStream", "render", "to_images"]


@dataclass(frozen=True)
class Labels:
    """What can be said of a whole scene, in single words.

    Args:
        concept: name of the thing; None where there are several different ones.
        style: "glossy", "flat" or "3d".
        colour: the colour that the thing is said to have, else the one measured; None if it has no single colour, or
            if there are several different things.
    """

    concept: str | None
    style: str
    colour: str | None


@dataclass(frozen=True, eq=False)
class SceneSet:
    """Pictures with their captions and labels.

    Args:
        pictures: uint8 (N, 64, 64, 3).
        captions: N captions.
        labels: N labels.
    """

    pictures: Tensor
    captions: tuple[str, ...]
    labels: tuple[Labels, ...]

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def digest(self) -> str:
        """Hash of pictures and captions, for caches and model cards: 16 hexadecimal digits."""
        digest = hashlib.sha256(self.pictures.numpy().tobytes())
        digest.update("\n".join(self.captions).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class SceneStream:
    """Scenes that are told from others before they are rendered.

    Args:
        world: where pictures come from.
        seed: the stream, >= 0.
        count: number of scenes, >= 1.
        config: what kinds of scenes.
    """

    world: World
    seed: int
    count: int
    config: SceneConfig

    @property
    def facts(self) -> tuple[object, ...]:
        """All that the scenes follow from, for caches."""
        return self.world.digest, self.seed, self.count, repr(self.config)

    def render(self, count: int | None = None) -> SceneSet:
        """The first ``count`` scenes, >= 1; None: all, ValueError for none."""
        return render(self.world, self.seed, self.count if count is None else count, self.config)


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
    labels: list[Labels] = []
    for index in tqdm(range(count), desc="scenes", unit="scene", disable=None, leave=False):
        scene = draw(world, seed, index, config)
        pictures[index] = torch.from_numpy(scene.image)
        captions.append(scene.caption)
        labels.append(_labels(scene))
    return SceneSet(pictures, tuple(captions), tuple(labels))


def _labels(scene: Scene) -> Labels:
    first, *others = scene.objects
    if any(other.concept != first.concept for other in others):
        return Labels(None, scene.style, None)
    return Labels(first.name, scene.style, first.colour)


def to_images(pictures: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) to float32 (B, 3, H, W) in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
