"""What does not change while a denoiser trains: latents, token states, picture vectors, neighbours; computed once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from sfumato.core.codec import LatentCodec
from sfumato.encoders.image import PictureEncoder
from sfumato.train.contexts import CaptionStates, encode_captions, nearest
from sfumato.train.locked import Locked
from sfumato.train.scenes import render, to_images
from sfumato.world.scene import SceneConfig
from sfumato.world.sources import World

__all__ = ["Prepared", "cached", "mean_latents", "over", "prepare"]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A training set of N scenes as a denoiser meets it.

    Args:
        latents: (N, C, h, w) float16, scaled.
        captions: token states.
        vectors: (N, D) unit picture vectors.
        neighbours: (N, k) int64, each scene's nearest others.
        key: hash of everything that it was computed from, 16 hexadecimal digits.
    """

    latents: Tensor
    captions: CaptionStates
    vectors: Tensor
    neighbours: Tensor
    key: str


def prepare(
    locked: Locked, world: World, config: SceneConfig, folder: Path, *, seed: int, count: int, neighbours: int
) -> Prepared:
    """Compute a training set, or read it from ``folder`` if the very same was computed before.

    Args:
        locked: the encoders.
        world: where scenes come from.
        config: what kinds of scenes.
        folder: gets ``prepared-KEY.safetensors``.
        seed: the stream of scenes.
        count: number of scenes N.
        neighbours: neighbours k of each scene, below N.
    """
    facts = (world.digest, locked.digest, repr(config), seed, count, neighbours)
    found, key = cached(folder, "prepared", facts, lambda: _compute(locked, world, config, seed, count, neighbours))
    captions = CaptionStates(found["states"], found["lengths"], found["rows"], found["null"])
    return Prepared(found["latents"], captions, found["vectors"], found["neighbours"], key)


def cached(
    folder: Path, name: str, facts: tuple[object, ...], compute: Callable[[], Mapping[str, Tensor]]
) -> tuple[dict[str, Tensor], str]:
    """Tensors of any shape that follow from facts: computed once and kept in ``folder``.

    Args:
        folder: gets ``NAME-KEY.safetensors``, whole or not at all.
        name: of the file.
        facts: everything that the tensors follow from; their text is hashed.
        compute: makes the tensors.

    Returns:
        The tensors by name, and the key: hash of the facts, 16 hexadecimal digits.
    """
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    file = folder / f"{name}-{key}.safetensors"
    if not file.is_file():
        tensors = compute()
        folder.mkdir(parents=True, exist_ok=True)
        save_file({each: value.contiguous() for each, value in tensors.items()}, file.with_suffix(".part"))
        os.replace(file.with_suffix(".part"), file)
    return load_file(file), key


def _compute(
    locked: Locked, world: World, config: SceneConfig, seed: int, count: int, neighbours: int
) -> dict[str, Tensor]:
    scenes = render(world, seed, count, config)
    latents = over(scenes.pictures, "latents", lambda images: mean_latents(locked.codec, images).half())
    vectors = over(scenes.pictures, "vectors", lambda images: _vectors(locked.pictures, images))
    captions = encode_captions(locked.text, scenes.captions)
    return {
        "latents": latents,
        "vectors": vectors,
        "neighbours": nearest(vectors, neighbours),
        "states": captions.states,
        "lengths": captions.lengths,
        "rows": captions.rows,
        "null": captions.null,
    }


def mean_latents(codec: LatentCodec, images: Tensor) -> Tensor:
    """Latents (B, C, h, w) of images (B, 3, H, W), without the posterior's noise, in bfloat16 autocast."""
    with torch.autocast(images.device.type, torch.bfloat16):
        return codec.encode(images).float()


def _vectors(pictures: PictureEncoder, images: Tensor) -> Tensor:
    with torch.autocast(images.device.type, torch.bfloat16):
        return pictures(images)


def over(pictures: Tensor, name: str, function: Callable[[Tensor], Tensor], batch: int = 64) -> Tensor:
    """What a function gives for many pictures, ``batch`` at a time and without gradients.

    Args:
        pictures: uint8 (N, H, W, 3).
        name: of the progress bar.
        function: images (B, 3, H, W) in [-1, 1] to (B, ...).
        batch: pictures at a time, >= 1.

    Returns:
        (N, ...).
    """
    starts = tqdm(range(0, len(pictures), batch), desc=name, disable=None, leave=False)
    with torch.no_grad():
        return torch.cat([function(to_images(pictures[start : start + batch])) for start in starts])
