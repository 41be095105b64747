import gzip
import io
import json
import os
import pickle
import tarfile
from pathlib import Path
from random import Random

import pytest

from sfumato.retrieval.corpus import open_corpus
from sfumato.retrieval.fault import Fault
from sfumato.retrieval.item import LARGEST, Item
from tests.retrieval.pictures import encoded
from tests.retrieval.test_corpus import everything, faults, items

PICTURE = encoded(Random(0))
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
SHORT, ENDLESS = "it is cut short", "it has no end mark, so that something may be missing"


def write(path: Path, members: list[tuple[str, bytes]], kind: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as archive:
        for name, content in members:
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            archive.addfile(facts, io.BytesIO(content))
    return path


def samples(count: int) -> list[tuple[str, bytes]]:
    pairs = [((f"{n:03}.png", encoded(Random(n))), (f"{n:03}.txt", f"caption {n}".encode())) for n in range(count)]
    return [member for pair in pairs for member in pair]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_samples_come_in_order_whatever_the_slices(tmp_path: Path, kind: str, size: int) -> None:
    folder = "a folder with a long name/" * 3
    members = [(folder + name, content) for name, content in samples(10)]
    corpus = open_corpus(str(write(tmp_path / "a.tar", members, FORMATS[kind])), size=size)
    expected = [Item(f"a.tar/{folder}{n:03}.png", encoded(Random(n)), f"caption {n}") for n in range(10)]
    assert everything(corpus) == expected
    again = pickle.loads(pickle.dumps(corpus))
    assert [found for part in again.slices[::-1] for found in list(again.read(part))[::-1]] == expected[::-1]
    assert [part.count for part in corpus.slices] == [min(size, 10 - start) for start in range(0, 10, size)]


@pytest.mark.parametrize("kind", ["gnu", "pax"])
def test_very_long_names(tmp_path: Path, kind: str) -> None:
    name = "ü" * 30 + "/" + "é" * 300
    corpus = open_corpus(str(write(tmp_path / "a.tar", [(f"{name}.png", PICTURE), ("b.png", PICTURE)], FORMATS[kind])))
    assert list(items(corpus)) == [f"a.tar/{name}.png", "a.tar/b.png"]


def test_a_folder_of_archives(tmp_path: Path) -> None:
    write(tmp_path / "set" / "shard-1.tar", samples(2))
    write(tmp_path / "set" / "shard-0.tar", samples(3))
    corpus = open_corpus(str(tmp_path / "set"), size=2)
    names = [f"shard-0.tar/{n:03}.png" for n in range(3)] + [f"shard-1.tar/{n:03}.png" for n in range(2)]
    assert [found.source for found in everything(corpus)] == names and corpus.name == "set"
    assert [part.number for part in corpus.slices] == [0, 1, 2]
    first = corpus.digest
    assert open_corpus(str(tmp_path / "set")).digest != first
    write(tmp_path / "set" / "shard-1.tar", [("x.png", PICTURE), ("y.png", PICTURE)])
    assert open_corpus(str(tmp_path / "set"), size=2).digest != first


def test_captions(tmp_path: Path) -> None:
    many = json.dumps({"caption": 3, "text": "from the text", "url": "x"}).encode()
    members = [
        *(("1.jpg", PICTURE), ("1.txt", b" after it "), ("2.json", b'{"caption": "before it"}'), ("2.JPEG", PICTURE)),
        *(("3.webp", PICTURE), ("3.json", many), ("4.png", PICTURE), ("5.txt", b"of no picture"), ("6.png", PICTURE)),
        *(("6.json", b"{broken"), ("7.png", PICTURE), ("7.json", b"[1]"), ("8.png", PICTURE), ("8.txt", b"\xff\xfe")),
        *(("9.png", PICTURE), ("9.json", b"[" * 100_000), ("a.b/c.png", PICTURE), ("a.b/c.txt", b"dots")),
        *(("d.png", PICTURE), ("d.seg.png", PICTURE), ("d.jpg", PICTURE), ("d.cls", b"7"), ("d.txt", b"of both")),
        *(("e.png", PICTURE), ("._e.png", b"hidden"), ("dir/.e.png", b"hidden"), ("e.txt", b"not beside it")),
    ]
    found = items(open_corpus(str(write(tmp_path / "a.tar", members))))
    assert {source.removeprefix("a.tar/"): item.caption for source, item in found.items()} == {
        "1.jpg": "after it",
        "2.JPEG": "before it",
        "3.webp": "from the text",
        "4.png": None,
        "6.png": None,
        "7.png": None,
        "8.png": "\ufffd\ufffd",
        "9.png": None,
        "a.b/c.png": "dots",
        "d.png": "of both",
        "d.jpg": "of both",
        "e.png": None,
    }
    assert all(item.content == PICTURE for item in found.values())


def test_names_are_labels(tmp_path: Path) -> None:
    names = ["/etc/passwd.png", "../../up.png", "a/../../b.png", "new\nline.png"]
    found = items(open_corpus(str(write(tmp_path / "set" / "a.tar", [(name, PICTURE) for name in names]))))
    assert list(found) == ["a.tar/etc/passwd.png", "a.tar/up.png", "a.tar/a/b.png", "a.tar/new\\nline.png"]
    assert [path.name for path in tmp_path.rglob("*")] == ["set", "a.tar"]


def test_links_devices_and_what_is_too_large_are_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    with tarfile.open(path, "w") as archive:
        for number, kind in enumerate(kinds):
            facts = tarfile.TarInfo(f"{number}.png")
            facts.type, facts.linkname = kind, "/etc/passwd"
            archive.addfile(facts)
        folder = tarfile.TarInfo("folder.png")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        large = tarfile.TarInfo("large.png")
        large.size = LARGEST + 1
        start = archive.offset
        archive.fileobj.write(large.tobuf())
        archive.fileobj.truncate(start + 512 + LARGEST + 512)
        archive.fileobj.seek(0, io.SEEK_END)
        archive.offset = archive.fileobj.tell()
        good = tarfile.TarInfo("last.png")
        good.size = len(PICTURE)
        archive.addfile(good, io.BytesIO(PICTURE))
    corpus = open_corpus(str(path))
    refused = {f"a.tar/{number}.png": "it is a link or a device, which is not followed" for number in range(len(kinds))}
    assert faults(corpus) == {**refused, "a.tar/large.png": "it is larger than the 64 MB allowed"}
    assert list(items(corpus)) == ["a.tar/last.png"]


def test_a_sample_of_many_pictures_is_cut(tmp_path: Path) -> None:
    members = [(f"{key}.png", PICTURE) for key in "aaaaabb"]
    corpus = open_corpus(str(write(tmp_path / "a.tar", members)), size=3)
    assert [part.count for part in corpus.slices] == [3, 2, 2]
    assert [len(list(corpus.read(part))) for part in corpus.slices] == [3, 2, 2]


def test_packed_archives_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "set" / "a.tar", samples(2))
    path.write_bytes(gzip.compress(path.read_bytes()))
    for where in (path, path.parent):
        with pytest.raises(ValueError, match="a.tar is a packed archive, which cannot be read in parts; unpack it"):
            open_corpus(str(where))


def test_an_archive_that_is_cut_short_gives_what_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", samples(4))
    content = path.read_bytes()
    whole, seen = content.rstrip(b"\0"), set[str]()
    for length in [*range(0, len(whole), 97), *range(0, len(whole), 512)]:
        path.write_bytes(content[:length])
        for size in (2, 100):
            found = everything(open_corpus(str(path), size=size))
            assert isinstance(found[-1], Fault) and found[-1].source == "a.tar"
            seen.add(found[-1].reason)
            good = found[:-1]
            assert [each.source for each in good] == [f"a.tar/{n:03}.png" for n in range(len(good))]
            assert all(isinstance(each, Item) and each.content == encoded(Random(n)) for n, each in enumerate(good))
    assert seen == {SHORT, ENDLESS}


def test_no_damage_is_more_than_a_fault(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", [("l" * 200 + name, content) for name, content in samples(3)], tarfile.PAX_FORMAT)
    content = path.read_bytes()
    for number in range(600):
        random = Random(number)
        harmed = bytearray(content)
        for _ in range(random.choice((1, 20))):
            at = random.randrange(len(content) // 512) * 512 + random.choice((0, 124, 135, 148, 156, 257, 300))
            harmed[at : at + 2] = random.choice((random.randbytes(2), b"\x80\xff", b"99", b"-1"))
        for start in range(0, len(harmed), 512):  # half of them with sums that are right
            if number % 2 and harmed[start + 257 : start + 262] == b"ustar":
                harmed[start + 148 : start + 156] = b" " * 8
                harmed[start + 148 : start + 156] = b"%06o\0 " % sum(harmed[start : start + 512])
        path.write_bytes(harmed)
        for each in everything(open_corpus(str(path), size=2)):
            assert isinstance(each, Item) or each.reason


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty", b""),
        ("text", b"no tar file at all" * 100),
        ("endless", b"\0" * 100),
        ("html", b"<html>" + bytes(5000)),
    ],
)
def test_what_is_no_archive_is_one_fault(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    found = everything(open_corpus(str(tmp_path / "a.tar")))
    assert len(found) == 1 and isinstance(found[0], Fault) and found[0].source == "a.tar"


def test_what_vanishes_is_a_fault(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / "set" / f"{name}.tar", samples(1))
    (tmp_path / "set" / "gone.tar").symlink_to("nowhere")
    corpus = open_corpus(str(tmp_path / "set"))
    (tmp_path / "set" / "a.tar").unlink()
    (tmp_path / "set" / "b.tar").write_bytes(b"")
    missing = "it cannot be read (No such file or directory)"
    assert faults(corpus) == {"a.tar": missing, "b.tar": ENDLESS, "gone.tar": missing}
    assert list(items(corpus)) == ["c.tar/000.png"]


def test_an_archive_without_pictures_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path / "set" / "empty.tar", [])
    write(tmp_path / "set" / "scans.tar", [("1.tiff", PICTURE), ("2.tiff", PICTURE), ("2.txt", b"two"), ("d/", b"")])
    write(tmp_path / "set" / "some.tar", samples(1))
    corpus = open_corpus(str(tmp_path / "set"))
    reason = "it holds no pictures (.png, .jpg, .jpeg, .webp)"
    assert faults(corpus) == {"empty.tar": reason, "scans.tar": reason}
    assert list(items(corpus)) == ["some.tar/000.png"]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_what_has_the_name_and_size_of_one_before_it_is_a_fault(tmp_path: Path, size: int) -> None:
    members = [*samples(4), *samples(2), ("./001.png", encoded(Random(1))), ("000.png", PICTURE + b"more")]
    corpus = open_corpus(str(write(tmp_path / "a.tar", members)), size=size)
    again = pickle.loads(pickle.dumps(corpus))
    found = [each for part in again.slices[::-1] for each in list(again.read(part))[::-1]][::-1]
    assert found == everything(corpus)
    assert [each.source for each in found if isinstance(each, Item)] == [
        *(f"a.tar/{n:03}.png" for n in range(4)),
        "a.tar/000.png",
    ]
    reason = "its archive has a picture of that name and size before it, which counts"
    doubled = [Fault(f"a.tar/{n:03}.png", reason) for n in (0, 1, 1)]
    assert [each for each in found if isinstance(each, Fault)] == doubled


def test_an_archive_may_be_a_link_and_no_pipe_is_waited_for(tmp_path: Path) -> None:
    write(tmp_path / "blobs" / "0123abcd", samples(1))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.tar").symlink_to("../blobs/0123abcd")
    os.mkfifo(tmp_path / "set" / "pipe.tar")
    (tmp_path / "set" / "zero.tar").symlink_to("/dev/zero")
    corpus = open_corpus(str(tmp_path / "set"))
    assert list(items(corpus)) == ["a.tar/000.png"]
    assert faults(corpus) == {"pipe.tar": "it is no file", "zero.tar": "it is no file"}


def test_a_name_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        facts = tarfile.TarInfo("././@LongLink")
        facts.type, facts.size = kind, 10**9
        with (tmp_path / "a.tar").open("wb") as file:
            file.write(facts.tobuf())
            file.truncate(10**9 + 4096)
        reason = "it is damaged: a name in it is longer than a name can be"
        assert faults(open_corpus(str(tmp_path / "a.tar"))) == {"a.tar": reason}
