from __future__ import annotations

import io
import json
import re
import time

import pytest

from sfumato.cli.progress import bar, emit, note, notes_once, say


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_a_bar_appears_after_a_second_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with bar(40, "making pictures", "step") as advance:
        advance(10)
        assert terminal.getvalue() == ""
        time.sleep(1.1)
        for _ in range(2):
            advance(5)
            time.sleep(0.2)
        shown = terminal.getvalue()
        say("a line")
    assert "making pictures" in shown and "20/40" in shown
    rate = re.search(r"([\d.]+)step/s\]$", shown)
    assert rate is not None and float(rate[1]) < 20, "the rate counts from the beginning of the work"
    after = terminal.getvalue()[len(shown) :]
    assert "\ra line\n" in after, "the bar is cleared before a line is written"
    assert after.rpartition("a line")[2].endswith("\r"), "nothing of the bar is left"


@pytest.mark.parametrize(("stream", "quiet"), [(Terminal(), True), (io.StringIO(), False)])
def test_no_bar_when_quiet_or_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, quiet: bool
) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    with bar(2, "x", "step", quiet=quiet) as advance:
        time.sleep(1.1)
        advance(2)
    assert stream.getvalue() == ""


def test_lines_and_objects(capsys: pytest.CaptureFixture[str]) -> None:
    say("one\x1b[2J")
    say("two", quiet=True)
    emit({"path": "\u732b.png"})
    captured = capsys.readouterr()
    assert captured.err == "one\\x1b[2J\n"
    assert captured.out.isascii() and json.loads(captured.out) == {"path": "\u732b.png"}


def test_notes_are_said_once_inside_a_block(capsys: pytest.CaptureFixture[str]) -> None:
    with notes_once():
        note("one")
        note("one")
        note("two")
    note("one")
    assert capsys.readouterr().err.splitlines() == [f"sfumato: note: {each}" for each in ("one", "two", "one")]
