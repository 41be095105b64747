"""Scenes of the emoji world as tensors, rendered once and kept in memory as bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from sfumato.world.scene import Scene, SceneConfig, draw
from sfumato.world.sources import World

__all__ = ["Labels", "SceneSet", "SceneStream", "render", "to_images"]

_MOST_TRIES = 20


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
        apart: another stream, whose pictures are left out here: what is measured on was not learned, though sizes and
            places are whole pixels and so the same picture is soon drawn again. None: nothing is.
    """

    world: World
    seed: int
    count: int
    config: SceneConfig
    apart: SceneStream | None = None

    @property
    def facts(self) -> tuple[object, ...]:
        """All that the scenes follow from, for caches."""
        own = (self.world.digest, self.seed, self.count, repr(self.config))
        return own if self.apart is None else (*own, *self.apart.facts)

    def held_out(self, count: int) -> SceneStream:
        """``count`` scenes of the same kinds of the validation split's stream; none of their pictures is here."""
        return replace(self, count=count, config=replace(self.config, split="validation"), apart=self)

    def render(self, count: int | None = None) -> SceneSet:
        """The first ``count`` scenes, >= 1; None: all.

        Raises:
            ValueError: no scenes are asked for, or next to all are in the other stream.
        """
        wanted = self.count if count is None else count
        numbers = range(wanted) if self.apart is None else self._new(wanted, self.apart)
        return _rendered(self.world, self.seed, numbers, self.config)

    def _new(self, count: int, other: SceneStream) -> list[int]:
        """The first numbers of scenes whose pictures the other stream has not."""
        known = {_digest(other, number) for number in range(other.count)}
        found: list[int] = []
        for number in range(_MOST_TRIES * count):
            if len(found) == count:
                break
            if _digest(self, number) not in known:
                found.append(number)
        if len(found) < count:
            raise ValueError(
                f"of {_MOST_TRIES * count} scenes only {len(found)} are not among the {other.count} that are learned; "
                "learn fewer, or hold out fewer"
            )
        return found


def _digest(stream: SceneStream, number: int) -> bytes:
    image = draw(stream.world, stream.seed, number, stream.config).image
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


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
    return _rendered(world, seed, range(count), config)


def _rendered(world: World, seed: int, numbers: Sequence[int], config: SceneConfig) -> SceneSet:
    if len(numbers) < 1:
        raise ValueError("need at least one scene, got none")
    pictures = torch.empty(len(numbers), 64, 64, 3, dtype=torch.uint8)
    captions: list[str] = []
    labels: list[Labels] = []
    for index, number in enumerate(tqdm(numbers, desc="scenes", unit="scene", disable=None, leave=False)):
        scene = draw(world, seed, number, config)
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
