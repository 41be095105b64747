"""What people are told while they wait, on stderr: lines of text, and a bar for what takes longer than a second."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from sfumato.cli.words import printable

__all__ = ["Advance", "bar", "say"]


class Advance(Protocol):
    """Tells a bar that some more units are done."""

    def __call__(self, units: int = 1) -> None:
        """Move on by so many units, >= 0."""
        ...


def say(text: str, *, quiet: bool = False) -> None:
    """A line on stderr, control characters escaped; none when quiet."""
    if quiet:
        return
    with _bars_aside():
        print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def bar(total: int, what: str, unit: str, *, quiet: bool = False) -> Generator[Advance]:
    """A progress bar with rate and time left, from the second second on; none when quiet or stderr is no terminal.

    Args:
        total: units in all, >= 0.
        what: the word before the bar.
        unit: name of one unit, such as "step".
        quiet: whether to show nothing.
    """
    from tqdm import tqdm

    hidden = quiet or not sys.stderr.isatty()
    with tqdm(total=total, desc=what, unit=unit, disable=hidden, delay=1.0, leave=False, dynamic_ncols=True) as shown:

        def advance(units: int = 1) -> None:
            shown.update(units)

        yield advance


def _bars_aside() -> AbstractContextManager[None]:
    """Take bars off the terminal while a line is written; none can be there before tqdm was imported."""
    if "tqdm" not in sys.modules:
        return nullcontext()
    from tqdm import tqdm

    return tqdm.external_write_mode(file=sys.stderr)
