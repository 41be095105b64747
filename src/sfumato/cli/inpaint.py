"""``sfumato inpaint`` and ``sfumato outpaint``: part of a picture made anew, or a border put round it."""

from __future__ import annotations

import argparse
from dataclasses import replace

from sfumato.cli.flags import recipe_of
from sfumato.cli.models import find
from sfumato.cli.parser import Parser
from sfumato.cli.redraw import add_edit_flags, render_edits
from sfumato.cli.sources import Sources
from sfumato.cli.values import border, whole

__all__ = ["add_border_flags", "add_flags", "run"]


def add_flags(parser: Parser) -> None:
    """The flags of ``sfumato inpaint``."""
    add_edit_flags(parser, ("mask", "white where it is made anew, black where it is kept"))
    _add_repaint_flags(parser)
    parser.epilog = 'example: sfumato inpaint cat.png mask.png "a cat with a red hat" --repaint 5'
    parser.set_defaults(run=run)


def add_border_flags(parser: Parser) -> None:
    """The flags of ``sfumato outpaint``."""
    add_edit_flags(parser)
    sides = "pixels on every side, or LEFT,RIGHT,ABOVE,BELOW"
    parser.add_argument("--border", type=border, required=True, metavar="PX", help=sides)
    _add_repaint_flags(parser)
    parser.epilog = 'example: sfumato outpaint cat.png "a cat" --size 32x32 --border 16'
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make a part of a picture anew."""
    sources = Sources(find(options.model))
    recipe = replace(recipe_of(options, sources), repaint=options.repaint, paste=options.paste)
    if "border" in options:
        return render_edits(options, replace(recipe, task="outpaint", border=options.border), sources)
    return render_edits(options, replace(recipe, task="inpaint", mask=sources.add(options.mask)), sources)


def _add_repaint_flags(parser: Parser) -> None:
    add = parser.add_argument
    add("--repaint", type=whole(1, 1000), default=1, metavar="N", help="walk each stretch N times; 10 in the paper (1)")
    add("--paste", action="store_true", help="put the kept pixels back at the end, exactly")
