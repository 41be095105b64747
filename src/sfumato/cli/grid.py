"""``sfumato grid``: settings of ``generate`` compared on one labelled sheet.

Each cell is a picture of its own, in a folder beside the sheet, with the recipe that it carries; a cell whose recipe is
already there is not made again, so an interrupted grid goes on where it stopped, and one of another recipe stays.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.checks import HIGHEST_SEED
from sfumato.cli.files import OutputError, next_index, picture_bytes, prepare_folder, save_numbered, slug, write_whole
from sfumato.cli.generate import add_picture_flags, planned
from sfumato.cli.make import make, steps_of
from sfumato.cli.models import find
from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.progress import bar, emit, notes_once, say
from sfumato.cli.recall import recalled
from sfumato.cli.render import completed, load_parts
from sfumato.cli.sources import Sources
from sfumato.cli.values import size, whole
from sfumato.cli.words import did_you_mean
from sfumato.metadata import JSON_CHUNK, chunks, to_json
from sfumato.png_text import read_text_chunks
from sfumato.recipe import Recipe

if TYPE_CHECKING:
    from sfumato.checkpoints.parts import Parts

__all__ = ["add_flags", "run"]

_REFUSED = ("no-metadata", "show-neighbours", "show-parse")
_FIXED = (*_REFUSED, "max-rows", "threads", "output", "force", "json", "quiet", "debug", "help")
_Axis = tuple[str, tuple[str, ...]]
_Cell = tuple[Recipe, Sources]


def add_flags(parser: Parser) -> None:
    """The flags of ``sfumato grid``."""
    parser.add_argument("prompt", metavar="PROMPT", help="what the pictures show")
    axis = "prompt, or a flag of this list without --, and its values; | parts values that hold commas"
    for name, where in (("x", "across"), ("y", "down"), ("z", "one block below another")):
        parser.add_argument(f"--{name}", metavar="NAME=V,V", required=name == "x", help=f"{where}: {axis}")
        axis = "likewise"
    _add_cell_flags(parser)
    parser.epilog = 'example: sfumato grid "a red apple" --x guidance=1,3,6 --y steps=5,10,20'
    parser.hide(*_REFUSED)
    parser.set_defaults(run=run, count=1)


def _add_cell_flags(parser: Parser) -> None:
    """Flags that a cell can have of its own."""
    parser.add_argument("--seed", type=whole(0, HIGHEST_SEED), default=0, metavar="N", help="of every cell (0)")
    parser.add_argument("--size", type=size, metavar="WxH", help="pixels; the model's own size if not given")
    add_picture_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Make the cells that are not there yet, then the sheet.

    Raises:
        KeyboardInterrupt: on Ctrl-C; the message counts the cells that are there.
    """
    if options.no_metadata or options.show_neighbours or options.show_parse:
        raise UsageError(
            "a cell is one picture, and goes on by the recipe it carries; leave out --no-metadata, --show-neighbours "
            "and --show-parse, which `sfumato generate` has"
        )
    axes = [_axis(word) for word in (options.z, options.y, options.x) if word]
    if len({name for name, _ in axes}) < len(axes):
        raise UsageError("two axes change the same setting")
    places = [dict(zip([name for name, _ in axes], values, strict=True)) for values in product(*(v for _, v in axes))]
    sources: dict[str, Sources] = {}
    with notes_once():
        cells = [_cell(options, place, sources) for place in places]
    folder = options.output / f"{slug(options.prompt)}-cells"
    prepare_folder(folder)
    names = [slug(" ".join(f"{name} {value}" for name, value in place.items())) for place in places]
    paths = _make_cells(cells, [folder / name for name in names], options)
    sheet = _write_sheet(paths, axes, options)
    if options.json:
        emit({"path": str(sheet), "kind": "grid", "cells": [str(path) for path in paths]})
    say(f"{sheet} ({len(paths)} cells)", quiet=options.quiet)
    return 0


def _make_cells(cells: Sequence[_Cell], stems: Sequence[Path], options: argparse.Namespace) -> list[Path]:
    from sfumato.core.image import to_pictures

    loaded: dict[tuple[str, str], Parts] = {}
    paths: list[Path] = []
    try:
        with bar(sum(steps_of(recipe) for recipe, _ in cells), "making cells", "step", quiet=options.quiet) as advance:
            for (asked, sources), stem in zip(cells, stems, strict=True):
                key = (sources.model.fingerprint, asked.dtype)
                if key not in loaded:
                    loaded[key] = load_parts(sources.model, asked, options.max_rows)
                (recipe,) = recalled(loaded[key], [completed(asked, loaded[key], sources.model)], sources)
                path = _place_of(recipe, stem, paths, force=options.force)
                if path in paths or (not options.force and _is_there(path, recipe)):
                    advance(steps_of(recipe))
                else:
                    images = make(loaded[key], [recipe], sources, advance)
                    write_whole(picture_bytes(to_pictures(images)[0], chunks(recipe)), path, replace=options.force)
                    say(f"{path}", quiet=options.quiet)
                paths.append(path)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"{len(paths)} of {len(cells)} cells are there; the same command goes on") from error
    return paths


def _place_of(recipe: Recipe, stem: Path, taken: Sequence[Path], *, force: bool) -> Path:
    """STEM.png, or where that is another picture's STEM-DIGEST.png, of the recipe's digest.

    Raises:
        OutputError: both are pictures of something else.
    """
    digest = blake2b(to_json(recipe).encode(), digest_size=4).hexdigest()
    plain, own = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}-{digest}.png")
    if force:
        return own if plain in taken else plain
    fitting = [path for path in (plain, own) if _is_there(path, recipe)]
    fitting += [path for path in (plain, own) if not path.exists()]
    if fitting:
        return fitting[0]
    raise OutputError(f"{own} is there and is no such cell; choose another --output, or --force")


def _is_there(path: Path, recipe: Recipe) -> bool:
    """Whether a cell's file holds the picture of a recipe."""
    if not path.is_file():
        return False
    try:
        return read_text_chunks(path, frozenset({JSON_CHUNK})).get(JSON_CHUNK) == to_json(recipe)
    except ValueError:
        return False


def _write_sheet(paths: Sequence[Path], axes: Sequence[_Axis], options: argparse.Namespace) -> Path:
    import torch

    from sfumato.core.image import from_pictures, open_picture, resize
    from sfumato.core.sheet import table

    images = [from_pictures([open_picture(path)]) for path in paths]
    tall, wide = (max(image.shape[side] for image in images) for side in (2, 3))
    labels = [[f"{name}={value}" for value in values] for name, values in axes]
    sheet = table(torch.cat([resize(image, tall, wide) for image in images]), *reversed(labels))
    name = f"{slug(options.prompt)}-grid"
    first = 0 if options.force else next_index(options.output, name)
    return save_numbered(picture_bytes(sheet, {}), options.output, name, first, force=options.force)


def _cell(options: argparse.Namespace, place: Mapping[str, str], shared: dict[str, Sources]) -> _Cell:
    """The recipe of one cell: the flags as given, those of its place over them."""
    parser = Parser(prog="sfumato grid")
    parser.add_argument("prompts", nargs="*")
    _add_cell_flags(parser)
    known = [flag for flag in parser.long_flags if flag not in _FIXED]
    for name in place:
        if name != "prompt" and name not in known:
            raise UsageError(f"no setting '{name}' for an axis{did_you_mean(name, known)}")
    words = [f"--{name}={value}" for name, value in place.items() if name != "prompt"]
    own = parser.parse_args([*words, "--", place.get("prompt", options.prompt)], argparse.Namespace(**vars(options)))
    sources = shared.setdefault(str(own.model), Sources(find(own.model)))
    return planned(own, sources)[0], sources


def _axis(word: str) -> _Axis:
    name, equals, values = word.partition("=")
    found = tuple(value.strip() for value in values.split("|" if "|" in values else ","))
    if not (name and equals and all(found)):
        raise UsageError(f"an axis needs NAME=VALUE,VALUE, such as guidance=1,3,6, got '{word}'")
    if len(set(found)) < len(found):
        raise UsageError(f"the axis '{word}' has a value twice")
    return name.strip().removeprefix("--"), found
