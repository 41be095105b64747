"""A memory exchanged after training, without words: the embedded model draws in the colours of the one plugged in."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

import sfumato
from sfumato.checkpoints.joint import load_joint
from sfumato.core.image import from_pictures
from sfumato.core.noise import Noise
from sfumato.flows.prompts import Neighbours
from sfumato.flows.retrieve import Recall, recall
from sfumato.retrieval.build import build
from sfumato.retrieval.corpus import open_corpus
from sfumato.retrieval.embed import Maker
from sfumato.retrieval.item import Item
from sfumato.retrieval.memory import Memory
from sfumato.retrieval.patches import Whole

PICTURES, NEIGHBOURS, STEPS = 6, 2, 3


def drawings(folder: Path, channels: tuple[int, int, int]) -> Path:
    """The 3d drawings of the sample as a folder of pictures, with their channels in another order."""
    folder.mkdir()
    corpus = open_corpus("world:sample:3d")
    for item in (item for part in corpus.slices for item in corpus.read(part)):
        assert isinstance(item, Item)
        bands = Image.open(io.BytesIO(item.content)).convert("RGB").split()
        picture = Image.merge("RGB", [bands[channel] for channel in channels])
        picture.save(folder / f"{item.source.replace('/', '-')}.png")
    return folder


def warmth(images: Tensor) -> float:
    """How much more red than blue there is, in [-2, 2]."""
    return float((images[:, 0] - images[:, 2]).mean())


def test_colours_follow_the_memory(tmp_path: Path) -> None:
    parts, encoder = sfumato.load("emoji"), load_joint("emoji")
    warm: list[tuple[float, float]] = []
    for name, channels in (("drawn", (0, 1, 2)), ("exchanged", (2, 1, 0))):
        folder = drawings(tmp_path / name, channels)
        build(tmp_path / f"{name}-memory", open_corpus(str(folder)), Maker.by(encoder, Whole()))
        memory = Memory.open(tmp_path / f"{name}-memory")
        queries = memory.vectors(torch.arange(PICTURES) * len(memory) // PICTURES)
        found = recall(memory, queries, Recall(NEIGHBOURS), Noise(range(PICTURES)))
        steer = sfumato.Steering(2.0, neighbours=Neighbours(found.vectors, words=False))
        seeds, walk = range(PICTURES), sfumato.Walk(STEPS)
        images = sfumato.text_to_image(parts, [""] * PICTURES, seeds=seeds, steer=steer, walk=walk)
        sources = [memory.entries([row])[0].source for row in found.rows.flatten().tolist()]
        shown = from_pictures([Image.open(folder / source).convert("RGB").resize((64, 64)) for source in sources])
        warm.append((warmth(images), warmth(shown)))
    (ours, theirs), (ours_exchanged, theirs_exchanged) = warm
    assert theirs - theirs_exchanged > 0.1
    assert ours - ours_exchanged > 0.5 * (theirs - theirs_exchanged)
