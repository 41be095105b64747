"""``sfumato again``: a picture once more, from the recipe that it carries."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sfumato.cli.flags import add_machine_flags, add_output_flags, job_of
from sfumato.cli.models import Model, find, installed
from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.progress import note
from sfumato.cli.render import render
from sfumato.cli.sources import Sources
from sfumato.cli.values import path
from sfumato.given import Given
from sfumato.machine import best_dtype, usable_threads
from sfumato.metadata import A1111_CHUNK, JSON_CHUNK, Found, MetadataError, from_chunks
from sfumato.png_text import read_text_chunks
from sfumato.recipe import Recipe

__all__ = ["add_flags", "run"]


def add_flags(parser: Parser) -> None:
    """The flags of ``sfumato again``."""
    parser.add_argument("picture", type=path, metavar="PICTURE.png", help="a picture that carries its recipe")
    parser.add_argument(
        "--given",
        type=path,
        action="append",
        metavar="PATH",
        help="a file, model or memory it was made from; repeatable",
    )
    add_machine_flags(parser)
    add_output_flags(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make a picture once more.

    Raises:
        MetadataError: the picture carries no recipe that can be followed; the sentence names the picture.
    """
    if not options.picture.is_file():
        raise UsageError(f"there is no picture {options.picture}")
    texts = read_text_chunks(options.picture, frozenset({JSON_CHUNK, A1111_CHUNK}))
    try:
        found = from_chunks(texts)
    except MetadataError as error:
        raise MetadataError(f"{options.picture}: {error}") from error
    model = _model_of(found.recipe, options.model)
    recipe = _adapted(found, model, options)
    for reason in _notes(found, recipe, model):
        note(reason, quiet=options.quiet)
    sources = Sources(model)
    for place in options.given or ():
        _take(sources, place)
    _search(sources, recipe, [options.picture.parent, Path(), options.output])
    try:
        render([recipe], job_of(options, model), sources)
    except ValueError as error:
        if type(error) is not ValueError:  # of a file, which its sentence names
            raise
        raise MetadataError(f"{options.picture}: its recipe cannot be followed: {error}") from error
    return 0


def _search(sources: Sources, recipe: Recipe, places: Sequence[Path]) -> None:
    """Find what a recipe names and was not taken in yet: by name in folders, told apart by content.

    Raises:
        UsageError: a file, memory or model is not found; the sentence names it.
    """
    for given in recipe.given:
        if not _is_found(sources, given, places):
            former = sources.of_name(given.name)
            raise UsageError(
                f"the picture was made from the file '{given.name}'; say where it is by --given"
                if former is None
                else f"the picture was made from '{given.name}', and {former} holds something else by now; say by "
                "--given where the former file is"
            )
    if recipe.recall is not None:
        _search_memory(sources, recipe.recall.memory, places)
    there = {model.fingerprint: model for model in sources.models()}
    for given, _, _ in recipe.experts:
        if given.digest not in there:
            raise UsageError(f"the picture was made with the expert '{given.name}'; say where it is by --given")
        sources.add_model(there[given.digest])


def _is_found(sources: Sources, given: Given, places: Sequence[Path]) -> bool:
    """Whether a file was taken in, or is in a folder and has its content."""
    if sources.holds(given):
        return True
    candidates = [folder / given.name for folder in places if Path(given.name).name == given.name]
    return any(path.is_file() and sources.add(path) == given for path in candidates)


def _search_memory(sources: Sources, given: Given, places: Sequence[Path]) -> None:
    """Find a memory by its name in folders, or among those taken in.

    Raises:
        UsageError: it is not there, or is another by now.
    """
    for folder in [] if sources.holds_memory(given) else places:
        candidate = folder / given.name
        if Path(given.name).name == given.name and (candidate / "memory.json").is_file():
            sources.add_memory(candidate)
    if not sources.holds_memory(given):
        raise UsageError(
            f"the picture was made with pictures of the memory '{given.name}' as it was then; say where it is by "
            "--given"
        )


def _take(sources: Sources, place: Path) -> None:
    """Take in what a place holds: a memory, a model, or a file."""
    if (place / "memory.json").is_file():
        sources.add_memory(place)
    elif place.is_dir():
        sources.add_model(find(str(place)))
    else:
        sources.add(place)


def _model_of(recipe: Recipe, wanted: str | None) -> Model:
    """The one asked for, else the installed one of the recipe's name, else the default one for foreign recipes."""
    if wanted is not None:
        return find(wanted)
    there = {model.name: model for model in installed()}
    if recipe.model in there:
        return there[recipe.model]
    if recipe.fingerprint:
        raise UsageError(f"the picture was made with the model '{recipe.model}'; say where its folder is by --model")
    return find(None)


def _adapted(found: Found, model: Model, options: argparse.Namespace) -> Recipe:
    """The recipe as it can be followed here and now."""
    recipe = found.recipe
    dtype, threads = recipe.dtype, min(recipe.threads, usable_threads())
    if not found.complete:
        dtype = best_dtype()
        recipe = recipe if options.model or recipe.model == model.name else replace(recipe, width=None, height=None)
    return replace(
        recipe,
        dtype=dtype if options.dtype == "auto" else options.dtype,
        threads=options.threads or threads or usable_threads(),
    )


def _notes(found: Found, recipe: Recipe, model: Model) -> list[str]:
    """What keeps the new picture from being the same."""
    old = found.recipe
    if not found.complete:
        size = [] if recipe.width or not old.width else [f"Size: {old.width}x{old.height}"]
        foreign = [f"Model: {old.model}"] if old.model and old.model != model.name else []
        listed = "; ".join([*foreign, *size, *found.ignored])
        whose = "only the short form of the recipe is left" if found.ours else "the recipe is another program's"
        return [f"{whose}, the picture {'may' if found.ours else 'will'} differ; ignored: {listed or 'nothing'}"]
    notes = [f"it was made in a batch of {old.batch}, alone it may differ by rounding"] if old.batch > 1 else []
    if old.fingerprint != model.fingerprint:
        notes.append(
            f"it was made with the model '{old.model}' ({old.fingerprint}), "
            f"this is '{model.name}' ({model.fingerprint}): the picture will be another"
        )
    for name in ("dtype", "threads"):
        if getattr(old, name) != getattr(recipe, name):
            notes.append(f"it was made with {name} {getattr(old, name)}, now {getattr(recipe, name)}: it may differ")
    return notes
