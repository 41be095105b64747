"""The emoji world as a corpus: each everyday concept once a style, as the scenes of one thing draw it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from PIL import Image

from sfumato.retrieval.fault import Fault
from sfumato.retrieval.item import Item, Slice, digest_of_listing, label
from sfumato.world.scene import compose
from sfumato.world.spec import SceneSpec, single
from sfumato.world.store import STYLES, World, WorldError, cache_path, open_world

__all__ = ["WorldPictures", "drawings", "open_world_pictures"]

_SAMPLE = "sample"


@dataclass(frozen=True, eq=False)
class WorldPictures:
    """One picture a concept of the core vocabulary and style: in its own colours, in the middle, on white.

    The caption is the canonical one with the style: "a 3d red car". The source is the style and Unicode's numbers.

    Args:
        name: "world", "world:3d", "world:sample:flat,3d".
        digest: over the pictures of the world, the styles and the size of a slice.
        slices: of all styles, one after the other.
        cache: where the world is, or "sample".
        styles: in order.
    """

    name: str
    digest: str
    slices: Sequence[Slice] = field(repr=False)
    cache: str
    styles: tuple[str, ...]

    def read(self, part: Slice) -> Iterator[Item | Fault]:
        """The pictures of a slice, as PNG."""
        try:
            world = open_world(self.cache)
        except WorldError:
            yield Fault(self.name, "the pictures of the world are not there any more; `sfumato world fetch` gets them")
            return
        yield from drawings(world, self.styles, part.start, part.stop)


def drawings(world: World, styles: Sequence[str], start: int = 0, stop: int | None = None) -> Iterator[Item]:
    """The pictures of ``WorldPictures``, as PNG.

    Args:
        world: where they come from.
        styles: in order; each has all concepts of the core vocabulary.
        start: the first one's number, >= 0.
        stop: one more than the last one's; None: all.
    """
    pairs = [(style, concept) for style in styles for concept in world.core]
    for style, concept in pairs[start:stop]:
        scene = compose(world, SceneSpec(single(concept.index), style, style_named=True))
        file = io.BytesIO()
        Image.fromarray(scene.image).save(file, "PNG", compress_level=0)
        yield Item(label(style, concept.codepoints), file.getvalue(), scene.caption)


def open_world_pictures(which: str, size: int) -> WorldPictures:
    """A corpus of the world's pictures.

    Args:
        which: styles, separated by commas, or nothing for all; "sample" or "sample:" in front for the concepts that
            come with the library.
        size: pictures in a slice at most.

    Raises:
        ValueError: a style is unknown or occurs twice.
        WorldError: the pictures have not been fetched.
    """
    first, _, rest = which.partition(":")
    cache, words = (_SAMPLE, rest) if first == _SAMPLE else (str(cache_path()), which)
    styles = tuple(words.split(",")) if words else STYLES
    if not set(styles) <= set(STYLES) or len(set(styles)) < len(styles):
        raise ValueError(f"the world has the styles {', '.join(STYLES)}, each once; got {words!r}")
    world = open_world(cache)
    total = len(styles) * len(world.core)
    slices = [
        Slice(n, min(size, total - at), "", at, min(at + size, total)) for n, at in enumerate(range(0, total, size))
    ]
    digest = digest_of_listing([("world", world.digest, styles, size)])
    return WorldPictures(":".join(filter(None, ("world", which))), digest, tuple(slices), cache, styles)
