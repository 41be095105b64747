from __future__ import annotations

import io
import zlib
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sfumato.png_text import MAX_TEXT, PngError, read_text_chunks

WANTED = frozenset({"sfumato"})


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def png(*extra: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG")
    whole = buffer.getvalue()
    end = whole.index(b"IEND") - 4
    return whole[:end] + b"".join(extra) + whole[end:]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("text", ["plain", "caf\u00e9", "\u732b", "x" * MAX_TEXT])
def test_reads_what_pillow_writes(tmp_path: Path, text: str, packed: bool) -> None:
    info = PngInfo()
    info.add_text("sfumato", text, zip=packed)
    info.add_text("other", "no")
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png", pnginfo=info)
    assert read_text_chunks(tmp_path / "a.png", WANTED) == {"sfumato": text}


def test_the_first_of_several_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", png(chunk(b"tEXt", b"sfumato\0one"), chunk(b"tEXt", b"sfumato\0two")))
    assert read_text_chunks(path, WANTED) == {"sfumato": "one"}


def test_a_picture_without_text(tmp_path: Path) -> None:
    assert read_text_chunks(write(tmp_path / "a.png", png()), WANTED) == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a PNG"),
        (b"plain text", "not a PNG"),
        (png()[:-12], "cut off"),
        (png(chunk(b"tEXt", b"sfumato\0" + b"x" * (MAX_TEXT + 1))), "longer than"),
        (png(chunk(b"tEXt", b"sfumato\0" + b"x" * 2_000_000)), "longer than"),
        (png(chunk(b"zTXt", b"sfumato\0\0" + zlib.compress(b"x" * 50_000_000))), "longer than"),
        (png(chunk(b"iTXt", b"sfumato\0\1\0\0\0" + zlib.compress(b"x" * 50_000_000))), "longer than"),
        (png(chunk(b"tEXt", b"sfumato\0one")[:-1] + b"?"), "damaged"),
        (png(chunk(b"zTXt", b"sfumato\0\0no zlib")), "cannot be read"),
        (png(chunk(b"iTXt", b"sfumato\0\0\0\0\0\xff\xfe")), "cannot be read"),
        (png(chunk(b"iTXt", b"sfumato\0")), "cannot be read"),
        (png(b"\xff\xff\xff\xfftEXtsfumato\0x"), "longer than"),
        (png(b"\xff\xff\xff\xffIDATx"), "cut off"),
    ],
)
def test_hostile_files_get_a_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(PngError, match=reason):
        read_text_chunks(write(tmp_path / "a.png", content), WANTED)


def test_a_missing_file_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PngError, match="No such file"):
        read_text_chunks(tmp_path / "none.png", WANTED)
