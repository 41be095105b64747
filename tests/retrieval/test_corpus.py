import json
import os
import pickle
import shutil
from pathlib import Path

import pytest

from sfumato.retrieval.corpus import Corpus, Item, open_corpus
from sfumato.retrieval.fault import Fault
from sfumato.retrieval.item import LARGEST, caption_of, label
from tests.retrieval.pictures import write_good


def everything(corpus: Corpus) -> list[Item | Fault]:
    return [found for part in corpus.slices for found in corpus.read(part)]


def items(corpus: Corpus) -> dict[str, Item]:
    return {found.source: found for found in everything(corpus) if isinstance(found, Item)}


def faults(corpus: Corpus) -> dict[str, str]:
    return {found.source: found.reason for found in everything(corpus) if isinstance(found, Fault)}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "animals"
    for place, count in (("", 2), ("cats", 3), ("cats/old", 2), ("dogs", 1)):
        write_good(folder / place, count, seed=len(place))
    return folder


def test_all_pictures_of_a_folder_come_in_the_order_of_their_names(pictures: Path) -> None:
    (pictures / "notes.txt").write_text("no picture")
    (pictures / ".hidden").mkdir()
    shutil.copy(pictures / "good-0000.png", pictures / ".hidden" / "x.png")
    shutil.copy(pictures / "good-0000.png", pictures / ".x.png")
    shutil.copy(pictures / "good-0000.png", pictures / "LOUD.PNG")
    corpus = open_corpus(str(pictures), size=3)
    found = everything(corpus)
    assert corpus.name == "animals"
    assert [each.source for each in found] == [
        *("LOUD.PNG", "cats/good-0000.png", "cats/good-0001.jpg", "cats/good-0002.webp"),
        *("cats/old/good-0000.png", "cats/old/good-0001.jpg", "dogs/good-0000.png"),
        *("good-0000.png", "good-0001.jpg"),
    ]
    assert all(isinstance(each, Item) and each.content == (pictures / each.source).read_bytes() for each in found)
    assert [part.count for part in corpus.slices] == [3, 3, 3]
    assert [part.number for part in corpus.slices] == [0, 1, 2]


def test_slices_are_read_alone_in_any_order_and_in_other_processes(pictures: Path) -> None:
    corpus = open_corpus(str(pictures), size=3)
    again = pickle.loads(pickle.dumps(corpus))
    backwards = [list(again.read(part)) for part in reversed(again.slices)]
    assert [found for part in reversed(backwards) for found in part] == everything(corpus)
    assert all(len(pickle.dumps(part)) < 200 for part in corpus.slices)


def test_the_digest_is_of_the_listing(pictures: Path, tmp_path: Path) -> None:
    def digest(size: int = 3, text: str = "") -> str:
        return open_corpus(str(pictures), size=size, text=text).digest

    first = digest()
    moved = shutil.copytree(pictures, tmp_path / "elsewhere" / "animals")
    assert open_corpus(str(moved), size=3, text="").digest == first and len(first) == 16
    seen = {first, digest(4), digest(3, "text")}
    (pictures / "good-0000.txt").write_text("a caption")
    seen.add(digest())
    (pictures / "good-0000.png").rename(pictures / "other.png")
    seen.add(digest())
    (pictures / "other.png").write_bytes((pictures / "other.png").read_bytes() + b"\0")
    seen.add(digest())
    (pictures / "readme.md").write_text("nothing to do with it")
    assert len(seen) == 6 and digest() in seen


def test_captions(pictures: Path) -> None:
    (pictures / "good-0000.txt").write_text(" beside it \n")
    (pictures / "good-0001.txt").write_text("not this")
    rows = [{"file_name": "good-0001.jpg", "text": "of the table"}, {"file_name": "cats/good-0000.png", "text": "far"}]
    rows += [{"file_name": "cats/good-0001.jpg", "text": "far"}, {"file_name": "../outside.png", "text": "x"}]
    (pictures / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    near = [{"file_name": "good-0000.png", "text": "near"}, {"file_name": "./old/good-0000.png", "text": "\ud800?"}]
    near += [{"file_name": "good-0002.webp", "text": None}]
    (pictures / "cats" / "metadata.jsonl").write_text("\n".join(map(json.dumps, near)))
    found = {source: item.caption for source, item in items(open_corpus(str(pictures))).items()}
    assert found == {
        "good-0000.png": "beside it",
        "good-0001.jpg": "of the table",
        "cats/good-0000.png": "near",
        "cats/good-0001.jpg": "far",
        "cats/good-0002.webp": None,
        "cats/old/good-0000.png": "??",
        "cats/old/good-0001.jpg": None,
        "dogs/good-0000.png": None,
    }


def test_a_column_of_captions_that_is_missing_is_named(pictures: Path) -> None:
    (pictures / "metadata.jsonl").write_text('{"file_name": "a.png", "title": "x", "size": 3}\n')
    with pytest.raises(ValueError, match='has no column "text"; it has file_name, title, size'):
        open_corpus(str(pictures))
    assert len(items(open_corpus(str(pictures), text=""))) == 8
    assert len(items(open_corpus(str(pictures), text="title"))) == 8


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"text": "x"}', '{"file_name": 3}', "\udcff", "[" * 100_000])
def test_a_broken_table_of_captions_is_refused(pictures: Path, line: str) -> None:
    good = '{"file_name": "good-0000.png", "text": "x"}\n'
    (pictures / "cats" / "metadata.jsonl").write_bytes(f"{good}{line}\n".encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match='cats/metadata.jsonl, line 2, is no JSON object with a "file_name"'):
        open_corpus(str(pictures))


def test_a_table_of_captions_that_is_no_file_of_the_folder_is_refused(pictures: Path, tmp_path: Path) -> None:
    table, row = pictures / "cats" / "metadata.jsonl", '{"file_name": "good-0000.png", "text": "%s"}\n'
    (tmp_path / "secret").write_text(row % "secret")

    def refused(reason: str) -> None:
        with pytest.raises(ValueError, match=rf"cats/metadata.jsonl cannot be used \({reason}\); correct it or take"):
            open_corpus(str(pictures))
        table.unlink()

    table.symlink_to(tmp_path / "secret")
    refused("it is a link that leads out of the corpus")
    table.symlink_to("nowhere")
    refused("No such file or directory")
    os.mkfifo(table)
    refused("it is no file")
    table.write_text(row % "short" + row % ("x" * 1_000_000))
    refused("it has a line of more than the 1 MB allowed")
    (pictures / "dogs" / "inside.jsonl").write_text(row % "inside")
    table.symlink_to("../dogs/inside.jsonl")
    assert items(open_corpus(str(pictures)))["cats/good-0000.png"].caption == "inside"


def test_what_cannot_be_read_is_a_fault(pictures: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret.png"
    shutil.copy(pictures / "good-0000.png", outside)
    write_good(tmp_path / "linked", 1)
    (pictures / "outside.png").symlink_to(outside)
    (pictures / "above.png").symlink_to("../secret.png")
    (pictures / "nowhere.png").symlink_to("missing")
    (pictures / "loop.png").symlink_to("loop.png")
    (pictures / "inside.png").symlink_to("cats/good-0000.png")
    (pictures / "folder.png").symlink_to(tmp_path / "linked")
    (pictures / "real folder.png").mkdir()
    (pictures / "through").symlink_to(tmp_path / "linked")
    os.mkfifo(pictures / "pipe.png")
    with (pictures / "large.png").open("wb") as file:
        file.truncate(LARGEST + 1)
    corpus = open_corpus(str(pictures))
    (pictures / "dogs" / "good-0000.png").unlink()
    assert faults(corpus) == {
        "outside.png": "it is a link that leads out of the corpus",
        "above.png": "it is a link that leads out of the corpus",
        "folder.png": "it is a link that leads out of the corpus",
        "nowhere.png": "it cannot be read (No such file or directory)",
        "loop.png": "it cannot be read (Too many levels of symbolic links)",
        "pipe.png": "it is no file",
        "large.png": "it is larger than the 64 MB allowed",
        "dogs/good-0000.png": "it cannot be read (No such file or directory)",
    }
    assert set(items(corpus)) == {
        *("inside.png", "good-0000.png", "good-0001.jpg", "cats/good-0000.png", "cats/good-0001.jpg"),
        *("cats/good-0002.webp", "cats/old/good-0000.png", "cats/old/good-0001.jpg"),
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_what_may_not_be_read_is_a_fault(pictures: Path) -> None:
    (pictures / "good-0000.png").chmod(0)
    (pictures / "cats").chmod(0)
    found = faults(open_corpus(str(pictures)))
    (pictures / "cats").chmod(0o755)
    assert found == dict.fromkeys(("good-0000.png", "cats"), "it cannot be read (Permission denied)")


def test_a_link_put_in_the_place_of_a_folder_leads_nowhere(pictures: Path, tmp_path: Path) -> None:
    corpus = open_corpus(str(pictures))
    (pictures / "dogs").rename(tmp_path / "dogs")
    (pictures / "dogs").symlink_to(tmp_path / "dogs")
    assert faults(corpus) == {"dogs/good-0000.png": "it is a link that leads out of the corpus"}


def test_a_folder_may_be_reached_by_a_link(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(pictures)
    assert len(items(open_corpus(str(tmp_path / "link")))) == 8
    monkeypatch.chdir(pictures)
    here = open_corpus(".")
    monkeypatch.chdir("/")
    assert here.name == "animals" and len(items(here)) == 8


def test_places_that_are_no_corpus(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "text.txt").write_text("x")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "a.tar.gz").write_bytes(b"x")
    shutil.copytree(pictures, tmp_path / "mixed")
    (tmp_path / "mixed" / "more.tar").write_bytes(b"")
    for where, message in (
        (tmp_path / "missing", "there is no folder or file"),
        (tmp_path / "empty", r"holds no pictures \(.png, .jpg, .jpeg, .webp\), no \*.parquet and no \*.tar"),
        (tmp_path / "empty" / "text.txt", "text.txt is no corpus; that is a folder, a .parquet or a .tar file, or"),
        (tmp_path / "packed", "a.tar.gz is a packed archive"),
        (tmp_path / "packed" / "a.tar.gz", "a.tar.gz is a packed archive"),
        (tmp_path / "mixed", "holds 8 pictures and 1 tar files; a corpus is of one kind"),
    ):
        with pytest.raises(ValueError, match=message):
            open_corpus(str(where))
    with pytest.raises(ValueError, match="at least one item, not 0"):
        open_corpus(str(pictures), size=0)


def test_labels_lead_nowhere_and_can_be_printed() -> None:
    assert label("a.tar", "/../etc/./passwd") == "a.tar/etc/passwd"
    assert label("..") == "" and label("//a//b/") == "a/b"
    assert label("a\nb\x1b[0m\udcff\u202e ü🦊") == "a\\nb\\x1b[0m\\udcff\\u202e ü🦊"
    assert len(label("a" * 5000)) == 1000


def test_captions_are_text() -> None:
    assert caption_of(b" \xff caf\xc3\xa9 ") == "\ufffd café"
    assert caption_of(["first", "second"]) == "first" and caption_of([]) is None
    assert caption_of(" \n") is None and caption_of(3) is None and caption_of(None) is None
    assert caption_of("\ud800") == "?" and len(caption_of("x" * 20_000) or "") == 10_000
