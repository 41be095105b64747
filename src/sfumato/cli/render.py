"""From recipes to picture files: load the model, make the pictures batch by batch, write each one at once."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.codes import check_denoiser, load_codes, told
from sfumato.cli.files import next_index, picture_bytes, prepare_folder, save_numbered, slug
from sfumato.cli.make import inversion_steps, make, steps_of
from sfumato.cli.models import Model
from sfumato.cli.parser import UsageError
from sfumato.cli.progress import announce, bar, emit, say
from sfumato.cli.recall import recalled
from sfumato.cli.sources import Sources
from sfumato.metadata import chunks, written
from sfumato.recipe import Recipe

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from sfumato.attention.maps import MapRecorder
    from sfumato.checkpoints.parts import Parts
    from sfumato.checkpoints.rarm import RarmParts

__all__ = ["Job", "completed", "load_parts", "render"]


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
        attention: whether to write a sheet with the attention map of each word too.
        neighbours: whether to write a sheet with the entries of a memory that were in the context too.
        json: whether stdout gets one JSON object per picture, and one per file beside them.
        quiet: whether stderr gets neither progress nor file names.
        name: of the files, before their number; "" takes it from each prompt.
    """

    model: Model
    folder: Path
    batch: int = 1
    max_rows: int | None = None
    force: bool = False
    metadata: bool = True
    grid: bool = False
    attention: bool = False
    neighbours: bool = False
    json: bool = False
    quiet: bool = False
    name: str = ""


def render(recipes: Sequence[Recipe], job: Job, sources: Sources) -> list[Path]:
    """Make one picture for each recipe; they differ in prompt, seed, guidance and share only.

    Args:
        recipes: at least one; threads says how many of the CPU's are used.
        job: how.
        sources: has the files and models that the recipes name.

    Returns:
        the paths of the pictures, in order.

    Raises:
        OutputError: the folder cannot be written.
        UsageError: a setting that this kind of model does not know.
        CheckpointError: the model cannot be loaded.
        ValueError: the model cannot follow a setting.
        KeyboardInterrupt: on Ctrl-C; the message counts the finished pictures, which are whole.
    """
    from sfumato.checkpoints.rarm import RarmParts

    prepare_folder(job.folder)
    parts = _load_codes(job, recipes[0]) if job.model.draws_codes else load_parts(job.model, recipes[0], job.max_rows)
    recipes = [completed(recipe, parts, job.model) for recipe in recipes]
    batches = _batches(recipes, job.batch)
    writer = _Writer(job, sources.places)
    images: list[Tensor] = []
    try:
        steps = inversion_steps(recipes[0]) + _steps(parts, recipes[0]) * len(batches)
        with bar(steps, "making pictures", "step", quiet=job.quiet) as advance:
            for asked in batches:
                begun, batch = time.perf_counter(), recalled(parts, asked, sources)
                seen = _recorder(parts, batch[0]) if job.attention and not isinstance(parts, RarmParts) else None
                made = make(parts, batch, sources, advance, seen)
                writer.write(made, batch, time.perf_counter() - begun)
                if seen is not None and not isinstance(parts, RarmParts):
                    writer.write_attention(made, batch, seen, parts)
                if job.neighbours:
                    writer.write_neighbours(made, batch, sources)
                images += [made] if job.grid else []
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"{len(writer.paths)} of {len(recipes)} pictures are finished") from error
    if job.grid:
        writer.write_grid(images, recipes)
    return writer.paths


class _Writer:
    """Writes pictures under free names and tells of each."""

    def __init__(self, job: Job, kept: Collection[Path]) -> None:
        self.job = job
        self.kept = kept
        self.paths: list[Path] = []
        self._next: dict[str, int] = {}

    def write(self, images: Tensor, recipes: Sequence[Recipe], seconds: float) -> None:
        """Write a batch (B, 3, H, W), one file a picture."""
        from sfumato.core.image import to_pictures

        for picture, recipe in zip(to_pictures(images), recipes, strict=True):
            texts = chunks(recipe) if self.job.metadata else {}
            path = self._save(picture_bytes(picture, texts), self.job.name or slug(recipe.shows))
            self.paths.append(path)
            if self.job.json:
                facts = written(recipe) | {"seconds": round(seconds / len(recipes), 3)}
                emit({"path": str(path), "kind": "picture", **facts})
            say(f"{path} (seed {recipe.seed})", quiet=self.job.quiet)

    def write_attention(self, images: Tensor, recipes: Sequence[Recipe], seen: MapRecorder, parts: Parts) -> None:
        """Write for each picture of a batch (B, 3, H, W) where each word of its prompt was looked at from."""
        import torch

        from sfumato.attention.maps import maps_of_words
        from sfumato.attention.overlay import overlay
        from sfumato.core.sheet import table

        words, maps = parts.text([recipe.shows for recipe in recipes]), seen.maps(*images.shape[-2:])
        maps = maps[-len(recipes) :]  # a rewrite that is made alone has its source before it
        for index, (recipe, made) in enumerate(zip(recipes, self.paths[-len(recipes) :], strict=True)):
            named = maps_of_words(maps, words, index)
            image = images[index : index + 1].float().clamp(-1, 1)
            over = [overlay(image, shown[None]) for _, shown in named]
            sheet = table(torch.cat([image, *over]), ["", *(word for word, _ in named)])
            self._write_sheet(sheet, f"{made.stem}-attention", "attention", f"attention, seed {recipe.seed}")

    def write_neighbours(self, images: Tensor, recipes: Sequence[Recipe], sources: Sources) -> None:
        """Write for each picture of a batch (B, 3, H, W) what of a memory was in its context."""
        import torch

        from sfumato.core.image import cover, from_pictures, open_picture
        from sfumato.core.sheet import table

        for image, recipe, made in zip(images, recipes, self.paths[-len(recipes) :], strict=True):
            asked = recipe.recall
            if asked is None or not asked.found:
                continue
            memory = sources.memory(asked.memory)
            entries = memory.entries(memory.find([name for name, _ in asked.found]))
            shown = [cover(from_pictures([open_picture(each.thumbnail)]), *image.shape[-2:]) for each in entries]
            words = [each.caption or each.source for each in entries]
            rows = torch.cat([image[None].float().clamp(-1, 1), *(each.clamp(-1, 1) for each in shown)])
            sheet, about = table(rows, ["made", *words]), f"neighbours, seed {recipe.seed}"
            self._write_sheet(sheet, f"{made.stem}-neighbours", "neighbours", about)

    def write_grid(self, images: Sequence[Tensor], recipes: Sequence[Recipe]) -> None:
        """Write all pictures (B, 3, H, W) on one sheet, with their prompts."""
        import torch

        from sfumato.core.sheet import grid

        columns = min(8, -(-len(recipes) // max(1, round(len(recipes) ** 0.5))))
        sheet = grid(torch.cat(list(images)), columns, [recipe.shows for recipe in recipes])
        self._write_sheet(sheet, f"{slug(recipes[0].prompt)}-grid", "grid", f"all {len(recipes)}")

    def _write_sheet(self, sheet: Image.Image, name: str, kind: str, about: str) -> None:
        path = self._save(picture_bytes(sheet, {}), name)
        announce(path, kind, about, json=self.job.json, quiet=self.job.quiet)

    def _save(self, content: bytes, name: str) -> Path:
        start = self._next.get(name, 0 if self.job.force else next_index(self.job.folder, name))
        while (self.job.folder / f"{name}-{start:04d}.png").resolve() in self.kept:
            start += 1  # what the pictures are made from never gives way
        path = save_numbered(content, self.job.folder, name, start, force=self.job.force)
        self._next[name] = int(path.stem.rpartition("-")[2]) + 1
        return path


def _recorder(parts: Parts, recipe: Recipe) -> MapRecorder:
    from sfumato.attention.maps import MapRecorder, coarse_side

    return MapRecorder(max(32, coarse_side(*parts.codec.shape(*recipe.whole_size)[-2:])))


def load_parts(model: Model, recipe: Recipe, max_rows: int | None) -> Parts:
    """Load a model in the recipe's dtype, after setting its number of threads.

    Raises:
        UsageError: the recipe asks for what this kind of model does not do.
        CheckpointError: the model is broken, unsafe or of an unknown kind.
    """
    import torch

    import sfumato

    check_denoiser(recipe)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    parts = sfumato.load(model.folder, dtype=getattr(torch, recipe.dtype))
    return replace(parts, model=replace(parts.model, max_rows=max_rows))


def _load_codes(job: Job, recipe: Recipe) -> RarmParts:
    if job.attention or job.max_rows is not None:
        raise UsageError(
            f"the model '{job.model.name}' draws codes and reads no words; leave out --show-attention and --max-rows"
        )
    return load_codes(job.model, recipe)


def _steps(parts: Parts | RarmParts, recipe: Recipe) -> int:
    """Steps, or codes, of a picture."""
    from sfumato.checkpoints.rarm import RarmParts

    return parts.rarm.length if isinstance(parts, RarmParts) else steps_of(recipe)


def _batches(recipes: Sequence[Recipe], size: int) -> list[list[Recipe]]:
    parts = [recipes[start : start + size] for start in range(0, len(recipes), size)]
    return [[replace(recipe, batch=len(part)) for recipe in part] for part in parts]


def completed(recipe: Recipe, parts: Parts | RarmParts, model: Model) -> Recipe:
    """A recipe with the model's name and fingerprint, its size if none was asked for, how it draws, and our version."""
    import sfumato
    from sfumato.checkpoints.rarm import RarmParts

    height, width = parts.size
    return replace(
        told(recipe, parts) if isinstance(parts, RarmParts) else recipe,
        model=model.name,
        fingerprint=model.fingerprint,
        height=recipe.height or height,
        width=recipe.width or width,
        version=sfumato.__version__,
    )
