"""Flags that do nothing beside the others are told; words that cannot be meant are refused before a model is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Typed


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        (("--guidance", 1, "--negative", "blue"), ["without guidance (--guidance 1) --negative"]),
        (("--guidance", 1, "--rescale", 0.5), ["without guidance (--guidance 1) --rescale"]),
        (("--guidance", 1, "--apg", 0), ["without guidance (--guidance 1) --apg"]),
        (("--guidance", 1, "--guidance-interval", "0.2:0.8"), ["without guidance (--guidance 1) --guidance-interval"]),
        (("--guidance", 1, "--rescale", 0.5, "--guidance-interval", "0:0.5", "--pag", 1), []),
        (("--guidance", 1, "--rescale", 0.5, "--negative", "red", "--and", "a hat"), []),
        (("--guidance", 0, "--and", "a hat"), ["with --guidance 0 --and"]),
        (("--guidance", 0, "--not", "a hat"), ["with --guidance 0 --not"]),
        (("--like", "PHOTO", "--like-until", 0), ["with --like-until 0 --like"]),
        (("--like-scale", 8), ["without --like --like-scale"]),
        (("--region-share", 0.5), ["without --region --region-share"]),
        (("--parser", "rules", "--structure"), []),
        (("--exact", "--batch", 2), ["with --exact --batch"]),
    ],
)
def test_a_flag_that_does_nothing_is_told(
    generate: Typed, photo: Path, words: tuple[object, ...], idle: list[str]
) -> None:
    told = generate("a cat", *(photo if word == "PHOTO" else word for word in words))
    assert told.code == 0, told.err
    notes = [line for line in told.err.splitlines() if "does nothing" in line]
    assert notes == [f"sfumato: note: {each} does nothing" for each in idle]


def test_a_grid_tells_a_note_once(sfumato: Typed, sd1: Path, tmp_path: Path) -> None:
    words = ("--x", "guidance=1,4", "--y", "steps=1,2,3", "--rescale", 0.5, "--model", sd1, "-o", tmp_path)
    told = sfumato("grid", "a cat", *words)
    assert told.code == 0 and told.err.count("does nothing") == 1


@pytest.mark.parametrize(
    ("words", "idle"),
    [
        (("PHOTO", "PHOTO", "--seed", 1), ["a picture brings its own start, so --seed does nothing"]),
        (("PHOTO", "PHOTO", "--seed", 1, "--scheduler", "euler_a"), None),
        (("a cat", "PHOTO", "--to-seed", 1), ["a picture brings its own start, so --to-seed does nothing"]),
        (("PHOTO", "a cat", "--seed", 1), []),
        (("a cat", "a hat", "--as", "frames", "--fps", 3), ["frames have no rate, so --fps does nothing"]),
    ],
)
def test_a_morph_tells_too(
    sfumato: Typed, photo: Path, sd1: Path, tmp_path: Path, words: tuple[object, ...], idle: list[str] | None
) -> None:
    given = [photo if word == "PHOTO" else word for word in words]
    flags = ("--frames", 2, "--steps", 2, "--guidance", 1, "--model", sd1, "--size", 32, "-o", tmp_path)
    told = sfumato("morph", *given, *flags)
    if idle is None:  # an inversion follows ddim alone
        assert told.code == 2 and "does nothing" not in told.err
        return
    assert told.code == 0, told.err
    assert told.err.count("does nothing") == len(idle) and all(each in told.err for each in idle)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("a red hat", "PHOTO", "--prompts", "a dog", "a cat"), "--prompts has 2 texts and 1 of the ends are pictures"),
        (("PHOTO", "PHOTO", "--prompts", "a dog"), "--prompts has 1 texts and 2 of the ends are pictures"),
        (("", "a cat"), "a prompt is empty"),
        (("", "PHOTO", "--prompts", "a dog"), "a prompt is empty"),
    ],
)
def test_typed_words_are_never_replaced(sfumato: Typed, photo: Path, words: tuple[str, ...], sentence: str) -> None:
    told = sfumato("morph", *(photo if word == "PHOTO" else word for word in words))
    assert told.code == 2 and sentence in told.err


def test_prompts_say_what_the_picture_among_the_ends_shows(
    sfumato: Typed, photo: Path, sd1: Path, tmp_path: Path
) -> None:
    flags = ("--frames", 2, "--steps", 2, "--guidance", 1, "--model", sd1, "--size", 32, "-o", tmp_path, "--json")
    told = sfumato("morph", "a red hat", photo, "--prompts", "a cat", *flags)
    assert told.code == 0, told.err
    first = told.pictures[0]
    assert (first["prompt"], first["to_prompt"]) == ("a red hat", "a cat")
    assert told.objects[-1] == {"path": str(tmp_path / "a-red-hat-to-photo-0000.gif"), "kind": "gif"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("a cat", "--seed", 3, "a dog"), "too much was given: a dog; write each PROMPT beside the others"),
        (
            ("a cat", "--negative", "-ugly"),
            "--negative needs a value, and '-ugly' looks like a flag; if it is the value, write --negative=-",
        ),
        (("a cat", "--structure", "--sede", 3), "no flag --sede; did you mean '--seed'"),
        (("a cat", "--start", "/dev/stdin"), "'/dev/stdin' is a folder or a pipe; give a file"),
        (("a cat", "--size", 9), "must be multiples of 2"),
    ],
)
def test_what_was_typed_wrong_ends_with_code_2(generate: Typed, words: tuple[object, ...], sentence: str) -> None:
    told = generate(*words)
    assert sentence in told.err
    assert (told.code, told.err.count("\n")) == (2, 1)


def test_sheets_are_told_to_programs(generate: Typed, tmp_path: Path) -> None:
    told = generate("a cat", "--count", 2, "--grid", "--show-attention", "--json")
    kinds = [facts["kind"] for facts in told.objects]
    assert kinds == ["picture", "picture", "attention", "attention", "grid"]
    assert all((tmp_path / Path(facts["path"]).name).is_file() for facts in told.objects)


@pytest.mark.parametrize(
    ("command", "flag"), [("morph", "--memory"), ("grid", "--show-parse"), ("evaluate", "--top-k")]
)
def test_help_leaves_out_what_is_refused(sfumato: Typed, command: str, flag: str) -> None:
    shown = sfumato(command, "--help").out
    assert "--steps" in shown and flag not in shown


def test_debug_and_quiet_are_flags_of_every_command(sfumato: Typed) -> None:
    assert sfumato("models", "--quiet").code == 0
    told = sfumato("models", "--debug", "--jsno")
    assert told.code == 2 and told.err.startswith("sfumato: no flag --jsno")


def test_a_closed_stderr_loses_nothing_but_the_messages(sd1: Path, tmp_path: Path) -> None:
    script = "import sys; from sfumato.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ("generate", "cat", "--model", sd1, "--steps", 1, "--dtype", "float32", "-o", tmp_path, "--json")
    shell = ("sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", script)
    done = subprocess.run([*shell, *map(str, words)], stdout=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.returncode == 0 and (tmp_path / "cat-0000.png").is_file()
    assert done.stdout.count("\n") == 1
