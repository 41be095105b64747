"""The flags of the commands below ``sfumato memory``."""

from __future__ import annotations

from pathlib import Path

from sfumato.cli.parser import Parser
from sfumato.cli.values import existing_folder, number, path, picture_or_words, whole

__all__ = ["add_flags", "build_flags", "export_flags", "place", "remove_flags", "search_flags"]


def place(parser: Parser) -> None:
    """The memory that a command works on."""
    parser.add_argument("memory", type=existing_folder, metavar="MEMORY", help="folder of the memory")


def _corpus_flags(parser: Parser) -> None:
    where = "a folder of pictures, parquet or tar files; one such file; or world, world:3d, world:sample"
    add_flag = parser.add_argument
    add_flag("where", metavar="PICTURES", help=where)
    add_flag("--image-column", default="image", metavar="NAME", help="of parquet files (image)")
    add_flag("--text-column", default="text", metavar="NAME", help="of parquet files and metadata.jsonl (text)")
    add_flag("--batch", type=whole(1, 4096), default=64, metavar="N", help="patches that are embedded together (64)")


def _encoder_flag(parser: Parser, default: str) -> None:
    text = f"a checkpoint with a picture encoder, or the folder of a CLIP ({default})"
    parser.add_argument("--encoder", metavar="PATH", help=text)


def build_flags(parser: Parser) -> None:
    """The flags of ``sfumato memory build``."""
    _corpus_flags(parser)
    _encoder_flag(parser, "emoji")
    add_flag = parser.add_argument
    workers = "processes of a Ray cluster that share the work; needs the extra 'cluster' (none)"
    add_flag("-o", "--output", type=path, required=True, metavar="MEMORY", help="folder of the memory")
    add_flag("--patches", choices=("whole", "crops"), default="whole", help="whole pictures, or random crops (whole)")
    add_flag("--short-side", type=whole(1, 100_000), metavar="PX", help="of pictures before crops (1200)")
    add_flag("--crop", type=whole(1, 100_000), metavar="PX", help="side of a crop (256)")
    add_flag("--crops", type=whole(1, 1000), nargs=2, metavar="N", help="fewest and most a picture (2 3)")
    add_flag("--recall", type=number(0.01, 1), default=1.0, metavar="S", help="of the index; 1 is exact search (1)")
    add_flag("--workers", type=whole(1, 4096), metavar="N", help=workers)
    parser.epilog = "example: sfumato memory build photos -o photos-memory; sfumato memory build world:3d -o d3"


def add_flags(parser: Parser) -> None:
    """The flags of ``sfumato memory add``."""
    place(parser)
    _corpus_flags(parser)
    _encoder_flag(parser, "the memory's")


def search_flags(parser: Parser) -> None:
    """The flags of ``sfumato memory search``."""
    place(parser)
    add_flag = parser.add_argument
    add_flag(
        "query",
        type=picture_or_words,
        metavar="TEXT|PICTURE",
        help="what is looked for: words, or the file of a picture",
    )
    add_flag("--count", type=whole(1, 256), default=16, metavar="N", help="pictures that are shown (16)")
    _encoder_flag(parser, "the memory's")
    add_flag("-o", "--output", type=path, default=Path(), metavar="DIR", help="folder of the sheet (.)")
    add_flag("--force", action="store_true", help="overwrite the sheet instead of taking a free number")


def remove_flags(parser: Parser) -> None:
    """The flags of ``sfumato memory remove``."""
    place(parser)
    parser.add_argument("ids", nargs="*", metavar="ID", help="of entries, 16 hexadecimal digits")
    parser.add_argument("--source", action="append", metavar="PATTERN", help="all from there, as cats/*; repeatable")


def export_flags(parser: Parser) -> None:
    """The flags of ``sfumato memory export``."""
    place(parser)
    parser.add_argument("file", type=path, metavar="FILE.parquet", help="what is written")
    parser.add_argument("--force", action="store_true", help="overwrite a former file")
