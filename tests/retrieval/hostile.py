"""Files that are called like pictures and are none, or that want to do harm.

Everything is a function of the seed. The files are small, so that a thousand of them are made and read in seconds.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random

from tests.retrieval.pictures import chunk, encoded, png, saved, small_picture, write_good

__all__ = ["write_good", "write_hostile"]

_STRANGE_NAMES = (
    "line\nbreak",
    "\x1b[31mred",
    "ünï-漢字-🦊",
    "l" * 240,
    "-rf",
    "%s%n{0}",
    "'; drop table--",
    " blank ",
    "back\\slash",
    os.fsdecode(b"not-utf8-\xff\xfe"),
)


def write_hostile(folder: Path, count: int, seed: int = 0) -> list[str]:
    """Write files of which every single one must be passed over, kind after kind.

    Args:
        folder: made if needed.
        count: how many.
        seed: of everything that varies.

    Returns:
        their names below the folder, as the file system has them.
    """
    names: list[str] = []
    for number in range(count):
        random = Random(f"{seed} {number}")
        if number % 23 == 22:
            make = _PLACES[number // 23 % len(_PLACES)]
            names.append(f"{number:05}-{make.__name__.strip('_')}.png")
            (folder / names[-1]).parent.mkdir(parents=True, exist_ok=True)
            make(folder / names[-1])
            continue
        make_content = _many_texts if number % 500 == 1 else _CONTENTS[number % len(_CONTENTS)]
        strange = _STRANGE_NAMES[number // 7 % len(_STRANGE_NAMES)] if number % 7 == 6 else ""
        where = f"deep/{number % 3}/" if number % 5 == 4 else ""
        suffix = random.choice((".png", ".jpg", ".JPEG", ".webp"))
        names.append(f"{where}{number:05}{strange or '-' + make_content.__name__.strip('_')}{suffix}")
        (folder / names[-1]).parent.mkdir(parents=True, exist_ok=True)
        (folder / names[-1]).write_bytes(make_content(random))
    return names


@cache
def _zeros(megabytes: int) -> bytes:
    """A zlib stream that inflates to so many megabytes of zeros, made without ever holding them."""
    packer = zlib.compressobj(9)
    first = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + again * (megabytes - 1) + packer.flush()


def _cut_png(random: Random) -> bytes:
    content = encoded(random, "PNG")
    return content[: int(len(content) * random.uniform(0.02, 0.9))]


def _cut_jpeg(random: Random) -> bytes:
    content = encoded(random, "JPEG")
    return content[: int(len(content) * random.uniform(0.02, 0.9))]


def _cut_webp(random: Random) -> bytes:
    content = encoded(random, "WEBP")
    return content[: int(len(content) * random.uniform(0.02, 0.95))]


def _huge_header(random: Random) -> bytes:
    return png(60_000, 60_000, b"", data=zlib.compress(bytes(random.randint(1, 900))))


def _huge_and_valid(random: Random) -> bytes:
    """400 to 900 million pixels of one bit, all of them there."""
    side = random.choice((20_000, 30_000))
    return png(side, side, kind=0, bits=1, data=_zeros(side * (side // 8 + 1) // (1 << 20) + 1))


def _just_too_large(random: Random) -> bytes:
    return png(8000, 4001, kind=0, bits=8, data=_zeros(31))


def _huge_jpeg(random: Random) -> bytes:
    content = bytearray(encoded(random, "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", 65_500, 65_500)
    return bytes(content)


def _huge_webp(random: Random) -> bytes:
    content = bytearray(saved(small_picture(random), "WEBP", lossless=True))
    at = content.index(b"VP8L") + 9
    (bits,) = struct.unpack_from("<I", content, at)
    struct.pack_into("<I", content, at, bits & 0xF0000000 | 0x0FFFFFFF)
    return bytes(content)


def _bomb_in_text(random: Random) -> bytes:
    return png(4, 4, b"\0" * 13, extra=[(b"iTXt", b"a\0\x01\0\0\0" + _zeros(1000))])


def _bomb_in_old_text(random: Random) -> bytes:
    return png(4, 4, b"\0" * 13, extra=[(b"zTXt", b"a\0\0" + _zeros(1000))])


def _bomb_in_profile(random: Random) -> bytes:
    return png(4, 4, b"\0" * 13, extra=[(b"iCCP", b"a\0\0" + _zeros(1000))])


def _many_texts(random: Random) -> bytes:
    text = zlib.compress(bytes(1_000_000))
    return png(4, 4, b"\0" * 13, extra=[(b"zTXt", b"a%d\0\0" % number + text) for number in range(70)])


def _no_palette_nor_data(random: Random) -> bytes:
    return png(8, 8, kind=3, data=b"")


def _no_pixels(random: Random) -> bytes:
    return png(0, random.randint(0, 9), b"\0")


def _no_such_kind(random: Random) -> bytes:
    return png(8, 8, bytes(25), kind=5, bits=random.choice((3, 7, 32)))


def _broken_stream(random: Random) -> bytes:
    return png(40, 40, data=random.randbytes(400))


def _broken_sum(random: Random) -> bytes:
    content = bytearray(encoded(random, "PNG"))
    content[content.index(b"IDAT") + 9] ^= 0x55
    return bytes(content)


def _chunk_that_lies(random: Random) -> bytes:
    start = png(40, 40)[:33]
    return start + chunk(b"IDAT", zlib.compress(random.randbytes(4000))[:2000], 0x7FFFFFFF)


def _empty(random: Random) -> bytes:
    return b""


def _signature_alone(random: Random) -> bytes:
    return random.choice((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x10\0\0\0WEBP", b"\xff", b"\0" * 5000))


def _noise(random: Random) -> bytes:
    return random.randbytes(random.randint(1, 4000))


def _text(random: Random) -> bytes:
    return b"<html><body>404 Not Found</body></html>" * random.randint(1, 50)


def _drawing(random: Random) -> bytes:
    entity = b'<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    return b"<!DOCTYPE svg [" + entity + b']><svg xmlns="http://www.w3.org/2000/svg"><text>&b;</text></svg>'


def _document(random: Random) -> bytes:
    return b"%PDF-1.7\n1 0 obj<</Length 99999999>>stream\n" + random.randbytes(500)


def _postscript(random: Random) -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n%%EOF\n"


def _program(random: Random) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + random.randbytes(1000)


def _archive(random: Random) -> bytes:
    return b"PK\x03\x04" + random.randbytes(600)


def _other_format(random: Random) -> bytes:
    return saved(small_picture(random), random.choice(("GIF", "TIFF", "BMP", "PPM", "ICO", "TGA", "PCX")))


def _many_gif_frames(random: Random) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 8, 8, 0) + b"\x02\x02\x4c\x01\0"
    return head + frame * 5000 + b";"


def _jpeg_without_picture(random: Random) -> bytes:
    content = encoded(random, "JPEG")
    return content[: content.index(b"\xff\xda")] + b"\xff\xd9"


def _jpeg_without_tables(random: Random) -> bytes:
    content = encoded(random, "JPEG")
    return content.replace(b"\xff\xdb", b"\xff\xfe")


def _webp_that_lies(random: Random) -> bytes:
    content = bytearray(encoded(random, "WEBP"))
    content[4:8] = struct.pack("<I", 0xFFFFFFF0)
    return bytes(content[: len(content) // 2])


def _webp_of_garbage(random: Random) -> bytes:
    return b"RIFF" + struct.pack("<I", 4000) + b"WEBPVP8X" + random.randbytes(3988)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere.png")


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _link_out(path: Path) -> None:
    path.symlink_to(__file__)


def _over_the_cap(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**12)


_PLACES: tuple[Callable[[Path], None], ...] = (
    *(_pipe, _link_to_nothing, _link_to_itself, _link_to_device, _link_out, _over_the_cap),
)
_CONTENTS: tuple[Callable[[Random], bytes], ...] = (
    *(_cut_png, _cut_jpeg, _cut_webp, _huge_header, _huge_and_valid, _just_too_large, _huge_jpeg, _huge_webp),
    *(_cut_png, _cut_jpeg, _cut_webp, _bomb_in_text, _bomb_in_old_text, _bomb_in_profile),
    *(_cut_png, _cut_jpeg, _cut_webp, _no_palette_nor_data, _no_pixels, _no_such_kind, _broken_stream, _broken_sum),
    *(_cut_png, _cut_jpeg, _cut_webp, _chunk_that_lies, _empty, _signature_alone, _noise, _text, _drawing, _document),
    *(_cut_png, _cut_jpeg, _cut_webp, _postscript, _program, _archive, _other_format, _many_gif_frames),
    *(_jpeg_without_picture, _jpeg_without_tables, _webp_that_lies, _webp_of_garbage),
)
