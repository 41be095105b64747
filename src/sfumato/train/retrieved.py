"""Training sets of a retrieval-augmented model: what is learned of each picture, and its neighbours in a memory.

The context of a picture is the k nearest entries of the memory, in no order; with ``zeros`` of the pictures it is k
tokens of zeros instead, so that the null of guidance is one that was trained.

Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sfumato.core.noise import Noise
from sfumato.encoders.joint import JointEncoder, NeighbourTokens
from sfumato.retrieval.entry import digest_of
from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.memory import Memory
from sfumato.retrieval.neighbours import check_disjoint, neighbours_of
from sfumato.retrieval.world_pictures import drawings
from sfumato.train.config import MemoryFitConfig
from sfumato.train.prepare import cached, over
from sfumato.train.scenes import SceneStream
from sfumato.world.sources import open_world
from sfumato.world.store import World

__all__ = ["Retrieved", "open_memory", "prepare_retrieved", "prepare_run"]


@dataclass(frozen=True, eq=False)
class Retrieved:
    """A training set of N pictures with their neighbours.

    Args:
        learned: (N, ...), what the model learns of them: latents, codes.
        vectors: (N, D) embeddings of the pictures.
        rows: (N, s) int64, their s nearest entries of the memory; s = 0 without one.
        entries: (M, D) embeddings of the memory; (0, D) without one.
        key: hash of everything that it was computed from, 16 hexadecimal digits.
    """

    learned: Tensor
    vectors: Tensor
    rows: Tensor
    entries: Tensor
    key: str

    def context(self, indices: Tensor, count: int) -> Tensor:
        """The embeddings (B, k, D) of the ``count`` nearest entries to pictures ``indices`` (B,); of 0 a zero."""
        if not count:
            return torch.zeros(len(indices), 1, self.vectors.shape[1])
        return self.entries[self.rows[indices, :count]]

    def tokens(self, indices: Tensor, count: int, taken: NeighbourTokens, zeros: float, noise: Noise) -> Tensor:
        """The contexts of a batch as a model takes them in, some of them empty.

        Args:
            indices: (B,) int64 in [0, N).
            count: k in [0, s]; 0 is one token of zeros, for a model without a memory.
            taken: how the model takes them in.
            zeros: share of the pictures whose context is zeros, in [0, 1].
            noise: one seed a picture, which says whether it is among them.

        Returns:
            (B, k, D) float32.
        """
        context = taken(self.context(indices, count))
        dropped = noise.uniform((len(indices),)) < zeros
        return torch.where(dropped[:, None, None], taken.null(context), context)


def open_memory(folder: Path, world: World, styles: Sequence[str]) -> Memory:
    """Open the memory D of a training run, which must hold no drawing that the training scenes are made of.

    Args:
        folder: as ``sfumato memory build`` makes it.
        world: that the training scenes come from.
        styles: of the training scenes.

    Raises:
        RetrievalError: no memory, one that is not whole, or one with such a drawing: by the name of its style where the
            emoji world is the memory's source, else by the content of its file.
    """
    memory = Memory.open(folder)
    _check_styles(memory, styles)
    check_disjoint(memory, [digest_of(drawing.content) for drawing in drawings(world, styles)])
    return memory


def _check_styles(memory: Memory, styles: Sequence[str]) -> None:
    """See that what a memory has of the emoji world, whichever versions made it, is of other styles."""
    if not any(corpus.partition(":")[0] == "world" for corpus in memory.facts.corpora):
        return
    there = {source.partition("/")[0] for part in memory.parts for source in part.column("source")} & set(styles)
    if there:
        raise RetrievalError(
            f"the memory holds {min(there)} pictures, and so does the training set: a model that finds its own picture "
            "learns to copy; build the memory of another style, or leave that style out by --styles"
        )


def prepare_retrieved(
    scenes: SceneStream,
    learned: Callable[[Tensor], Tensor],
    encoder: JointEncoder,
    memory: Memory | None,
    *,
    digest: str,
    stored: int,
    folder: Path,
) -> Retrieved:
    """Compute a training set, or read it from ``folder`` if the very same was computed before.

    Args:
        scenes: N of them; they are rendered if they have to be.
        learned: images (B, 3, H, W) in [-1, 1] to what the model learns of them (B, ...).
        encoder: that the memory was made with.
        memory: the database D; None: none.
        digest: of what makes ``learned``, such as ``locked.digest`` of a codec's folder.
        stored: s, neighbours kept of each picture, more than are used.
        folder: gets ``retrieved-KEY.safetensors``.

    Raises:
        RetrievalError: the memory was made with another encoder, or is too small.
    """
    if memory is not None and memory.facts.encoder.fingerprint != encoder.fingerprint:
        raise RetrievalError(
            f"the memory was made with the encoder '{memory.facts.encoder.name}' and pictures are embedded by "
            f"'{encoder.name}'; build it with `--encoder` of the model that is trained from"
        )

    def compute() -> dict[str, Tensor]:
        pictures = scenes.render().pictures
        vectors = over(pictures, "vectors", encoder.pictures)
        none = torch.empty(len(vectors), 0, dtype=torch.int64)
        return {
            "learned": over(pictures, "learned", learned),
            "vectors": vectors,
            "rows": none if memory is None else neighbours_of(memory, vectors, stored),
        }

    known = "" if memory is None else memory.fingerprint
    facts = (*scenes.facts, encoder.fingerprint, digest, known, stored)
    found, key = cached(folder, "retrieved", facts, compute)
    entries = torch.empty(0, encoder.width) if memory is None else torch.cat(list(memory.blocks()))
    return Retrieved(found["learned"], found["vectors"], found["rows"], entries, key)


def prepare_run(
    config: MemoryFitConfig, learned: Callable[[Tensor], Tensor], encoder: JointEncoder, digest: str
) -> tuple[SceneStream, Retrieved, Retrieved]:
    """What a recipe needs: its scenes, what is learned of them, and the same of further ones that are measured on.

    Args:
        config: of the recipe.
        learned: as :func:`prepare_retrieved`; so the others.
        encoder: that the memory was made with.
        digest: of what makes ``learned``.

    Raises:
        RetrievalError: as :func:`open_memory` and :func:`prepare_retrieved`.
    """
    world = open_world(config.world or None)
    memory = open_memory(config.memory, world, config.styles) if config.neighbours else None
    scenes = SceneStream(world, config.seed, config.scenes, config.scene_config())
    stored, folder = config.stored, config.output_dir
    data, others = (
        prepare_retrieved(each, learned, encoder, memory, digest=digest, stored=stored, folder=folder)
        for each in (scenes, scenes.held_out(config.held_out))
    )
    return scenes, data, others
