"""From recipes to picture files: load the model, make the pictures batch by batch, write each one at once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.files import next_index, picture_bytes, prepare_folder, save_numbered, slug
from sfumato.cli.models import Model
from sfumato.cli.progress import Advance, bar, emit, say
from sfumato.metadata import Recipe, chunks

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.checkpoints.parts import Parts

__all__ = ["Job", "load_parts", "make_batch", "render"]


@dataclass(frozen=True)
class Job:
    """How pictures are made and written, whatever they show.

    Args:
        model: with which.
        folder: where to.
        batch: pictures in one batch, >= 1.
        max_rows: most rows in one forward pass; None is no limit.
        force: whether files of the same names give way.
        metadata: whether pictures carry their recipe.
        grid: whether to write a contact sheet too.
        json: whether stdout gets one JSON object per picture.
        quiet: whether stderr gets neither progress nor file names.
    """

    model: Model
    folder: Path
    batch: int = 1
    max_rows: int | None = None
    force: bool = False
    metadata: bool = True
    grid: bool = False
    json: bool = False
    quiet: bool = False


def render(recipes: Sequence[Recipe], job: Job) -> list[Path]:
    """Make one picture for each recipe; all share the settings of the first but for prompt and seed.

    Args:
        recipes: at least one; threads says how many of the CPU's are used.
        job: how.

    Returns:
        the paths of the pictures, in order.

    Raises:
        OutputError: the folder cannot be written.
        CheckpointError: the model cannot be loaded.
        ValueError: the model cannot follow a setting.
        KeyboardInterrupt: on Ctrl-C; the message counts the finished pictures, which are whole.
    """
    prepare_folder(job.folder)
    parts = load_parts(job.model, recipes[0], job.max_rows)
    recipes = [_completed(recipe, parts, job) for recipe in recipes]
    batches = _batches(recipes, job.batch)
    writer = _Writer(job)
    images: list[Tensor] = []
    try:
        with bar(recipes[0].steps * len(batches), "making pictures", "step", quiet=job.quiet) as advance:
            for batch in batches:
                begun = time.perf_counter()
                made = make_batch(parts, batch, advance)
                writer.write(made, batch, time.perf_counter() - begun)
                images += [made] if job.grid else []
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"{len(writer.paths)} of {len(recipes)} pictures are finished") from error
    if job.grid:
        writer.write_grid(images, recipes)
    return writer.paths


class _Writer:
    """Writes pictures under free names and tells of each."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.paths: list[Path] = []
        self._next: dict[str, int] = {}

    def write(self, images: Tensor, recipes: Sequence[Recipe], seconds: float) -> None:
        """Write a batch (B, 3, H, W), one file a picture."""
        from sfumato.core.image import to_pictures

        for picture, recipe in zip(to_pictures(images), recipes, strict=True):
            texts = chunks(recipe) if self.job.metadata else {}
            path = self._save(picture_bytes(picture, texts), slug(recipe.prompt))
            self.paths.append(path)
            if self.job.json:
                emit({"path": str(path), **asdict(recipe), "seconds": round(seconds / len(recipes), 3)})
            say(f"{path} (seed {recipe.seed})", quiet=self.job.quiet)

    def write_grid(self, images: Sequence[Tensor], recipes: Sequence[Recipe]) -> None:
        """Write all pictures (B, 3, H, W) on one sheet, with their prompts."""
        import torch

        from sfumato.core.image import grid

        columns = min(8, -(-len(recipes) // max(1, round(len(recipes) ** 0.5))))
        sheet = grid(torch.cat(list(images)), columns, [recipe.prompt for recipe in recipes])
        path = self._save(picture_bytes(sheet, {}), f"{slug(recipes[0].prompt)}-grid")
        say(f"{path} (all {len(recipes)})", quiet=self.job.quiet)

    def _save(self, content: bytes, name: str) -> Path:
        start = self._next.get(name, 0 if self.job.force else next_index(self.job.folder, name))
        path = save_numbered(content, self.job.folder, name, start, force=self.job.force)
        self._next[name] = int(path.stem.rpartition("-")[2]) + 1
        return path


def load_parts(model: Model, recipe: Recipe, max_rows: int | None) -> Parts:
    """Load a model in the recipe's dtype, after setting its number of threads.

    Raises:
        CheckpointError: the model is broken, unsafe or of an unknown kind.
    """
    import torch

    import sfumato

    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    parts = sfumato.load(model.folder, dtype=getattr(torch, recipe.dtype))
    return replace(parts, model=replace(parts.model, max_rows=max_rows))


def _batches(recipes: Sequence[Recipe], size: int) -> list[list[Recipe]]:
    parts = [recipes[start : start + size] for start in range(0, len(recipes), size)]
    return [[replace(recipe, batch=len(part)) for recipe in part] for part in parts]


def _completed(recipe: Recipe, parts: Parts, job: Job) -> Recipe:
    import sfumato

    height, width = parts.size
    return replace(
        recipe,
        model=job.model.name,
        fingerprint=job.model.fingerprint,
        height=recipe.height or height,
        width=recipe.width or width,
        version=sfumato.__version__,
    )


def make_batch(parts: Parts, batch: Sequence[Recipe], advance: Advance) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] of recipes with a size, which differ in prompt and seed only."""
    import sfumato

    first = batch[0]
    assert first.height is not None and first.width is not None
    return sfumato.text_to_image(
        parts,
        [recipe.prompt for recipe in batch],
        seeds=[recipe.seed for recipe in batch],
        size=(first.height, first.width),
        steer=sfumato.Steering(
            guidance=tuple(recipe.guidance for recipe in batch),
            negative=first.negative,
            interval=None if first.guidance_interval == (0.0, 1.0) else first.guidance_interval,
            rescale=first.rescale,
        ),
        walk=sfumato.Walk(first.steps, first.scheduler),
        watch=lambda _: advance(),
    )
