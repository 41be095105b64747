"""One slice of a corpus as the content of one part: pictures decoded, cut, embedded.

A part is a function of its slice, the encoder, the way pictures are cut and the batch: the same bytes whoever makes
it, whenever, and however often. Pictures are decoded and cut in threads ahead of the encoder, and come out in their
order; those that cannot be used are faults of the part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.image import PictureError, open_picture
from sfumato.encoders.joint import JointEncoder
from sfumato.retrieval.corpus import Corpus, Item, Slice
from sfumato.retrieval.entry import Entry, digest_of, id_of
from sfumato.retrieval.fault import Fault
from sfumato.retrieval.memory import EncoderFacts
from sfumato.retrieval.patches import Patches, cut, thumbnail

__all__ = ["COPY", "Made", "Maker", "make_part"]

COPY = "it is there already"
"""The reason of a fault that is no damage."""

_AHEAD, _HELD = 4, 64_000_000
"""Pictures a thread that may wait, and bytes of picture files that may be held for it."""

_Prepared = Fault | list[tuple[Entry, Tensor]]


@dataclass(frozen=True, eq=False)
class Maker:
    """How pictures become entries.

    Args:
        encode: images (B, 3, side, side) in [-1, 1] -> embeddings (B, D), finite and of any length but 0.
        facts: of that encoder.
        patches: how pictures are cut.
        batch: patches that are embedded at a time, >= 1.
        threads: that decode ahead, >= 1. Each holds one decoded picture; at most four a thread wait for it or, cut to
            size, for the encoder, with at most 128 MB of picture files among them.

    Raises:
        ValueError: a batch or threads below 1.
    """

    encode: Callable[[Tensor], Tensor]
    facts: EncoderFacts
    patches: Patches
    batch: int = 64
    threads: int = 2

    def __post_init__(self) -> None:
        if min(self.batch, self.threads) < 1:
            raise ValueError(f"needs a batch and threads of 1 or more, got {self.batch} and {self.threads}")

    @staticmethod
    def by(joint: JointEncoder, patches: Patches, *, batch: int = 64, threads: int = 2) -> Maker:
        """The maker that embeds by an encoder of pictures and words, without gradients; other arguments as above."""

        def encode(images: Tensor) -> Tensor:
            with torch.no_grad():
                return joint.pictures(images)

        facts = EncoderFacts(joint.name, joint.fingerprint, joint.width, joint.side)
        return Maker(encode, facts, patches, batch, threads)


@dataclass(frozen=True, eq=False)
class Made:
    """What a slice has become.

    Args:
        vectors: (n, D) float16.
        entries: of the n vectors.
        faults: pictures that were passed over.
        pictures: that were looked at.
    """

    vectors: Tensor
    entries: list[Entry]
    faults: list[Fault]
    pictures: int


def make_part(
    corpus: Corpus,
    part: Slice,
    maker: Maker,
    known: Container[str] = frozenset(),
    advance: Callable[[int], object] = lambda units: None,
) -> Made:
    """Embed a slice.

    Args:
        corpus: that it is of.
        part: the slice.
        maker: how.
        known: ids of entries that are left out; a picture of which none is new is a fault (:data:`COPY`).
        advance: told of each picture.

    Raises:
        ValueError: the encoder gives something else than (B, D).
    """
    entries: list[Entry] = []
    faults: list[Fault] = []
    cuts: list[Tensor] = []
    vectors = [torch.zeros(0, maker.facts.width, dtype=torch.float16)]
    seen: set[str] = set()
    pictures = 0
    for prepared in _prepared(corpus.read(part), maker):
        pictures += 1
        if isinstance(prepared, Fault):
            faults.append(prepared)
        else:
            fresh = [(entry, image) for entry, image in prepared if entry.id not in seen and entry.id not in known]
            faults += [] if fresh else [Fault(prepared[0][0].source, COPY)]
            seen.update(entry.id for entry, _ in fresh)
            entries += (entry for entry, _ in fresh)
            cuts += (image for _, image in fresh)
        while len(cuts) >= maker.batch:
            vectors.append(_embed(maker, cuts[: maker.batch]))
            del cuts[: maker.batch]
        advance(1)
    if cuts:
        vectors.append(_embed(maker, cuts))
    return _sound(Made(torch.cat(vectors), entries, faults, pictures))


def _prepared(items: Iterable[Item | Fault], maker: Maker) -> Iterator[_Prepared]:
    """What the threads make of items, in their order."""
    pool = ThreadPoolExecutor(maker.threads)
    waiting: deque[tuple[Future[_Prepared], int]] = deque()
    try:
        for item in items:
            size = len(item.content) if isinstance(item, Item) else 0
            while waiting and (
                len(waiting) >= _AHEAD * maker.threads
                or size + sum(each for future, each in waiting if not future.done()) > _HELD
            ):
                yield waiting.popleft()[0].result()
            waiting.append((pool.submit(_prepare, item, maker), size))
        while waiting:
            yield waiting.popleft()[0].result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare(item: Item | Fault, maker: Maker) -> _Prepared:
    """The entries of a picture, each with the image (3, side, side) to embed."""
    if isinstance(item, Fault):
        return item
    try:
        picture = open_picture(item.content)
    except PictureError as error:
        return Fault(item.source, str(error).removeprefix("picture: "))
    digest = digest_of(item.content)
    prepared = [
        (
            Entry(id_of(item.source, digest, box), item.source, digest, box, item.caption, thumbnail(picture, box)),
            cut(picture, box, maker.facts.side),
        )
        for box in maker.patches.boxes(*picture.size, digest)
    ]
    return prepared or Fault(item.source, "it has no patch that can be cut out")


def _embed(maker: Maker, cuts: list[Tensor]) -> Tensor:
    with torch.no_grad():
        vectors = maker.encode(torch.stack(cuts))
    if vectors.shape != (len(cuts), maker.facts.width):
        raise ValueError(
            f"the encoder {maker.facts.name} is to give {(len(cuts), maker.facts.width)}, gave {tuple(vectors.shape)}"
        )
    return vectors.detach().cpu().half()


def _sound(made: Made) -> Made:
    """Without vectors that have no direction."""
    good = (made.vectors.isfinite().all(1) & made.vectors.any(1)).tolist()
    lost = [entry.source for entry, fine in zip(made.entries, good, strict=True) if not fine]
    if not lost:
        return made
    return Made(
        made.vectors[torch.tensor(good)],
        [entry for entry, fine in zip(made.entries, good, strict=True) if fine],
        made.faults + [Fault(source, "its embedding is zero or not finite") for source in lost],
        made.pictures,
    )
