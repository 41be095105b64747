import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.core import image
from sfumato.core.image import (
    PictureError,
    check_images,
    cover,
    from_pictures,
    open_picture,
    resize,
    to_pictures,
)


def _bytes(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _halves(mode: str = "RGB") -> Image.Image:
    """Left half red, right half blue, 8 wide and 4 high."""
    picture = Image.new("RGB", (8, 4), (255, 0, 0))
    picture.paste((0, 0, 255), (4, 0, 8, 4))
    return picture.convert(mode)


def _png_header(width: int, height: int) -> bytes:
    """A PNG of any stated size with no pixels behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_formats_are_judged_by_content(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.txt"
    path.write_bytes(_bytes(_halves(), kind, quality=95))
    opened = open_picture(path)
    assert opened.mode == "RGB"
    assert opened.size == (8, 4)
    red, _, blue = opened.getpixel((0, 0))
    assert red > 200 > 60 > blue


@pytest.mark.parametrize("mode", ["P", "RGBA", "L", "LA", "1"])
def test_other_modes_become_rgb(mode: str) -> None:
    source = _halves(mode)
    opened = open_picture(_bytes(source))
    assert opened.mode == "RGB"
    assert np.array_equal(np.asarray(opened), np.asarray(source.convert("RGBA").convert("RGB")))


def test_cmyk_becomes_rgb() -> None:
    assert open_picture(_bytes(_halves("CMYK"), "JPEG")).mode == "RGB"


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    deep = Image.fromarray(np.array([[0, 32896, 65535]], dtype=np.uint16))
    assert np.asarray(open_picture(_bytes(deep)))[0, :, 0].tolist() == [0, 128, 255]


def test_transparency_is_laid_over_the_background() -> None:
    glass = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert open_picture(_bytes(glass)).getpixel((0, 0)) == (255, 255, 255)
    assert open_picture(_bytes(glass), background=(1, 2, 3)).getpixel((0, 0)) == (1, 2, 3)
    veil = Image.new("RGBA", (2, 2), (0, 0, 0, 51))
    assert open_picture(_bytes(veil)).getpixel((0, 0)) == (204, 204, 204)


def test_a_transparent_palette_colour_is_laid_over_the_background() -> None:
    palette = _halves("P")
    index = palette.getpixel((0, 0))
    for transparency in (index, bytes(0 if i == index else 255 for i in range(256))):
        opened = open_picture(_bytes(palette, transparency=transparency))
        assert opened.getpixel((0, 0)) == (255, 255, 255)
        assert opened.getpixel((7, 0)) == (0, 0, 255)


def test_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    opened = open_picture(_bytes(_halves(), exif=exif))
    assert opened.size == (4, 8)
    assert opened.getpixel((0, 0)) == (255, 0, 0)
    assert opened.getpixel((0, 7)) == (0, 0, 255)


def test_metadata_that_cannot_be_read_is_passed_over() -> None:
    broken = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0"
    file = io.BytesIO()
    _halves().save(file, "JPEG", exif=broken)
    assert open_picture(file.getvalue()).size == _halves().size


def test_a_jpeg_of_endless_scans_is_refused_before_it_is_decoded() -> None:
    file = io.BytesIO()
    _halves().save(file, "JPEG", progressive=True)
    assert open_picture(file.getvalue()).size == _halves().size
    with pytest.raises(PictureError, match="more than 100 scans"):
        open_picture(file.getvalue() + b"\xff\xda" * 101)
    two = io.BytesIO()
    _halves().save(two, "MPO", save_all=True, append_images=[_halves()])
    assert open_picture(two.getvalue()).size == _halves().size
    with pytest.raises(PictureError, match="more than 100 scans"):
        open_picture(two.getvalue() + b"\xff\xda" * 101)


def test_threads_read_side_by_side_and_leave_warnings_as_they_were() -> None:
    good, bad = _bytes(_halves()), _bytes(_halves())[:-30]

    def read(number: int) -> bool:
        try:
            return open_picture(bad if number % 3 == 0 else good).size == _halves().size
        except PictureError:
            return False

    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(300))) == [number % 3 != 0 for number in range(300)]
    assert warnings.filters == before


def test_the_first_picture_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = _bytes(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    assert open_picture(data).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a PNG, JPEG or WebP picture"),
        (b"hello", "not a PNG, JPEG or WebP picture"),
        (_bytes(_halves(), "GIF"), "not a PNG, JPEG or WebP picture"),
        (_bytes(_halves(), "TIFF"), "not a PNG, JPEG or WebP picture"),
        (_png_header(8000, 5000), "8000 x 5000 pixels are more than the 32 million allowed"),
        (_png_header(60000, 60000), "cannot be read as a picture|more than the 32 million allowed"),
        (_png_header(8, 8), "cannot be read as a picture"),
        (_bytes(_halves())[:-30], "cannot be read as a picture"),
        (_bytes(Image.effect_noise((64, 64), 50), "JPEG")[:600], "cannot be read as a picture"),
    ],
    ids=["empty", "text", "gif", "tiff", "large", "bomb", "no pixels", "cut png", "cut jpeg"],
)
def test_bad_files_get_one_sentence(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(data)
    with pytest.raises(PictureError, match=message) as caught:
        open_picture(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_get_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="there is no such file"):
        open_picture(tmp_path / "none.png")
    with pytest.raises(PictureError, match="cannot be read"):
        open_picture(tmp_path)


def test_the_size_limit_is_the_callers() -> None:
    with pytest.raises(PictureError, match="8 x 4 pixels"):
        open_picture(_bytes(_halves()), max_pixels=31)
    assert open_picture(_bytes(_halves()), max_pixels=32).size == (8, 4)


def test_pictures_survive_the_way_to_tensors_and_back() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    pictures = [Image.fromarray(every), Image.fromarray(every[::-1].copy())]
    images = from_pictures(pictures)
    assert images.shape == (2, 3, 16, 16)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (-1, 1)
    for picture, back in zip(pictures, to_pictures(images), strict=True):
        assert np.array_equal(np.asarray(picture), np.asarray(back))


def test_pictures_of_different_sizes_share_no_batch() -> None:
    for pictures in ([], [Image.new("RGB", (2, 2)), Image.new("RGB", (2, 3))]):
        with pytest.raises(ValueError, match="one size"):
            from_pictures(pictures)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 4, 4), r"\(B, 3, H, W\)"),
        (torch.zeros(1, 4, 4, 4), r"\(B, 3, H, W\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "floating"),
        (torch.full((1, 3, 4, 4), 1.1), r"lie in \[-1, 1\]"),
        (torch.full((1, 3, 4, 4), -1.1), r"lie in \[-1, 1\]"),
        (torch.full((1, 3, 4, 4), float("nan")), r"lie in \[-1, 1\]"),
    ],
)
def test_what_is_no_image_is_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_images(images)


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
def test_resizing_does_not_alias_and_has_a_gradient(kind: str) -> None:
    stripes = (torch.arange(64) % 2 * 2.0 - 1).expand(1, 3, 64, 64).requires_grad_()
    small = resize(stripes, 8, 8, kind)
    assert small.shape == (1, 3, 8, 8)
    assert small[..., 1:-1].abs().max() < 0.1
    (gradient,) = torch.autograd.grad(small.sum(), stripes)
    torch.testing.assert_close(gradient.sum(), torch.tensor(3 * 64.0))


def test_resizing_keeps_means_ranges_and_images_of_the_wanted_size() -> None:
    images = torch.rand(2, 3, 12, 20) * 2 - 1
    torch.testing.assert_close(resize(images, 6, 10).mean(), images.mean(), rtol=0, atol=0.02)
    assert resize(images, 31, 7).abs().max() <= 1
    assert resize(images, 12, 20) is images
    for height, width in ((0, 4), (4, 0)):
        with pytest.raises(ValueError, match="cannot resize"):
            resize(images, height, width)


@pytest.mark.parametrize("size", [(8, 8), (4, 30), (33, 5)])
def test_cover_cuts_the_middle_without_distortion(size: tuple[int, int]) -> None:
    images = torch.linspace(-1, 1, 20).expand(1, 3, 12, 20).contiguous()
    cut = cover(images, *size)
    assert cut.shape == (1, 3, *size)
    torch.testing.assert_close(cut.mean(), torch.tensor(0.0), rtol=0, atol=0.1)  # half a pixel off
    assert torch.equal(cover(images, 12, 20), images)
    assert torch.equal(cover(images, 12, 10), images[..., 5:15])
    assert torch.equal(cover(images, 6, 10), resize(images, 6, 10))


@pytest.mark.parametrize("old", [(12, 20), (97, 64), (300, 301), (7, 200), (200, 7), (1, 9)])
@pytest.mark.parametrize("new", [(32, 32), (5, 40), (64, 48), (13, 3)])
def test_cover_is_the_middle_of_all_of_it_resized(old: tuple[int, int], new: tuple[int, int]) -> None:
    images = (torch.rand(2, 3, *old) * 2 - 1).requires_grad_()
    scale = max(new[0] / old[0], new[1] / old[1])
    whole = resize(images, *(max(to, round(side * scale)) for to, side in zip(new, old, strict=True)))
    top, left = ((large - to) // 2 for large, to in zip(whole.shape[-2:], new, strict=True))
    middle, found = whole[..., top : top + new[0], left : left + new[1]], cover(images, *new)
    torch.testing.assert_close(found, middle, rtol=0, atol=3e-5)
    wanted, *_ = torch.autograd.grad(middle.square().sum(), images)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), images)[0], wanted, rtol=1e-4, atol=1e-4)


def test_cover_of_a_picture_like_a_thread_resizes_what_is_kept_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    resized: list[tuple[int, ...]] = []
    monkeypatch.setattr(image, "resize", lambda images, *size: resized.append(size) or resize(images, *size))
    for thread in (torch.zeros(1, 3, 1, 8000), torch.zeros(1, 3, 8000, 1)):
        assert cover(thread, 512, 512).shape == (1, 3, 512, 512)
    assert all(high * wide < 5000 for high, wide in resized) and len(resized) == 2
    for size in ((0, 4), (4, 0)):
        with pytest.raises(ValueError, match="cannot resize"):
            cover(torch.zeros(1, 3, 8, 8), *size)
