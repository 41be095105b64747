"""What is told while a command works: lines and a bar for people on stderr, JSON for programs on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sfumato.cli.words import printable

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Advance", "announce", "bar", "emit", "note", "notes_once", "say"]

_PATIENCE = 1.0
_TOLD: ContextVar[set[str] | None] = ContextVar("notes that were said", default=None)


class Advance(Protocol):
    """Tells a bar that some more units are done."""

    def __call__(self, units: int = 1) -> None:
        """Move on by so many units, >= 0."""
        ...


def say(text: str, *, quiet: bool = False) -> None:
    """A line on stderr, control characters escaped; none when quiet, or where stderr is closed."""
    if not quiet and sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison]
        with _bars_aside():
            print(printable(text), file=sys.stderr, flush=True)


def note(text: str, *, quiet: bool = False) -> None:
    """A line on stderr about what may surprise; none when quiet, nor twice inside :func:`notes_once`."""
    told = _TOLD.get()
    if told is None or text not in told:
        say(f"sfumato: note: {text}", quiet=quiet)
    if told is not None:
        told.add(text)


@contextmanager
def notes_once() -> Generator[None]:
    """A block in which no note is said twice."""
    before = _TOLD.set(set())
    try:
        yield
    finally:
        _TOLD.reset(before)


def announce(path: Path, kind: str, about: str, *, json: bool, quiet: bool) -> None:
    """Tell of a file that was written beside the pictures.

    Args:
        path: its place.
        kind: what it is in a word, for programs: "grid", "attention", "gif".
        about: what it holds, for people.
        json: whether programs are told, on stdout.
        quiet: whether people are not.
    """
    if json:
        emit({"path": str(path), "kind": kind})
    say(f"{path} ({about})", quiet=quiet)


def emit(facts: Mapping[str, Any]) -> None:
    """A JSON object on stdout, as one line of ASCII."""
    with _bars_aside():
        print(json.dumps(facts), flush=True)


@contextmanager
def bar(total: int, what: str, unit: str, *, quiet: bool = False) -> Generator[Advance]:
    """A progress bar with rate and time left, once a second has passed; none when quiet or stderr is no terminal.

    Args:
        total: units in all, >= 0.
        what: the word before the bar.
        unit: name of one unit, such as "step".
        quiet: whether to show nothing.
    """
    shown: tqdm[Any] | None = None
    done, begun = 0, time.time()
    hidden = quiet or sys.stderr is None or not sys.stderr.isatty()  # pyright: ignore[reportUnnecessaryComparison]

    def advance(units: int = 1) -> None:
        nonlocal shown, done
        done += units
        if shown is None and not hidden and time.time() - begun >= _PATIENCE:
            shown = _late_bar(total, what, unit, begun)
        if shown is not None:
            shown.update(done - shown.n)

    try:
        yield advance
    finally:
        if shown is not None:
            shown.close()


def _late_bar(total: int, what: str, unit: str, begun: float) -> tqdm[Any]:
    """A bar whose rate counts from the time when the work began."""
    from tqdm import tqdm

    late = tqdm(total=total, desc=what, unit=unit, leave=False, smoothing=0, dynamic_ncols=True)
    late.start_t = begun
    return late


def _bars_aside() -> AbstractContextManager[None]:
    """Take bars off the terminal while a line is written; none can be there before tqdm was imported."""
    if "tqdm" not in sys.modules:
        return nullcontext()
    from tqdm import tqdm

    return tqdm.external_write_mode()
