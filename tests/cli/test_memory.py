"""`sfumato memory`, and pictures that take something from a memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from sfumato.from_memory import FromMemory
from tests.cli.conftest import Typed, recipe_of

FEW = ("--neighbours", "2", "--steps", "2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures of colours, one of them broken, with captions beside two."""
    folder = tmp_path_factory.mktemp("colours")
    for name, colour in (("red", (255, 0, 0)), ("green", (0, 255, 0)), ("blue", (0, 0, 255)), ("white", (255,) * 3)):
        Image.new("RGB", (40, 30), colour).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes((folder / "red.png").read_bytes()[:50])
    (folder / "red.txt").write_text("all red")
    (folder / "blue.txt").write_text("all blue")
    return folder


@pytest.fixture
def memory(sfumato: Typed, folder: Path, tmp_path: Path) -> Path:
    told = sfumato("memory", "build", folder, "-o", str(tmp_path / "colours"))
    assert told.code == 0, told.err
    return tmp_path / "colours"


def recall(picture: Path) -> FromMemory:
    """What a picture says of its neighbours."""
    said = recipe_of(picture).recall
    assert said is not None
    return said


def test_build_tells_what_came_of_it(sfumato: Typed, folder: Path, tmp_path: Path) -> None:
    place = str(tmp_path / "made")
    told = sfumato("memory", "build", folder, "-o", place, "--json")
    facts = json.loads(told.out)
    assert told.code == 0 and (facts["entries"], facts["faults"], facts["pictures"]) == (4, 1, 5)
    assert "4 entries" in told.err and "passed over broken.png:" in told.err
    again = sfumato("memory", "build", folder, "-o", place)
    assert again.code == 0 and "1 of 1 parts are there already" in again.err
    other = sfumato("memory", "build", folder, "-o", place, "--patches", "crops", "--short-side", "64", "--crop", "32")
    assert other.code == 1 and "another build" in other.err


def test_info_search_and_verify(sfumato: Typed, memory: Path, folder: Path, tmp_path: Path) -> None:
    told = sfumato("memory", "info", memory)
    assert told.code == 0 and "4 entries of colours" in told.out.replace(folder.name, "colours")
    facts = json.loads(sfumato("memory", "info", memory, "--json").out)
    assert facts["entries"] == 4 and facts["index"]["kind"] == "exact"
    found = sfumato("memory", "search", memory, str(folder / "green.png"), "-o", tmp_path, "--json")
    rows = [json.loads(line) for line in found.out.splitlines()]
    assert found.code == 0 and len(rows) == 5
    assert rows[0]["source"] == "green.png" and rows[0]["cosine"] == pytest.approx(1, abs=1e-3)
    assert rows[4] == {"path": str(tmp_path / "green-found-0000.png"), "kind": "found"}
    assert (tmp_path / "green-found-0000.png").is_file()
    worded = sfumato("memory", "search", memory, "something red", "--count", "2", "-o", tmp_path)
    assert worded.code == 0 and len(worded.out.splitlines()) == 2
    assert (tmp_path / "something-red-found-0000.png").is_file()
    missing = sfumato("memory", "search", memory, "red.jpeg", "-o", tmp_path)
    assert missing.code == 2 and "there is no picture 'red.jpeg'" in missing.err
    assert sfumato("memory", "verify", memory).err == f"{memory.name}: no faults in 4 entries\n"


def test_a_prompt_may_be_longer_than_a_name_of_a_file(sfumato: Typed, memory: Path, tmp_path: Path) -> None:
    told = sfumato("memory", "search", memory, "red " * 75, "--count", "1", "-o", tmp_path)
    assert told.code == 0 and len(told.out.splitlines()) == 1, told.err
    assert list(tmp_path.glob("red-red-*-found-0000.png"))


def test_what_a_corpus_says_cannot_steer_the_terminal(sfumato: Typed, tmp_path: Path) -> None:
    corpus = tmp_path / "a\x1b[31mb"
    corpus.mkdir()
    Image.new("RGB", (9, 9), "red").save(corpus / "red.png")
    (corpus / "red.txt").write_text("one\ntwo \x1b]0;title\x07 \u202e three")
    assert sfumato("memory", "build", corpus, "-o", tmp_path / "D").code == 0
    told = sfumato("memory", "search", tmp_path / "D", "red", "-o", tmp_path)
    assert told.code == 0 and told.out.count("\n") == 1 and told.out[:-1].isprintable()
    assert told.out.endswith("red.png  one\\ntwo \\x1b]0;title\\x07 \\u202e three\n")
    told = sfumato("memory", "info", tmp_path / "D")
    assert all(line.isprintable() for line in told.out.splitlines()) and "a\\x1b[31mb" in told.out


def test_verify_names_what_is_damaged(sfumato: Typed, memory: Path) -> None:
    file = memory / "parts" / "000000" / "vectors.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    told = sfumato("memory", "verify", memory, "--json")
    assert told.code == 1 and "vectors.npy" in json.loads(told.out)["faults"][0]
    (memory / "parts" / "000000" / "part.json").write_text("{")
    next(memory.glob("index-*")).unlink()
    told = sfumato("memory", "verify", memory, "--json")
    assert told.code == 1 and len(json.loads(told.out)["faults"]) == 2
    assert "part 000000 is missing or damaged" in told.err and f"{memory.name}: 2 faults in 4 entries" in told.err
    (memory / "memory.json").write_text("{")
    told = sfumato("memory", "verify", memory, "--json")
    (fault,) = json.loads(told.out)["faults"]
    assert told.code == 1 and "memory.json is damaged" in fault and told.err == f"{fault}\n{memory.name}: 1 faults\n"


def test_add_remove_and_export(sfumato: Typed, memory: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    Image.new("RGB", (20, 20), (255, 255, 0)).save(tmp_path / "more" / "yellow.png")
    assert sfumato("memory", "add", memory, str(tmp_path / "more")).code == 0
    again = sfumato("memory", "add", memory, str(tmp_path / "more"))
    assert again.code == 0 and "1 were there already" in again.err
    removed = sfumato("memory", "remove", memory, "--source", "re*.png")
    assert removed.code == 0 and "1 entries removed, 4 are left" in removed.err
    unknown = sfumato("memory", "remove", memory, "0123456789abcdef")
    assert unknown.code == 1 and "no entry 0123456789abcdef" in unknown.err
    table = tmp_path / "all.parquet"
    assert sfumato("memory", "export", memory, table).code == 0
    assert sorted(pq.read_table(table).column("source").to_pylist()) == [
        "blue.png",
        "green.png",
        "white.png",
        "yellow.png",
    ]
    refused = sfumato("memory", "export", memory, table)
    assert refused.code == 2 and "there already" in refused.err


def test_add_names_what_it_passed_over_itself(sfumato: Typed, memory: Path, folder: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for name in ("white.png", "broken.png"):
        shutil.copy(folder / name, more / name)
    (more / "broken.png").rename(more / "worse.png")
    told = sfumato("memory", "add", memory, str(more), "--json")
    facts = json.loads(told.out)
    assert (told.code, facts["entries"], facts["faults"], facts["copies"]) == (0, 4, 1, 1)
    assert [fault["source"] for fault in facts["passed_over"]] == ["worse.png"]
    assert told.err.count("passed over worse.png: ") == 1 and told.err.count("passed over ") == 1
    assert "1 passed over, 1 were there already" in told.err
    for number in range(11):
        shutil.copy(more / "worse.png", more / f"worse-{number}.png")
    told = sfumato("memory", "add", memory, str(more))
    assert told.err.count("passed over worse") == 10 and "and 2 more (--json names them all)" in told.err


def test_add_asks_for_the_folder_of_the_encoder(sfumato: Typed, memory: Path, folder: Path) -> None:
    facts = memory / "memory.json"
    table = json.loads(facts.read_text())
    table["encoder"]["name"] = "clip-b32"
    facts.write_text(json.dumps(table))
    for words in (("add", memory, folder), ("search", memory, "all red")):
        told = sfumato("memory", *words)
        assert told.code == 2 and "made with the encoder 'clip-b32'; say where its folder is by --encoder" in told.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["memory", "build", "nowhere", "-o", "d"], "there is no folder or file nowhere"),
        (["memory", "build", "world:oil", "-o", "d"], "oil"),
        (["memory", "info", "nowhere"], "there is no folder 'nowhere'"),
        (["memory", "info", "."], "holds no memory"),
        (["memory", "serch", "."], "no command 'serch'; did you mean 'search'"),
        (["generate", "a cat", "--memory", "nowhere"], "there is no folder 'nowhere'"),
        (
            ["generate", "a cat", "--show-neighbours"],
            "--show-neighbours speaks of a memory; name its folder by --memory",
        ),
        (["generate", "--unconditional"], "--unconditional speaks of a memory"),
    ],
)
def test_wrong_words_get_a_sentence(sfumato: Typed, words: list[str], sentence: str) -> None:
    told = sfumato(*words)
    assert told.code in (1, 2) and told.out == "" and told.err.count("\n") == 1
    assert sentence in told.err


MODES = (["--mode", "text"], ["--mode", "neighbours"], ["--mode", "both"], ["--mode", "and"], ["--null", "zero"])


@pytest.mark.parametrize("words", MODES, ids=lambda words: words[-1])
def test_a_prompt_with_a_memory(sfumato: Typed, memory: Path, tmp_path: Path, words: list[str]) -> None:
    base = ["generate", "all red", "--memory", memory, "--neighbours", "2", "--steps", "2", "--seed", "1"]
    told = sfumato(*base, *words, "--show-neighbours", "-o", tmp_path)
    assert told.code == 0, told.err
    picture = tmp_path / "all-red-0000.png"
    found = recall(picture).found
    assert [len(found), (tmp_path / "all-red-0000-neighbours-0000.png").is_file()] == (
        [0, False] if words[-1] == "text" else [2, True]
    )
    again = sfumato("again", str(picture), "--given", memory, "-o", tmp_path)
    assert again.code == 0, again.err
    assert (tmp_path / "all-red-0001.png").read_bytes() == picture.read_bytes()


def test_again_finds_the_memory_beside_the_picture_and_knows_when_it_changed(
    sfumato: Typed, memory: Path, tmp_path: Path
) -> None:
    sfumato("generate", "all red", "--memory", memory, "--neighbours", "2", "--steps", "2", "-o", tmp_path)
    picture = str(tmp_path / "all-red-0000.png")
    assert sfumato("again", picture, "-o", tmp_path).code == 0
    assert sfumato("memory", "remove", memory, "--source", "white.png").code == 0
    told = sfumato("again", picture, "-o", tmp_path)
    assert told.code == 2 and "as it was then" in told.err


def test_a_picture_asks_the_memory(sfumato: Typed, memory: Path, folder: Path, tmp_path: Path) -> None:
    words = ["generate", "--like", str(folder / "blue.png"), "--memory", memory, *FEW]
    assert sfumato(*words, "--mode", "neighbours", "-o", tmp_path).code == 0
    assert [source for _, source in recall(tmp_path / "picture-0000.png").found][:1] == ["blue.png"]
    assert sfumato(*words, "-o", tmp_path).code == 0
    asked = recall(tmp_path / "picture-0001.png")
    assert len(asked.found) == 1 and asked.query is not None and asked.query.name == "blue.png"


def test_pictures_that_nobody_asked_for(sfumato: Typed, memory: Path, tmp_path: Path) -> None:
    words = ["generate", "--unconditional", "--memory", memory, *FEW, "--count", "3"]
    assert sfumato(*words, "--top-m", "0.25", "--seed", "1", "-o", tmp_path).code == 0
    started = {recall(tmp_path / f"picture-{number:04d}.png").found[0] for number in range(3)}
    assert len(started) == 1
    told = sfumato(*words, "a cat", "-o", tmp_path)
    assert told.code == 2 and "nobody describes" in told.err
    told = sfumato("generate", "a cat", "--memory", memory, "--top-m", "0.5", "-o", tmp_path)
    assert told.code == 2 and "--unconditional starts" in told.err


def test_a_memory_of_another_encoder(sfumato: Typed, memory: Path, tmp_path: Path) -> None:
    facts = memory / "memory.json"
    table = json.loads(facts.read_text())
    table["encoder"]["fingerprint"] = "0" * 16
    facts.write_text(json.dumps(table))
    told = sfumato("generate", "all red", "--memory", memory, "-o", tmp_path)
    assert told.code == 2 and "made with the encoder 'emoji'" in told.err


def test_more_neighbours_than_there_are(sfumato: Typed, memory: Path, tmp_path: Path) -> None:
    told = sfumato("generate", "all red", "--memory", memory, "--neighbours", "9", "-o", tmp_path)
    assert told.code == 2 and "has 4 pictures; --neighbours 4 takes all of them" in told.err


def test_a_small_memory_is_searched_exactly_and_says_so(sfumato: Typed, folder: Path, tmp_path: Path) -> None:
    told = sfumato("memory", "build", "world:sample", "-o", tmp_path / "sample", "--recall", "0.9")
    assert told.code == 0 and "index: exact" in told.err
    assert "index: exact" in sfumato("memory", "info", tmp_path / "sample").out


def test_flags_that_do_nothing_in_a_mode_are_told(sfumato: Typed, memory: Path, folder: Path, tmp_path: Path) -> None:
    words = ("generate", "all red", "--memory", memory, "--steps", "1", "-o", tmp_path)
    told = sfumato(*words, "--mode", "text", "--neighbours", "2", "--show-neighbours")
    assert told.code == 0, told.err
    assert all(f"with --mode text --{flag} does nothing" in told.err for flag in ("neighbours", "show-neighbours"))
    told = sfumato(*words, "--mode", "and", "--null", "zero", "--neighbours", "2")
    assert "with --mode and --null does nothing" in told.err and "--neighbours does" not in told.err
    told = sfumato(*words, "--like", folder / "red.png", "--like-until", "0", "--neighbours", "2")
    assert told.code == 0 and "with --memory, whose query --like is, --like-until does nothing" in told.err
    assert "--like does nothing" not in told.err
    told = sfumato("memory", "build", folder, "-o", tmp_path / "whole", "--crop", "8")
    assert told.code == 0 and "without --patches crops --short-side, --crop and --crops do nothing" in told.err


def test_a_memory_alone_says_nothing_of_what_to_show(sfumato: Typed, memory: Path, tmp_path: Path) -> None:
    told = sfumato("generate", "", "--memory", memory, "-o", tmp_path)
    assert told.code == 2 and "a prompt is empty" in told.err
