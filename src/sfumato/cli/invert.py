"""``sfumato invert``: the noise from which the sampler makes a given picture, as a file for ``generate --start``."""

from __future__ import annotations

import argparse
import shlex

from sfumato.cli.files import OutputError, prepare_folder, write_whole
from sfumato.cli.flags import add_machine_flags
from sfumato.cli.models import find
from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.progress import bar, emit, note, say
from sfumato.cli.render import load_parts
from sfumato.cli.sources import Sources
from sfumato.cli.values import existing_file, number, path, size, whole
from sfumato.machine import best_dtype, usable_threads
from sfumato.recipe import MOST_STEPS, Recipe

__all__ = ["add_flags", "run"]

_VARIANTS = ("plain", "target", "fixed_point")
_ITERATIONS = 10


def add_flags(parser: Parser) -> None:
    """The flags of ``sfumato invert``."""
    add = parser.add_argument
    add("image", type=existing_file, metavar="IMAGE", help="PNG, JPEG or WebP; its middle is cut out")
    add("prompt", metavar="PROMPT", help="what the picture shows")
    add("-o", "--output", type=path, required=True, metavar="FILE", help="gets the start, as safetensors")
    add("--steps", type=whole(1, MOST_STEPS), default=Recipe.steps, metavar="N", help="of the path, up and down (20)")
    add("--variant", choices=_VARIANTS, default="fixed_point", help="of the inversion (fixed_point)")
    add("--iterations", type=whole(1, 1000), default=_ITERATIONS, metavar="N", help="of fixed_point, in each step (10)")
    add("--null-text", type=number(1.000001, 1000), metavar="W", help="tune the nulls for guidance W, such as 4")
    add("--size", type=size, metavar="WxH", help="pixels; the model's own size if not given")
    add_machine_flags(parser)
    add("--force", action="store_true", help="write over a former file")
    add("--json", action="store_true", help="a JSON object on stdout")
    add("--quiet", action="store_true", help="nothing on stderr but errors")
    add("--debug", action="store_true", help="show tracebacks and all warnings")
    parser.epilog = 'example: sfumato invert cat.png "a cat" -o cat.safetensors'
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Invert a picture, walk back to see how near it comes, and write the start.

    Raises:
        OutputError: the file cannot be written.
    """
    _check(options)
    prepare_folder(options.output.parent)
    sources = Sources(find(options.model))
    picture = sources.add(options.image)

    import torch

    from sfumato.core.image import open_picture
    from sfumato.flows.invert import Inverting, invert
    from sfumato.flows.start_file import start_bytes
    from sfumato.flows.steering import Steering
    from sfumato.flows.text_to_image import text_to_image
    from sfumato.flows.walk import Walk

    open_picture(options.image)
    dtype = best_dtype() if options.dtype == "auto" else options.dtype
    asked = Recipe("", 0, dtype=dtype, threads=options.threads or usable_threads())
    parts = load_parts(sources.model, asked, options.max_rows)
    wide, tall = options.size or parts.size[::-1]
    image, prompts = sources.image(picture, (tall, wide)), [options.prompt]
    how = Inverting(options.variant, options.iterations, options.null_text)
    guidance = options.null_text or 1.0
    with bar((3 if options.null_text else 2) * options.steps, "inverting", "step", quiet=options.quiet) as advance:
        found = invert(parts, image, prompts, walk=Walk(options.steps), how=how, watch=lambda _: advance())
        back = text_to_image(
            parts,
            prompts,
            seeds=[0],
            size=(tall, wide),
            steer=Steering(guidance=guidance, nulls=found.nulls),
            walk=Walk(options.steps, start=found.start),
            watch=lambda _: advance(),
        )
    try:
        write_whole(start_bytes(found), options.output, replace=options.force)
    except FileExistsError as error:
        raise OutputError(f"{options.output} has appeared meanwhile; choose another --output, or --force") from error
    with torch.no_grad():
        away = float((parts.codec.decode(parts.codec.encode(image)) - back).square().mean().sqrt())
    command = _way_back(options, guidance, None if (wide, tall) == parts.size[::-1] else f"{wide}x{tall}")
    if options.json:
        emit({"path": str(options.output), "kind": "start", "away": round(away, 5), "command": command})
    say(f"{options.output} (comes back to within {away:.3f}, root mean square in [-1, 1])", quiet=options.quiet)
    say(f"next: {shlex.join(command)}", quiet=options.quiet)
    return 0


def _way_back(options: argparse.Namespace, guidance: float, size: str | None) -> list[str]:
    """The command line that makes the picture of the start again."""
    dtype = None if options.dtype == "auto" else options.dtype
    more = {"--size": size, "--model": options.model, "--dtype": dtype}
    words = ["--start", str(options.output), "--steps", str(options.steps), "--guidance", f"{guidance:g}"]
    words += [word for flag, value in more.items() if value is not None for word in (flag, str(value))]
    return ["sfumato", "generate", options.prompt, *words]


def _check(options: argparse.Namespace) -> None:
    if not options.prompt.strip():
        raise UsageError("the prompt is empty; say what the picture shows")
    if options.variant != "fixed_point" and options.iterations != _ITERATIONS:
        note("without --variant fixed_point --iterations does nothing", quiet=options.quiet)
    if options.output.exists() and options.output.samefile(options.image):
        raise UsageError(f"{options.output} is the picture itself; choose another --output")
    if options.output.exists() and not options.force:
        raise UsageError(f"{options.output} exists; choose another --output, or --force")
