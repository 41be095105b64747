"""``sfumato memory``: databases of pictures, searched by likeness."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli import memory_flags
from sfumato.cli.files import next_index, picture_bytes, prepare_folder, save_numbered, slug
from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.progress import announce, bar, emit, note, say
from sfumato.cli.words import printable
from sfumato.machine import usable_threads

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.encoders.joint import JointEncoder
    from sfumato.retrieval.build import Report
    from sfumato.retrieval.corpus import Corpus
    from sfumato.retrieval.embed import Maker
    from sfumato.retrieval.index import IndexFacts
    from sfumato.retrieval.memory import Memory
    from sfumato.retrieval.patches import Patches

__all__ = ["add", "add_flags", "build", "export", "info", "remove", "search", "verify"]

_FAULTS_TOLD, _SIDE = 10, 96


def add_flags(parser: Parser) -> None:
    """The commands below ``sfumato memory``."""
    commands = parser.add_subparsers(metavar="COMMAND", dest="memory_command", required=True, parser_class=Parser)
    for name, fill, run, text in (
        ("build", memory_flags.build_flags, build, "make a memory of pictures, or go on with one"),
        ("info", memory_flags.place, info, "say what a memory holds"),
        ("search", memory_flags.search_flags, search, "show the nearest pictures to a text or a picture"),
        ("add", memory_flags.add_flags, add, "add pictures"),
        ("remove", memory_flags.remove_flags, remove, "remove entries"),
        ("verify", memory_flags.place, verify, "see that a memory is what was written"),
        ("export", memory_flags.export_flags, export, "write a memory as one parquet file"),
    ):
        commands.add_parser(name, fill=partial(_filled, fill, run), help=text, description=run.__doc__)


def build(options: argparse.Namespace) -> int:
    """Make a memory of a folder of pictures, of parquet or tar files, or of the emoji world; or go on with one."""
    from sfumato.retrieval.build import build as build_memory

    patches, corpus = _patches(options), _corpus(options)
    opened = partial(_maker, options.encoder or "emoji", patches, options.batch)
    tell = partial(say, quiet=options.quiet)
    with bar(sum(part.count for part in corpus.slices), "pictures", "picture", quiet=options.quiet) as advance:
        if options.workers:
            from sfumato.retrieval.cluster import Workers, build_on_cluster

            workers = Workers(options.workers)
            report = build_on_cluster(
                options.output, corpus, opened, workers=workers, recall=options.recall, advance=advance, say=tell
            )
        else:
            report = build_memory(options.output, corpus, opened(), recall=options.recall, advance=advance, say=tell)
    return _told(options, options.output, report)


def _patches(options: argparse.Namespace) -> Patches:
    """What the flags on crops say; a note where pictures stay whole."""
    from sfumato.retrieval.patches import Crops, Whole

    least, most = options.crops or (None, None)
    asked = {"short_side": options.short_side, "side": options.crop, "least": least, "most": most}
    given = {name: value for name, value in asked.items() if value is not None}
    if options.patches == "crops":
        return Crops(**given)
    if given:
        note("without --patches crops --short-side, --crop and --crops do nothing", quiet=options.quiet)
    return Whole()


def info(options: argparse.Namespace) -> int:
    """Say what a memory holds."""
    memory = _open(options.memory)
    facts, index = memory.facts, memory.facts.index
    size = sum(path.stat().st_size for path in options.memory.rglob("*") if path.is_file())
    faults = sum(part.faults for part in memory.parts)
    if options.json:
        told = {"entries": len(memory), "width": memory.width, "encoder": facts.encoder.name, "faults": faults}
        told |= {"patches": facts.patches, "corpora": list(facts.corpora), "bytes": size}
        emit({**told, "fingerprint": memory.fingerprint, "index": None if index is None else vars(index)})
        return 0
    weight, of = f"{size / 1e6:.1f} MB, {size / max(1, len(memory)):.0f} a picture", ", ".join(facts.corpora)
    lines = [
        f"{options.memory.name}: {len(memory)} entries of {of} (fingerprint {memory.fingerprint})",
        f"  {facts.patches}; embedded by {facts.encoder.name} ({memory.width} numbers each)",
        f"  {weight}; {len(memory.parts)} parts; {faults} pictures were passed over",
        *([] if index is None else [f"  {_found(index)}"]),
    ]
    print("\n".join(map(printable, lines)))
    return 0


def _found(index: IndexFacts) -> str:
    """What an index finds, as measured when it was built."""
    if index.kind == "exact":
        return "index: exact"
    share = f"{index.recall:.3f} [{index.low:.3f}, {index.high:.3f}] of the {index.count} nearest"
    return f"index: {index.kind}, finds {share} (measured on {index.queries} queries)"


def search(options: argparse.Namespace) -> int:
    """Write a sheet of the pictures that are nearest to a text or to a picture, with their cosines."""
    import torch

    from sfumato.core.image import cover, from_pictures, open_picture
    from sfumato.core.sheet import grid

    prepare_folder(options.output)
    memory = _open(options.memory)
    query, asked = _query(options, memory)
    found = memory.search(query, min(options.count, len(memory)))
    entries = memory.entries(found.rows[0].tolist())
    cosines: list[float] = found.cosines[0].tolist()
    for entry, cosine in zip(entries, cosines, strict=True):
        if options.json:
            emit({"id": entry.id, "source": entry.source, "caption": entry.caption, "box": entry.box, "cosine": cosine})
        else:
            print(printable(f"{cosine:.3f}  {entry.id}  {entry.source}  {entry.caption or ''}".rstrip()))
    images = [cover(from_pictures([open_picture(entry.thumbnail)]), _SIDE, _SIDE).clamp(-1, 1) for entry in entries]
    labels = [f"{cosine:.2f} {entry.caption or entry.source}" for entry, cosine in zip(entries, cosines, strict=True)]
    sheet = grid(torch.cat(images), min(8, len(images)), labels)
    name = f"{slug(asked)}-found"
    first = 0 if options.force else next_index(options.output, name)
    path = save_numbered(picture_bytes(sheet, {}), options.output, name, first, force=options.force)
    announce(path, "found", f"{len(entries)} found", json=options.json, quiet=options.quiet)
    return 0


def add(options: argparse.Namespace) -> int:
    """Add the pictures of another corpus; those that are there already are left out."""
    from sfumato.retrieval.change import add as add_pictures
    from sfumato.retrieval.patches import patches_named

    facts = _open(options.memory).facts
    encoder, corpus = _encoder(options, facts.encoder.name), _corpus(options)
    maker = _maker(encoder, patches_named(facts.patches), options.batch)
    with bar(sum(part.count for part in corpus.slices), "pictures", "picture", quiet=options.quiet) as advance:
        report = add_pictures(options.memory, corpus, maker, advance=advance, say=partial(say, quiet=options.quiet))
    return _told(options, options.memory, report)


def remove(options: argparse.Namespace) -> int:
    """Remove entries by their ids, or all of some sources; the pictures themselves stay where they are."""
    from fnmatch import fnmatch

    from sfumato.retrieval.change import remove as remove_entries

    memory, ids = _open(options.memory), list(options.ids)
    for pattern in options.source or ():
        fits = [
            name
            for part in memory.parts
            for name, source in zip(part.column("id"), part.column("source"), strict=True)
            if fnmatch(source, pattern)
        ]
        if not fits:
            raise UsageError(f"no entry comes from '{pattern}'; `sfumato memory search` shows where entries come from")
        ids += fits
    if not ids:
        raise UsageError("name the entries by their ids, or their sources by --source")
    facts = remove_entries(options.memory, ids, say=partial(say, quiet=options.quiet))
    if options.json:
        emit({"path": str(options.memory), "kind": "memory", "removed": len(set(ids)), "entries": facts.entries})
    say(f"{len(set(ids))} entries removed, {facts.entries} are left", quiet=options.quiet)
    return 0


def verify(options: argparse.Namespace) -> int:
    """See that a memory is what was written: hashes, ids, boxes, thumbnails, and that rows find themselves."""
    from sfumato.retrieval.fault import RetrievalError
    from sfumato.retrieval.memory import read_facts
    from sfumato.retrieval.verify import verify as faults_of

    try:
        facts = read_facts(options.memory)
    except RetrievalError:  # which is the one fault that will be found
        facts = None
    with bar(1 + (len(facts.parts) if facts else 0), "verifying", "part", quiet=options.quiet) as advance:
        faults = faults_of(options.memory, advance=advance)
    if options.json:
        emit({"path": str(options.memory), "kind": "memory", "faults": faults})
    for fault in faults:
        say(fault)
    entries = f" in {facts.entries} entries" if facts else ""
    say(f"{options.memory.name}: {len(faults) or 'no'} faults{entries}", quiet=options.quiet)
    return 1 if faults else 0


def export(options: argparse.Namespace) -> int:
    """Write a memory as one parquet file: id, source, digest, box, caption, thumbnail and embedding."""
    from sfumato.retrieval.change import export as write_table

    if options.file.exists() and not options.force:
        raise UsageError(f"{options.file} is there already; choose another name, or --force")
    memory = _open(options.memory)
    write_table(memory, options.file)
    if options.json:
        emit({"path": str(options.file), "kind": "table", "entries": len(memory)})
    say(f"{options.file} ({len(memory)} entries)", quiet=options.quiet)
    return 0


def _open(folder: Path) -> Memory:
    from sfumato.retrieval.memory import Memory

    return Memory.open(folder)


def _corpus(options: argparse.Namespace) -> Corpus:
    from sfumato.retrieval.corpus import open_corpus

    try:
        return open_corpus(options.where, image=options.image_column, text=options.text_column)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _maker(encoder: str, patches: Patches, batch: int) -> Maker:
    """How pictures become entries; also called in other processes, which are told the same."""
    import torch

    from sfumato.retrieval.embed import Maker

    torch.set_num_threads(usable_threads())
    return Maker.by(_joint(encoder), patches, batch=batch, threads=usable_threads())


def _joint(encoder: str) -> JointEncoder:
    from sfumato.checkpoints.joint import load_joint

    return load_joint(encoder)


def _encoder(options: argparse.Namespace, made: str) -> str:
    """The encoder to load, by the name of the one that a memory was made with."""
    from sfumato.checkpoints.load import EMBEDDED

    if options.encoder is None and made not in EMBEDDED:
        raise UsageError(f"the memory was made with the encoder '{made}'; say where its folder is by --encoder")
    return options.encoder or made


def _query(options: argparse.Namespace, memory: Memory) -> tuple[Tensor, str]:
    """The embedding (1, D) of what is asked for, and a name for it."""
    import torch

    from sfumato.core.image import cover, from_pictures, open_picture

    made, asked = memory.facts.encoder, options.query
    joint = _joint(_encoder(options, made.name))
    if joint.fingerprint != made.fingerprint:
        raise UsageError(
            f"the memory was made with the encoder '{made.name}', and this is another; name it by --encoder"
        )
    with torch.no_grad():
        if isinstance(asked, str):
            return joint.words([asked]), asked
        images = from_pictures([open_picture(asked)])
        return joint.pictures(cover(images, joint.side, joint.side).clamp(-1, 1)), asked.stem


def _told(options: argparse.Namespace, folder: Path, report: Report) -> int:
    """Say what came of a build, and name the first pictures that were passed over."""
    if options.json:
        told = vars(report) | {"faults": report.faults, "passed_over": [vars(fault) for fault in report.passed_over]}
        emit({"path": str(folder), "kind": "memory", **told, "per_second": report.per_second})
    copies = f", {report.copies} were there already" if report.copies else ""
    say(
        f"{folder}: {report.entries} entries, {report.bytes / 1e6:.1f} MB ({report.pictures} pictures, "
        f"{report.per_second:.0f} a second; {report.faults} passed over{copies})",
        quiet=options.quiet,
    )
    if (index := _open(folder).facts.index) is not None:
        say(_found(index), quiet=options.quiet)
    for fault in report.passed_over[:_FAULTS_TOLD]:
        say(f"passed over {fault.source}: {fault.reason}", quiet=options.quiet)
    if report.faults > _FAULTS_TOLD:
        say(f"and {report.faults - _FAULTS_TOLD} more (--json names them all)", quiet=options.quiet)
    return 0


def _filled(fill: Callable[[Parser], None], run: Callable[[argparse.Namespace], int], parser: Parser) -> None:
    fill(parser)
    add_flag = parser.add_argument
    add_flag("--json", action="store_true", help="JSON objects on stdout")
    add_flag("--quiet", action="store_true", help="nothing on stderr but errors")
    add_flag("--debug", action="store_true", help="show tracebacks and all warnings")
    parser.set_defaults(run=run)
