from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

import sfumato as library
from sfumato.cli.main import main
from tests.cli.conftest import Typed

HEAVY = {"torch", "numpy", "PIL", "diffusers", "transformers", "tqdm"}
PROBE = """
import sys
from sfumato.cli.main import main
code = main(sys.argv[1:])
print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["generate", "--help"], ["again", "--help"], ["models", "--help"], ["world", "--help"]]
    + [["world", "show", "--help"], ["train", "--help"], ["train", "codec", "--help"], ["evaluate", "--help"]],
)
def test_help_is_quick_and_imports_nothing_heavy(words: list[str]) -> None:
    command = [sys.executable, "-c", PROBE, *words]
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    seconds = time.perf_counter() - begun
    assert done.returncode == 0
    assert done.stdout
    assert not HEAVY & set(done.stderr.split())
    assert seconds < 3, "a busy machine may need more than the 0.3 s of an idle one, but not ten times that"


def test_version(sfumato: Typed) -> None:
    assert sfumato("--version").out == f"sfumato {library.__version__}\n"


def test_the_commands_are_listed(sfumato: Typed) -> None:
    told = sfumato("--help")
    assert told.code == 0
    for command in ("generate", "again", "models", "world", "train", "evaluate"):
        assert f"  {command} " in told.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "something is missing: COMMAND"),
        (["generat", "x"], "no command 'generat'; did you mean 'generate'?"),
        (["world", "shwo"], "no command 'shwo'; did you mean 'show'?"),
        (["train", "codek"], "no command 'codek'; did you mean 'codec' or 'decoder'?"),
        (["--verson"], "no flag --verson; did you mean '--version'?"),
        (["generate"], "something is missing: PROMPT"),
        (["generate", "x", "--guidence", "3"], "no flag --guidence; did you mean '--guidance'"),
        (["generate", "x", "--guidence=3"], "no flag --guidence; did you mean '--guidance'"),
        (["generate", "x", "--guid", "3"], "no flag --guid; did you mean '--guidance'"),
        (["generate", "x", "-q"], "no flag -q"),
        (["generate", "x", "--steps"], "--steps: expected one argument"),
        (["generate", "x", "--scheduler", "dpm++"], "no scheduler 'dpm++'; did you mean 'dpmpp_2m'?"),
        (["generate", "x", "--dtype", "bf16"], "--dtype: no value 'bf16'; did you mean 'bfloat16'"),
        (["world", "show", "--split", "tran"], "--split: no value 'tran'; did you mean 'train'"),
        (["again"], "something is missing: PICTURE.png"),
        (["again", "a.png", "b.png"], "too much was given: b.png"),
        (["generate", "\x1b[31m", "--st\x1b[31meps"], r"no flag --st\x1b[31meps"),
    ],
)
def test_wrong_words_get_one_sentence_and_code_2(sfumato: Typed, words: list[str], sentence: str) -> None:
    told = sfumato(*words)
    assert told.code == 2
    assert told.out == ""
    assert told.err.startswith(f"sfumato: {sentence}") or f": {sentence}" in told.err
    assert told.err.count("\n") == 1
    assert "Traceback" not in told.err
    assert "\x1b" not in told.err


def test_debug_shows_where() -> None:
    with pytest.raises(ValueError, match="not a PNG"):
        main(["again", __file__, "--debug"])


def test_a_closed_pipe_ends_the_command_quietly() -> None:
    script = "import os, sys\nfrom sfumato.cli.main import main\nos.close(0)\nsys.exit(main(['generate', '--help']))"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert "Traceback" not in done.stderr
