"""The command ``sfumato``: which commands there are, and what becomes of their errors."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.progress import note, say

__all__ = ["main"]

_COMMANDS = {
    "generate": ("generate", "add_flags", "make pictures of prompts"),
    "redraw": ("redraw", "add_flags", "draw a picture anew after a prompt"),
    "inpaint": ("inpaint", "add_flags", "make the masked part of a picture anew"),
    "outpaint": ("inpaint", "add_border_flags", "put a border round a picture"),
    "rewrite": ("rewrite", "add_flags", "change words of a prompt and keep the rest of its picture"),
    "invert": ("invert", "add_flags", "find the noise that a picture comes from"),
    "morph": ("morph", "add_flags", "make the pictures between two prompts or pictures"),
    "grid": ("grid", "add_flags", "compare settings on one labelled sheet"),
    "again": ("again", "add_flags", "make a picture once more from the recipe that it carries"),
    "models": ("models", "add_flags", "list the installed models with their cards"),
    "memory": ("memory", "add_flags", "make and search memories: pictures to draw from"),
    "world": ("world", "add_flags", "fetch or show the emoji pictures to train and evaluate on"),
    "train": ("train", "add_flags", "run a training recipe"),
    "evaluate": ("evaluate", "add_flags", "score a model on the fixed prompts of the emoji world"),
}
_DONE, _FAILED, _WRONG, _INTERRUPTED = 0, 1, 2, 130


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        words: what stands after ``sfumato``; those of the process if None.

    Returns:
        the exit code: 0 done, 2 wrong arguments, 1 failed, 130 interrupted. A plain ``ValueError`` is a setting that
        cannot be; its subclasses are of files that cannot be used.
    """
    words = sys.argv[1:] if words is None else list(words)
    debug, quiet = "--debug" in words, "--quiet" in words
    try:
        with _library_output(debug, quiet):
            options = _parser().parse_args(words)
            return int(options.run(options))
    except SystemExit as leave:
        return int(leave.code or _DONE)
    except KeyboardInterrupt as error:
        say(f"sfumato: interrupted; {error}" if str(error) else "sfumato: interrupted")
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except Exception as error:
        if debug and not isinstance(error, UsageError):
            raise
        say(f"sfumato: {_sentence(error)}")
        return _WRONG if isinstance(error, UsageError) or type(error) is ValueError else _FAILED


def _parser() -> Parser:
    parser = Parser(prog="sfumato", description="Conditional image diffusion as parts that compose.")
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True, parser_class=Parser)
    for name, (module, function, text) in _COMMANDS.items():
        commands.add_parser(name, fill=_filler(module, function), help=text, description=text.capitalize() + ".")
    return parser


def _filler(module: str, function: str) -> Callable[[Parser], None]:
    def fill(parser: Parser) -> None:
        getattr(import_module(f"sfumato.cli.{module}"), function)(parser)

    return fill


class _Version(argparse.Action):
    """``--version``: print it and leave."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        from sfumato import __version__

        print(f"sfumato {__version__}")
        parser.exit()


@contextmanager
def _library_output(debug: bool, quiet: bool) -> Generator[None]:
    """Keep libraries from the network and from the terminal; our own warnings become notes, if not quiet."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if debug:
        yield
        return
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=r"sfumato\b")
        warnings.showwarning = partial(_tell, quiet=quiet)
        yield


def _tell(message: Warning | str, *_: object, quiet: bool) -> None:
    note(str(message), quiet=quiet)


def _sentence(error: Exception) -> str:
    """What to tell a person: our own messages as they are, surprises with the way to learn more."""
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "not enough memory" in text):
        return "there is not enough memory; try a smaller --batch or --size, or set --max-rows"
    ours = type(error).__module__.startswith("sfumato.")
    if ours or (isinstance(error, ValueError | OSError | FloatingPointError) and text):
        return text
    return f"unexpected {type(error).__name__}: {text or 'no message'} (--debug shows where)"
