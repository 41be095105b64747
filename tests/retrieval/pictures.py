"""Small pictures as they should be, and odd ones that must be read all the same.

Everything is a function of the seed, so that tests of many files take seconds.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from random import Random

from PIL import Image

__all__ = ["chunk", "encoded", "png", "saved", "small_picture", "write_good", "write_odd"]

_FORMATS = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}


def write_good(folder: Path, count: int, seed: int = 0) -> list[str]:
    """Write pictures as they should be, each another one, PNG, JPEG and WebP in turn; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    for number in range(count):
        kind, suffix = list(_FORMATS.items())[number % 3]
        names.append(f"good-{number:04}{suffix}")
        (folder / names[-1]).write_bytes(encoded(Random(f"good {seed} {number}"), kind))
    return names


def write_odd(folder: Path) -> list[str]:
    """Write pictures that are strange and yet pictures, every one of which must be read; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    random = Random("odd")
    deep = Image.frombytes("I;16", (40, 30), random.randbytes(2400))
    frames = [Image.new("P", (8, 8), number % 250) for number in range(2000)]
    still = small_picture(random)
    turned = Image.Exif()
    turned[0x0112] = 99
    sideways = Image.Exif()
    sideways[0x0112] = 6
    contents = {
        "one-wide.png": saved(Image.new("L", (1, 100_000), 7), "PNG"),
        "one-high.png": saved(Image.new("RGB", (100_000, 1), "red"), "PNG"),
        "one.webp": saved(Image.new("RGB", (1, 1)), "WEBP"),
        "deep.png": saved(deep, "PNG"),
        "many-frames.png": saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "moving.webp": saved(still, "WEBP", save_all=True, append_images=[still.rotate(9 * n) for n in range(50)]),
        "turned.jpg": saved(small_picture(random), "JPEG", exif=turned),
        "sideways.jpg": saved(small_picture(random), "JPEG", exif=sideways),
        "inks.jpg": saved(small_picture(random).convert("CMYK"), "JPEG"),
        "clear.png": saved(Image.new("RGBA", (9, 9), (1, 2, 3, 0)), "PNG"),
        "grey.webp": saved(small_picture(random).convert("LA"), "WEBP"),
        "no-such-colour.png": png(8, 8, b"\0" + b"\x09" * 8, extra=[(b"PLTE", bytes(6))], kind=3),
        "rows-missing.png": png(300, 300, data=zlib.compress(bytes(9010))),
        "really-a-jpeg.png": encoded(random, "JPEG"),
        "more-after-it.png": encoded(random, "PNG") + random.randbytes(5000),
        "no-suffix-of-ours.png.webp": encoded(random, "WEBP"),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return list(contents)


def encoded(random: Random, kind: str = "PNG") -> bytes:
    """A small picture file."""
    return saved(small_picture(random), kind)


def small_picture(random: Random) -> Image.Image:
    width, height = random.randint(24, 60), random.randint(24, 60)
    small = Image.frombytes("RGB", (6, 6), random.randbytes(108))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes, length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return struct.pack(">I", size) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    width: int,
    height: int,
    row: bytes = b"",
    *,
    kind: int = 2,
    bits: int = 8,
    data: bytes | None = None,
    extra: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """A PNG file with anything in it: ``row`` is repeated for each line, or ``data`` is the compressed stream."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    stream = zlib.compress(row * height) if data is None else data
    chunks = [(b"IHDR", header), *extra, (b"IDAT", stream), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, content) for name, content in chunks)
