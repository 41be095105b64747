import io
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.core.image import cover, from_pictures, open_picture
from sfumato.retrieval.patches import Crops, Whole, cut, patches_named, thumbnail

SIZES = [(1200, 1200), (1600, 1200), (1200, 5000), (4000, 3000), (800, 500), (256, 300), (255, 9000), (100, 60), (1, 9)]
DIGESTS = [f"{number:032x}" for number in range(400)]


def gradient(width: int, height: int) -> Image.Image:
    across, down = np.linspace(0, 255, width), np.linspace(0, 255, height)
    values = np.stack([np.tile(across, (height, 1)), np.tile(down[:, None], (1, width)), np.full((height, width), 90)])
    return Image.fromarray(values.transpose(1, 2, 0).round().astype(np.uint8))


@pytest.mark.parametrize("size", [(40, 40), (60, 40), (40, 61), (33, 200)])
def test_the_whole_is_what_cover_shows(size: tuple[int, int]) -> None:
    picture = gradient(*size)
    (box,) = Whole().boxes(*size, "")
    side = min(size)
    assert torch.equal(cut(picture, box, side), cover(from_pictures([picture]), side, side)[0])


@pytest.mark.parametrize("size", SIZES)
def test_crops_are_squares_in_the_middle_square(size: tuple[int, int]) -> None:
    ((left, top, right, bottom),) = Whole().boxes(*size, "")
    middle = min(size)
    side = {1200: 256, 3000: 640}.get(middle, min(256, middle))
    for digest in DIGESTS:
        boxes = Crops().boxes(*size, digest)
        assert 1 <= len(boxes) <= 3 and len(set(boxes)) == len(boxes)
        for x0, y0, x1, y1 in boxes:
            assert left <= x0 < x1 <= right and top <= y0 < y1 <= bottom and x1 - x0 == y1 - y0 == side


def test_small_pictures_are_not_enlarged() -> None:
    for digest in DIGESTS:
        assert Crops().boxes(200, 256, digest) == [(0, 28, 200, 228)]
        assert Crops().boxes(1, 100_000, digest) == [(0, 49_999, 1, 50_000)]


def test_the_number_of_crops_is_spread_evenly() -> None:
    for least, most in ((2, 3), (1, 4), (5, 5)):
        counts = Counter(len(Crops(least=least, most=most).boxes(4000, 3000, digest)) for digest in DIGESTS)
        assert set(counts) == set(range(least, most + 1))
        expected = len(DIGESTS) / len(counts)
        assert all(abs(count - expected) < 4 * expected**0.5 for count in counts.values())


def test_crops_lie_anywhere_alike() -> None:
    boxes = np.array([box for digest in DIGESTS for box in Crops(most=3, least=3).boxes(1600, 1200, digest)])
    for starts, low in ((boxes[:, 0], 200), (boxes[:, 1], 0)):
        assert starts.min() < low + 20 and starts.max() > low + 944 - 20
        assert abs(starts.mean() - (low + 472)) < 4 * 944 / (12 * len(starts)) ** 0.5
    assert abs(np.corrcoef(boxes[:, 0], boxes[:, 1])[0, 1]) < 4 / len(boxes) ** 0.5


def test_the_digest_is_the_only_randomness() -> None:
    assert Crops().boxes(1600, 1200, "ab") == [(971, 908, 1227, 1164), (1022, 10, 1278, 266), (448, 179, 704, 435)]
    assert len({tuple(Crops().boxes(1600, 1200, digest)) for digest in DIGESTS}) == len(DIGESTS)


@pytest.mark.parametrize("patches", [Whole(), Crops(), Crops(512, 64, 1, 9)], ids=lambda patches: patches.name)
def test_names_lead_back(patches: Whole | Crops) -> None:
    assert patches_named(patches.name) == patches


@pytest.mark.parametrize(
    "name", ["", "half", "whole 1", "crops", "crops 1 2 3", "crops a b c d", "crops 1200 256 2 3 ", "crops ² 1 1 1"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no patches are called"):
        patches_named(name)


@pytest.mark.parametrize("numbers", [(10, 20, 1, 1), (10, 0, 1, 1), (10, 5, 0, 1), (10, 5, 2, 1), (10, 5, 1, 101)])
def test_crops_out_of_range_are_refused(numbers: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="crops need"):
        Crops(*numbers)
    with pytest.raises(ValueError, match="crops need"):
        patches_named("crops " + " ".join(map(str, numbers)))


def test_a_cut_is_the_part_of_the_picture() -> None:
    picture = gradient(90, 70)
    image = from_pictures([picture])[0]
    assert torch.equal(cut(picture, (10, 20, 42, 52), 32), image[:, 20:52, 10:42])
    half = cut(picture, (10, 20, 42, 52), 16)
    assert half.shape == (3, 16, 16) and half.dtype == torch.float32 and half.abs().max() <= 1
    torch.testing.assert_close(
        half, image[:, 20:52, 10:42].unflatten(1, (16, 2)).unflatten(3, (16, 2)).mean((2, 4)), rtol=0, atol=0.03
    )


def test_a_cut_does_not_alias_and_sees_nothing_outside() -> None:
    board = np.indices((96, 96)).sum(0) % 2 * 255
    picture = Image.fromarray(board.astype(np.uint8)).convert("RGB")
    assert cut(picture, (0, 0, 96, 96), 12).abs().max() < 0.02
    picture = Image.new("RGB", (60, 60), "white")
    picture.paste("black", (20, 20, 40, 40))
    assert (cut(picture, (20, 20, 40, 40), 7) == -1).all()
    assert (cut(picture.convert("L"), (20, 20, 40, 40), 30) == -1).all()


def test_thumbnails_are_small_and_the_same_again() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    noise.info["icc_profile"] = bytes(100_000)
    for picture in (noise, gradient(300, 300)):
        picture.info["exif"] = b"Exif\0\0" + bytes(60_000)
        small = thumbnail(picture, (20, 10, 84, 74))
        assert small == thumbnail(picture, (20, 10, 84, 74)) and len(small) < 6000
        shown = open_picture(small)
        assert shown.size == (64, 64) and not shown.info.get("exif") and not shown.info.get("icc_profile")
        assert Image.open(io.BytesIO(small)).format == "WEBP"
    difference = cut(gradient(300, 300), (20, 10, 84, 74), 64) - from_pictures([shown])[0]
    assert difference.abs().mean() < 0.03
    assert open_picture(thumbnail(noise, (0, 0, 5, 5), side=16)).size == (16, 16)


def test_boxes_that_are_none_are_refused() -> None:
    picture = gradient(20, 10)
    for box in ((0, 0, 11, 11), (-1, 0, 4, 5), (5, 5, 5, 5), (0, 0, 8, 7), (5, 5, 4, 4)):
        for function in (cut, thumbnail):
            with pytest.raises(ValueError, match="is no square inside 20 x 10 pixels"):
                function(picture, box, 8)
    with pytest.raises(ValueError, match="0 no side"):
        cut(picture, (0, 0, 5, 5), 0)
    for patches in (Whole(), Crops()):
        with pytest.raises(ValueError, match="0 x 5 pixels has no patches"):
            patches.boxes(0, 5, "")
