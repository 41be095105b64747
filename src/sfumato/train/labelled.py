"""What does not change while a guide trains: latents, caption vectors and labels of scenes; computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sfumato.encoders.image import sentences
from sfumato.encoders.text import TextEncoder
from sfumato.train.locked import TextAndCodec
from sfumato.train.prepare import cached, mean_latents, over
from sfumato.train.scenes import Labels, SceneStream
from sfumato.world.colours import WORDS
from sfumato.world.sources import World
from sfumato.world.store import STYLES

__all__ = ["UNKNOWN", "LabelledSet", "prepare_labelled", "word_lists"]

UNKNOWN = -100
"""The label of a scene of which a list has no word; torch's losses ignore it."""


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """A set of N scenes as a guide meets it.

    Args:
        latents: (N, C, h, w) float16, scaled.
        sentences: (N, D) unit vectors of the captions.
        labels: for each list of words, (N,) int64: the place of the scene's word in it, or ``UNKNOWN``.
        key: hash of everything that it was computed from, 16 hexadecimal digits.
    """

    latents: Tensor
    sentences: Tensor
    labels: Mapping[str, Tensor]
    key: str


def word_lists(world: World) -> dict[str, tuple[str, ...]]:
    """The lists of words that scenes are labelled by: "concept" (of the core), "style" and "colour"."""
    return {"concept": tuple(concept.name for concept in world.core), "style": STYLES, "colour": WORDS}


def prepare_labelled(locked: TextAndCodec, scenes: SceneStream, folder: Path) -> LabelledSet:
    """Compute a labelled set, or read it from ``folder`` if the very same was computed before.

    Args:
        locked: the encoders.
        scenes: N of them; they are rendered if they have to be.
        folder: gets ``labelled-KEY.safetensors``.
    """
    facts = (*scenes.facts, locked.digest)
    found, key = cached(folder, "labelled", facts, lambda: _compute(locked, scenes))
    labels = {name: found[f"label.{name}"] for name in word_lists(scenes.world)}
    return LabelledSet(found["latents"], found["sentences"], labels, key)


def _compute(locked: TextAndCodec, scenes: SceneStream) -> dict[str, Tensor]:
    drawn, lists = scenes.render(), word_lists(scenes.world)
    return {
        "latents": over(drawn.pictures, "latents", lambda images: mean_latents(locked.codec, images).half()),
        "sentences": _sentences(locked.text, drawn.captions),
        **{f"label.{name}": _places(words, name, drawn.labels) for name, words in lists.items()},
    }


def _sentences(text: TextEncoder, captions: Sequence[str]) -> Tensor:
    """Caption vectors (N, D); each different caption is encoded once, the shortest first so that little is padded."""
    unique = sorted(set(captions), key=lambda caption: (len(caption), caption))
    number = {caption: row for row, caption in enumerate(unique)}
    return sentences(text, unique)[[number[caption] for caption in captions]]


def _places(words: Sequence[str], name: str, labels: Sequence[Labels]) -> Tensor:
    places = {word: place for place, word in enumerate(words)}
    return torch.tensor([places.get(getattr(each, name), UNKNOWN) for each in labels])
