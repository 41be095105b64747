import pytest
import torch
from torch import Tensor

from sfumato.core.level import Level
from sfumato.core.noise import Noise
from sfumato.guidance.local_blend import LocalBlend

WORDS = ((1,), (2,))
X = Noise([0, 1])((2, 4, 16, 16))


def level(progress: float | None = 0.5) -> Level:
    return Level(*(torch.tensor(value, dtype=torch.float64) for value in (400.0, 0.8, 0.6)), progress)


def maps(*places: tuple[int, int, int, int], count: int = 2, low: float = 0.0) -> Tensor:
    """Maps of four tokens on a grid of 8 x 8, 1 at each (image, token, row, column)."""
    found = torch.full((count, 4, 8, 8), low)
    for place in places:
        found[place] = 1
    return found


def changed(blend: LocalBlend, x: Tensor = X, rewrite: int = 1, source: int = 0) -> Tensor:
    """Where a rewrite is left as it is, on the grid of x; elsewhere it is its source bit for bit."""
    found = blend(x, level())
    assert torch.equal(found[source], x[source])
    same, put_back = (found[rewrite] == x[rewrite]).all(0), (found[rewrite] == x[source]).all(0)
    assert (same ^ put_back).all()
    return same


def box(rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    wanted = torch.zeros(16, 16, dtype=torch.bool)
    wanted[rows[0] : rows[1], columns[0] : columns[1]] = True
    return wanted


def test_everywhere_is_the_rewrite_and_nowhere_the_source() -> None:
    assert torch.equal(LocalBlend(lambda: torch.ones(2, 4, 8, 8), ((0, 1),), WORDS)(X, level()), X)
    for words, given in ((WORDS, maps()), (((), ()), torch.ones(2, 4, 8, 8))):
        assert torch.equal(LocalBlend(lambda given=given: given, ((0, 1),), words)(X, level()), X[[0, 0]])


def test_the_area_is_that_of_either_word_three_positions_wide() -> None:
    ours, theirs = box((8, 14), (2, 8)), box((0, 4), (12, 16))
    for places, wanted in (
        ([(0, 1, 5, 2)], ours),
        ([(1, 2, 0, 7)], theirs),
        ([(0, 1, 5, 2), (1, 2, 0, 7)], ours | theirs),
        ([(0, 2, 5, 2), (1, 1, 0, 7)], torch.zeros(16, 16, dtype=torch.bool)),
    ):
        assert torch.equal(changed(LocalBlend(lambda places=places: maps(*places), ((0, 1),), WORDS)), wanted)


def test_several_tokens_count_together() -> None:
    """0.2 of either token is below the threshold, the sum is not."""
    given = maps((0, 1, 0, 0), (0, 3, 0, 0))
    given[0, 1, 6, 6] = given[0, 3, 6, 6] = 0.2
    given[0, 1, 0, 0] = given[0, 3, 0, 0] = 0.5
    assert changed(LocalBlend(lambda: given, ((0, 1),), ((1, 3), ())))[12, 12]
    assert not changed(LocalBlend(lambda: given / torch.tensor([1, 1, 1, 4]).view(4, 1, 1), ((0, 1),), ((3,), ())))[
        0, 8
    ]
    given[0, 1, 0, 0] = 1
    assert not changed(LocalBlend(lambda: given, ((0, 1),), ((1,), ())))[12, 12]


def test_the_threshold_is_a_share_of_an_images_own_largest_value() -> None:
    given = maps((0, 1, 0, 0), (1, 2, 0, 0))
    given[0, 1, 6, 6], given[1, 2, 3, 6] = 0.31, 0.29
    given[1] *= 100
    assert changed(LocalBlend(lambda: given, ((0, 1),), WORDS))[12, 12]
    assert not changed(LocalBlend(lambda: given, ((0, 1),), WORDS))[6, 12]
    assert changed(LocalBlend(lambda: given, ((0, 1),), WORDS, threshold=0.25))[6, 12]
    assert not changed(LocalBlend(lambda: given, ((0, 1),), WORDS, threshold=0.35))[12, 12]


def test_what_is_kept_is_taken_out_without_being_pooled() -> None:
    given = maps((0, 1, 4, 4), (0, 3, 4, 4), (1, 3, 4, 3))
    found = changed(LocalBlend(lambda: given, ((0, 1),), WORDS, keep=((3,), (3,))))
    assert torch.equal(found, box((6, 12), (6, 12)) & ~box((8, 10), (6, 10)))
    assert torch.equal(changed(LocalBlend(lambda: given, ((0, 1),), WORDS, keep=((), ()))), box((6, 12), (6, 12)))


@pytest.mark.parametrize("start", [0.0, 0.2, 0.5])
def test_it_begins_after_a_share_of_the_steps(start: float) -> None:
    """Of 10 steps, step k reaches a share k / 10; the authors' code blends after step k > int(start * 10)."""
    blend = LocalBlend(maps, ((0, 1),), WORDS, start=start)
    acts = [not torch.equal(blend(X, level(step / 10)), X) for step in range(1, 11)]
    assert acts == [step > int(start * 10) for step in range(1, 11)]
    assert not torch.equal(blend(X, level(None)), X), "outside a path it acts"
    assert blend(X, level(0.0)) is X


def test_pairs_know_nothing_of_each_other_and_others_are_left_alone() -> None:
    x, given = Noise(range(5))((5, 4, 16, 16)), torch.rand(5, 4, 8, 8) ** 60
    words, pairs = ((1,), (2,), (3,), (0,), (1, 2)), ((0, 2), (4, 1))
    together = LocalBlend(lambda: given, pairs, words)(x, level())
    for pair in pairs:
        rows = list(pair)
        its = [words[row] for row in rows]
        alone = LocalBlend(lambda rows=rows: given[rows], ((0, 1),), its)(x[rows], level())
        assert torch.equal(together[rows], alone) and not torch.equal(alone, x[rows])
    assert torch.equal(together[3], x[3])


def test_grids_need_not_divide_the_picture_and_x_is_not_changed_in_place() -> None:
    x = Noise([0, 1])((2, 4, 20, 12))
    before = x.clone()
    found = LocalBlend(lambda: torch.rand(2, 4, 5, 7) ** 60, ((0, 1),), WORDS)(x, level())
    assert found.shape == x.shape and torch.equal(x, before) and not torch.equal(found, x)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"start": -0.1}, r"a blend needs start in \[0, 1\]"),
        ({"start": 1.5}, r"a blend needs start in \[0, 1\]"),
        ({"threshold": 1.0}, r"threshold in \[0, 1\)"),
        ({"threshold": float("nan")}, r"threshold in \[0, 1\)"),
        ({"keep": ((1,),)}, "words are given for 2 images and those to be kept for 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        LocalBlend(maps, ((0, 1),), WORDS, **settings)
