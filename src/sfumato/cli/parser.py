"""The argument parser: flags filled in when a command is chosen, and errors that name the nearest right word."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sfumato.cli.words import did_you_mean, printable

__all__ = ["Command", "Parser", "UsageError"]

Command = Callable[[argparse.Namespace], int]
"""What a command does with its flags; returns the exit code."""


_WORDINGS = {
    "argument ": "",
    "the following arguments are required:": "something is missing:",
}
_NUMBER = re.compile(r"-\.?\d.*")


class UsageError(Exception):
    """The command line is wrong; the message is a sentence that says what and what to do."""


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` without abbreviations, whose flags are added when it is first used.

    Args:
        fill: adds the flags to this parser; called once, so that a command that is not chosen costs nothing.
        options: those of ``argparse.ArgumentParser``.
    """

    def __init__(self, fill: Callable[[Parser], None] | None = None, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Wide, **options)
        self._fill = fill

    @property
    def long_flags(self) -> list[str]:
        """The names of its flags, without their dashes."""
        return [name.removeprefix("--") for name in self._option_string_actions if name.startswith("--")]

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:  # pyright: ignore
        """As argparse does it, after filling in the flags and refusing unknown ones by name."""
        if self._fill is not None:
            fill, self._fill = self._fill, None
            fill(self)
        self._refuse_unknown(args or ())
        values, more = super().parse_known_args(args, namespace)
        if more and self._subparsers is None:
            self.error(f"too much was given: {' '.join(more)}{self._together}")
        return values, more

    def error(self, message: str) -> NoReturn:
        """Raise instead of leaving the process.

        Raises:
            UsageError: always.
        """
        text = message
        for theirs, ours in _WORDINGS.items():
            text = text.replace(theirs, ours, 1) if text.startswith(theirs) else text
        raise UsageError(f"{printable(text)} (see `{self.prog} --help`)")

    def hide(self, *flags: str) -> None:
        """Leave flags, named without their dashes, out of the help; they are refused by a sentence of their command."""
        for flag in flags:
            self._option_string_actions[f"--{flag}"].help = argparse.SUPPRESS

    @property
    def _together(self) -> str:
        """What to do about words that stand apart, if there are such words."""
        several = [action for action in self._positionals._group_actions if action.nargs in ("*", "+")]
        return f"; write each {several[0].metavar} beside the others, before the flags" if several else ""

    def _refuse_unknown(self, args: Sequence[str]) -> None:
        known, before = self._option_string_actions, ""
        for word in args:
            if word == "--" or (self._subparsers is not None and not word.startswith("-")):
                return
            flag = word.partition("=")[0] if word.startswith("--") else word[:2]
            if len(flag) > 1 and flag.startswith("-") and not _NUMBER.fullmatch(word) and flag not in known:
                if before in known and known[before].nargs is None:
                    like_flag = f"{before} needs a value, and '{word}' looks like a flag"
                    self.error(f"{like_flag}; if it is the value, write {before}={word}")
                near = did_you_mean(flag, [name for name in known if name.startswith("--")])
                self.error(f"no flag {flag}{near}")
            before = word

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        known: Any = action.choices
        if known is not None and value not in known:
            kind = "command" if action.nargs == argparse.PARSER else "value"
            choices = [str(choice) for choice in known]
            where = "" if kind == "command" else f"{'/'.join(action.option_strings)}: "
            self.error(f"{where}no {kind} '{printable(str(value))}'{did_you_mean(str(value), choices)}")


class _Wide(argparse.HelpFormatter):
    """Help with room for the flags."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)
