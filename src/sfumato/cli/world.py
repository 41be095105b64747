"""``sfumato world``: the emoji pictures that scenes are made of."""

from __future__ import annotations

import argparse
from pathlib import Path

from sfumato.cli.files import next_index, picture_bytes, prepare_folder, save_numbered
from sfumato.cli.parser import Parser
from sfumato.cli.progress import emit, say
from sfumato.cli.values import path, whole

__all__ = ["add_flags", "fetch", "show"]


def add_flags(parser: Parser) -> None:
    """The commands below ``sfumato world``."""
    commands = parser.add_subparsers(metavar="COMMAND", dest="world_command", required=True, parser_class=Parser)
    commands.add_parser("fetch", fill=_add_fetch_flags, help="fill the cache of pictures", description=fetch.__doc__)
    commands.add_parser("show", fill=_add_show_flags, help="write a contact sheet of scenes", description=show.__doc__)


def fetch(options: argparse.Namespace) -> int:
    """Fill the cache of emoji pictures, from npm or from a folder that holds the packages."""
    from sfumato.world.sources import fetch as fill_cache

    folder = fill_cache(options.source, options.cache, say=lambda text: say(text, quiet=options.quiet))
    if options.json:
        emit({"path": str(folder), "kind": "world"})
    return 0


def show(options: argparse.Namespace) -> int:
    """Write a contact sheet of scenes, with captions, boxes and masks drawn."""
    from sfumato.world.choose import SceneConfig
    from sfumato.world.show import contact_sheet
    from sfumato.world.sources import open_world

    prepare_folder(options.output)
    config = SceneConfig(split=options.split, vocabulary=options.vocabulary)
    sheet = contact_sheet(open_world(options.cache), options.seed, options.count, config)
    first = 0 if options.force else next_index(options.output, "scenes")
    path = save_numbered(picture_bytes(sheet, {}), options.output, "scenes", first, force=options.force)
    say(str(path), quiet=options.quiet)
    if options.json:
        emit(
            {"path": str(path), "kind": "scenes", "seed": options.seed, "count": options.count, "split": options.split}
        )
    return 0


def _add_fetch_flags(parser: Parser) -> None:
    add = parser.add_argument
    add("source", nargs="?", type=path, metavar="FOLDER", help="holds the packages; without it npm downloads them")
    add("--cache", type=path, metavar="DIR", help="where to keep the pictures (the user's cache folder)")
    _add_common_flags(parser)
    parser.set_defaults(run=fetch)


def _add_show_flags(parser: Parser) -> None:
    add = parser.add_argument
    add("--count", type=whole(1, 1000), default=16, metavar="N", help="number of scenes (16)")
    add("--seed", type=whole(0, 2**31 - 1), default=0, metavar="N", help="of the stream of scenes (0)")
    add("--split", choices=("train", "validation", "test"), default="train", help="whose scenes (train)")
    add("--vocabulary", choices=("core", "whole"), default="core", help="which concepts (core)")
    add("--cache", metavar="DIR", help="of the pictures; 'sample' is the small one in the package")
    add("-o", "--output", type=path, default=Path(), metavar="DIR", help="folder of the sheet (.)")
    add("--force", action="store_true", help="overwrite scenes-0000.png instead of taking a free number")
    _add_common_flags(parser)
    parser.set_defaults(run=show)


def _add_common_flags(parser: Parser) -> None:
    add = parser.add_argument
    add("--json", action="store_true", help="one JSON object on stdout")
    add("--quiet", action="store_true", help="nothing on stderr but errors")
    add("--debug", action="store_true", help="show tracebacks and all warnings")
