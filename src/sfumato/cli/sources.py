"""Files and models that recipes name beside the model itself: told apart by content, loaded when first needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.models import Model, installed
from sfumato.cli.parser import UsageError
from sfumato.given import Box, Given
from sfumato.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sfumato.checkpoints.parts import Parts
    from sfumato.core.sample import Record
    from sfumato.encoders.image import PictureEncoder
    from sfumato.encoders.joint import JointEncoder
    from sfumato.flows.invert import Inverted
    from sfumato.networks.guide import Guide
    from sfumato.retrieval.memory import Memory

__all__ = ["Sources"]

_LARGEST = 512_000_000


class Sources:
    """Where the files are that recipes name by name and digest.

    Args:
        model: whose guide and picture encoder are used.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._files: dict[str, Path] = {}
        self._names: dict[str, Path] = {}
        self._models: dict[str, Model] = {}
        self._experts: dict[str, Parts] = {}
        self._memories: dict[str, Memory] = {}
        self._inverted: dict[tuple[Given, str, tuple[int, int], int, str, float | None], Inverted] = {}

    @property
    def places(self) -> frozenset[Path]:
        """The files that were taken in, where nothing may be written."""
        return frozenset(path.resolve() for path in self._files.values())

    def add(self, path: Path) -> Given:
        """Take a file in.

        Raises:
            UsageError: it is not there, or too large to be a picture or a start.
        """
        if not path.is_file():
            raise UsageError(f"there is no file {path}")
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path} has {path.stat().st_size} bytes, more than a picture or a start can have")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        given = Given(path.name[-200:], digest)
        self._files[digest] = self._names[given.name] = path
        return given

    def add_model(self, model: Model) -> Given:
        """Take another model in."""
        self._models[model.fingerprint] = model
        return Given(model.name, model.fingerprint)

    def add_memory(self, folder: Path) -> Given:
        """Take a memory in.

        Raises:
            RetrievalError: the folder holds none, or a damaged one.
        """
        from sfumato.retrieval.memory import Memory

        memory = Memory.open(folder)
        self._memories[memory.fingerprint] = memory
        return Given(folder.resolve().name[-200:], memory.fingerprint)

    def holds(self, given: Given) -> bool:
        """Whether a file of this content was taken in."""
        return given.digest in self._files

    def holds_memory(self, given: Given) -> bool:
        """Whether a memory of this content was taken in."""
        return given.digest in self._memories

    def of_name(self, name: str) -> Path | None:
        """The file that was taken in under a name, whatever it holds."""
        return self._names.get(name)

    def models(self) -> list[Model]:
        """The models that were taken in, and those that are installed."""
        return [self.model, *installed(), *self._models.values()]

    def memory(self, given: Given) -> Memory:
        """A memory that was taken in."""
        return self._memories[given.digest]

    def image(self, given: Given, size: tuple[int, int]) -> Tensor:
        """A picture (1, 3, H, W) in [-1, 1], its middle cut out at a size (height, width).

        Raises:
            PictureError: no picture that can be read.
        """
        from sfumato.core.image import cover, from_pictures, open_picture

        return cover(from_pictures([open_picture(self._files[given.digest])]), *size).clamp(-1, 1)

    def _painted(self, given: Given, size: tuple[int, int]) -> Tensor:
        """A mask (1, 1, H, W) in [0, 1], cut out like a picture: white as 1, black and what is transparent as 0."""
        from sfumato.core.image import cover, from_pictures, open_picture

        mask = open_picture(self._files[given.digest], background=(0, 0, 0))
        return (cover(from_pictures([mask]), *size).clamp(-1, 1).mean(1, keepdim=True) + 1) / 2

    def mask(self, given: Given, picture: Given, size: tuple[int, int]) -> Tensor:
        """A mask (1, 1, H, W) in [0, 1], white as 1, transparent as 0, cut out like the picture that it belongs to.

        Raises:
            UsageError: it has not the picture's proportions.
            PictureError: no picture that can be read.
        """
        from sfumato.core.image import open_picture

        wide, tall = open_picture(self._files[given.digest]).size
        width, height = open_picture(self._files[picture.digest]).size
        if abs(wide * height - tall * width) > max(wide, tall, width, height):
            raise UsageError(f"the mask is {wide}x{tall} and the picture {width}x{height}; draw it on the picture")
        return self._painted(given, size)

    def place(self, where: Given | Box, size: tuple[int, int]) -> Tensor:
        """Where something is to be, as a mask (1, 1, H, W) in [0, 1] for pictures of a size (height, width).

        Raises:
            UsageError: a mask of other proportions, or a box outside the picture.
            PictureError: no picture that can be read.
        """
        import torch

        from sfumato.core.image import open_picture

        height, width = size
        if isinstance(where, Given):
            wide, tall = open_picture(self._files[where.digest]).size
            if abs(wide * height - tall * width) > max(wide, tall, width, height):
                raise UsageError(f"the mask '{where.name}' is {wide}x{tall} and the picture {width}x{height}")
            return self._painted(where, size)
        left, top, right, bottom = where
        if right > width or bottom > height:
            raise UsageError(f"the box {left},{top},{right},{bottom} leaves the picture, which is {width}x{height}")
        mask = torch.zeros(1, 1, height, width)
        mask[..., top:bottom, left:right] = 1
        return mask

    def start(self, given: Given) -> Inverted:
        """The content of a file of ``sfumato invert``.

        Raises:
            CheckpointError: it holds no inversion.
        """
        from sfumato.flows.start_file import read_start

        return read_start(self._files[given.digest])

    def inverted(
        self,
        parts: Parts,
        given: Given,
        recipe: Recipe,
        prompt: str,
        *,
        null_text: float | None,
        watch: Callable[[Record], None],
    ) -> Inverted:
        """The inversion of a picture of a prompt, along the path and at the size of a recipe; made once.

        Args:
            parts: of the model.
            given: the picture.
            recipe: with a size.
            prompt: what the picture shows.
            null_text: guidance scale, > 1, that the nulls are tuned for; None: none are.
            watch: called with a record after each step.
        """
        from sfumato.flows.invert import Inverting, invert
        from sfumato.flows.walk import Walk

        assert recipe.height is not None and recipe.width is not None
        key = (given, prompt, (recipe.height, recipe.width), recipe.steps, recipe.scheduler, null_text)
        if key not in self._inverted:
            image = self.image(given, (recipe.height, recipe.width))
            walk, how = Walk(recipe.steps, recipe.scheduler), Inverting(null_text=null_text)
            self._inverted[key] = invert(parts, image, [prompt], walk=walk, how=how, watch=watch)
        return self._inverted[key]

    def expert(self, given: Given, dtype: torch.dtype) -> Parts:
        """Another model, in a dtype.

        Raises:
            CheckpointError: it cannot be loaded.
        """
        import sfumato

        if given.digest not in self._experts:
            self._experts[given.digest] = sfumato.load(self._models[given.digest].folder, dtype)
        return self._experts[given.digest]

    @cached_property
    def guide(self) -> Guide:
        """The model's noise-aware classifier and encoder.

        Raises:
            UsageError: it has none.
        """
        from sfumato.checkpoints.load import load_guide

        guide = load_guide(self.model.folder)
        if guide is None:
            raise UsageError(
                f"the model '{self.model.name}' has no guide, which --classifier and --clip-guidance follow; "
                "`sfumato train guide` makes one"
            )
        return guide

    @cached_property
    def joint(self) -> JointEncoder:
        """The encoder whose vectors the model takes as neighbours.

        Raises:
            CheckpointError: the model has none.
        """
        from sfumato.checkpoints.joint import load_joint

        folder = self.model.folder
        return load_joint(folder / "encoder" if self.model.draws_codes else folder)

    @cached_property
    def training_vectors(self) -> Tensor:
        """Embeddings (M, D) of a sample of the model's training pictures.

        Raises:
            UsageError: the model brings none.
        """
        from sfumato.checkpoints.neighbours import load_training_vectors

        vectors = load_training_vectors(self.model.folder)
        if vectors is None:
            raise UsageError(
                f"the model '{self.model.name}' does not say which pictures it was trained on, which --unconditional "
                "starts from; give a prompt or --like"
            )
        return vectors

    @cached_property
    def pictures(self) -> PictureEncoder:
        """The model's encoder of clean pictures.

        Raises:
            UsageError: it has none.
        """
        from sfumato.checkpoints.load import load_pictures

        pictures = load_pictures(self.model.folder)
        if pictures is None:
            raise UsageError(f"the model '{self.model.name}' has no picture encoder, which --clip-form estimate needs")
        return pictures
