import pytest
import torch

from sfumato.core.level import Level, along


def _level(alpha: float, sigma: float) -> Level:
    return Level(*(torch.tensor(value, dtype=torch.float64) for value in (3.0, alpha, sigma)))


def test_ratio_is_sigma_over_alpha() -> None:
    assert _level(0.5, 0.25).ratio == 0.5
    assert _level(0.0, 1.0).ratio.isinf()


def test_a_single_level_leaves_x_in_its_dtype() -> None:
    x = torch.ones(2, 3, dtype=torch.float16)
    assert along(_level(0.5, 0.5).alpha, x) is not x
    assert (along(_level(0.5, 0.5).alpha, x) * x).dtype == torch.float16


def test_one_level_an_image_takes_the_shape_and_dtype_of_x() -> None:
    x = torch.ones(2, 3, 4, 5)
    shaped = along(torch.tensor([1.0, 2.0], dtype=torch.float64), x)
    assert shaped.shape == (2, 1, 1, 1)
    assert shaped.dtype == torch.float32
    assert (shaped * x)[1].unique().tolist() == [2.0]


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1)])
def test_other_numbers_of_levels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one an image"):
        along(torch.ones(shape), torch.ones(2, 3))


def test_levels_print_their_numbers() -> None:
    assert repr(_level(0.8, 0.6)) == "Level(time=3, alpha=0.8, sigma=0.6)"
    assert repr(Level(torch.zeros(4), torch.ones(4), torch.zeros(4))) == "Level(4 times)"
