from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.core.sheet import grid, table


def test_a_grid_has_its_images_in_place() -> None:
    images = torch.linspace(-1, 1, 3)[:, None, None, None].expand(3, 3, 10, 12).contiguous()
    sheet = grid(images, columns=2, gap=4)
    assert sheet.size == (2 * 16 + 4, 2 * 14 + 4)
    assert [sheet.getpixel(at)[0] for at in ((4, 4), (20, 4), (4, 18), (20, 18), (0, 0))] == [0, 128, 255, 255, 255]
    assert grid(images, columns=8).size[0] == 3 * 16 + 4


def test_labels_stand_under_their_images_and_are_cut_to_fit() -> None:
    images = torch.ones(2, 3, 24, 48)
    plain = grid(images, columns=2)
    sheet = grid(images, columns=2, labels=["cat\nhat", "a very long label that cannot fit here"])
    assert sheet.size[1] > plain.size[1]
    dark = np.asarray(sheet.convert("L")) < 128
    assert not dark[:28].any()
    assert dark[28:, 4:52].any()
    assert dark[28:, 56:104].any()
    assert not dark[:, 104:].any()


def test_words_take_the_lines_that_they_need_and_no_more_than_three() -> None:
    images = torch.ones(2, 3, 24, 64)
    texts = ["a dog", "a red car and a brown clock", "word " * 99]
    bare = grid(images, 2).height
    one, two, three = (grid(images, 2, ["a cat", text]).height - bare for text in texts)
    assert one > 0 and two == 2 * one and three == 3 * one
    assert grid(images, 2, ["", " "]).height == bare


def test_words_beside_a_row_stay_in_it() -> None:
    sheet = np.asarray(table(torch.zeros(2, 3, 24, 64), ["a"], ["long words " * 9, "b"]).convert("L"))
    top = len(sheet) - 2 * (24 + 4) - 4
    written = np.flatnonzero((sheet[:, :128] < 128).any(1)) - top
    assert written.min() >= 0 and not set(written) & set(range(24, 28)) and written.max() < 52


@pytest.mark.parametrize(("columns", "labels"), [(0, ()), (1, ("one",))])
def test_grids_that_cannot_be_are_refused(columns: int, labels: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="labels"):
        grid(torch.zeros(2, 3, 4, 4), columns, labels)


def test_a_table_has_its_images_in_place() -> None:
    images = torch.linspace(-0.9, 0.8, 12)[:, None, None, None].expand(12, 3, 32, 48)
    sheet = np.asarray(table(images, ["a", "b", "c"], ["steps=1", "steps=2"], ["first", "second"]))
    values = ((images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
    corners = [_corner(sheet[..., 0], value) for value in values]
    assert corners == sorted(corners)
    assert [len(set(each)) for each in zip(*corners, strict=True)] == [4, 3]


def _corner(sheet: np.ndarray, value: int) -> tuple[int, int]:
    """Top and left of the only 32 x 48 patch of a value."""
    windows = np.lib.stride_tricks.sliding_window_view(sheet == value, (32, 48)).all((2, 3))
    ((top, left),) = np.argwhere(windows)
    return int(top), int(left)


def test_a_table_of_one_row_has_no_margin() -> None:
    sheet = table(torch.zeros(2, 3, 32, 32), ["a", "b"])
    assert sheet.width == 2 * 36 + 4


def test_tables_that_are_not_full_are_refused() -> None:
    with pytest.raises(ValueError, match="3 images do not fill 1 x 2 x 2 places"):
        table(torch.zeros(3, 3, 8, 8), ["a", "b"], ["c", "d"])
