import pytest
import torch

from sfumato.attention.overlay import overlay


def test_where_no_one_looks_the_picture_is_grey_and_where_all_do_it_is_yellow() -> None:
    image = torch.rand(1, 3, 4, 4) * 2 - 1
    maps = torch.zeros(1, 4, 4)
    maps[:, :, 2:] = 0.01
    shown = overlay(image, maps)
    grey = image.mean(1, keepdim=True)
    torch.testing.assert_close(shown[..., :2], grey.expand(-1, 3, -1, -1)[..., :2])
    red, green, blue = (0.2 * grey[:, 0] + 0.8 * (2 * value - 1) for value in (1.0, 0.95, 0.2))
    torch.testing.assert_close(shown[..., 2:], torch.stack([red, green, blue], dim=1)[..., 2:])


def test_each_map_has_its_own_scale_and_the_size_of_the_picture() -> None:
    images = torch.zeros(2, 3, 8, 8)
    maps = torch.rand(2, 2, 2)
    shown = overlay(images, maps * torch.tensor([1.0, 100.0])[:, None, None])
    assert shown.shape == images.shape and shown.abs().max() <= 1
    torch.testing.assert_close(shown, torch.cat([overlay(images[:1], maps[i : i + 1]) for i in (0, 1)]))


def test_a_map_of_nothing_leaves_a_grey_picture() -> None:
    image = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(overlay(image, torch.zeros(1, 2, 2)), image.mean(1, keepdim=True).expand(1, 3, 4, 4))


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="one map"):
        overlay(torch.zeros(2, 3, 4, 4), torch.zeros(1, 4, 4))
