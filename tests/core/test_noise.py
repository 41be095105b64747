import pytest
import torch

from sfumato.core.noise import Noise


@pytest.mark.parametrize("shape", [(4, 16, 16), (3,), (4, 8, 8)])
def test_first_draw_equals_torch_with_a_seeded_generator(shape: tuple[int, ...]) -> None:
    for seed in (0, 7, 2**63):
        wanted = torch.randn((1, *shape), generator=torch.Generator("cpu").manual_seed(seed))
        assert torch.equal(Noise([seed])((1, *shape)), wanted)


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    batch, alone = Noise([3, 4, 5]), Noise([4])
    for _ in range(3):
        assert torch.equal(batch((3, 4, 6))[1:2], alone((1, 4, 6)))
    assert torch.equal(batch.uniform((3, 2))[1:2], alone.uniform((1, 2)))


def test_draws_differ_and_a_new_noise_repeats_them() -> None:
    noise = Noise([1])
    first, second = noise((1, 64)), noise((1, 64))
    assert not torch.equal(first, second)
    again = Noise([1])
    assert torch.equal(again((1, 64)), first)
    assert torch.equal(again((1, 64)), second)


def test_like_takes_shape_and_dtype() -> None:
    x = torch.zeros(2, 5, dtype=torch.float64)
    drawn = Noise([1, 2]).like(x)
    assert drawn.dtype == torch.float64
    assert torch.equal(drawn.float(), Noise([1, 2])((2, 5)))


def test_uniform_lies_in_the_unit_interval() -> None:
    drawn = Noise([0])(shape=(1, 1)), Noise([0]).uniform((1, 20000))
    assert drawn[1].dtype == torch.float64
    assert 0 <= drawn[1].min() < 0.001
    assert 0.999 < drawn[1].max() < 1


@pytest.mark.parametrize("seeds", [[], [-1], [2**64]])
def test_bad_seeds_are_refused(seeds: list[int]) -> None:
    with pytest.raises(ValueError, match="seed"):
        Noise(seeds)


@pytest.mark.parametrize("shape", [(), (3, 4)])
def test_another_number_of_images_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one seed an image"):
        Noise([1, 2])(shape)


def test_prints_its_seeds() -> None:
    assert repr(Noise([1, 2])) == "Noise([1, 2])"


def test_a_fork_draws_other_numbers_and_depends_on_seed_and_purpose_alone() -> None:
    noise = Noise([3, 4])
    first = noise.fork("reference")((2, 100))
    noise((2, 5))
    assert torch.equal(noise.fork("reference")((2, 100)), first)
    assert torch.equal(Noise([4]).fork("reference")((1, 100)), first[1:])
    for other in (noise.fork("known")((2, 100)), Noise([3, 4])((2, 100)), noise.fork("reference").fork("x")((2, 100))):
        assert (other - first).abs().min() > 0 and abs(float((other * first).mean())) < 0.4
