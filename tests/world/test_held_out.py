from __future__ import annotations

import pytest

from sfumato.world.colours import COLOURS
from sfumato.world.held_out import is_held_out_pair, is_held_out_together

_KEYS = [f"thing-{number}" for number in range(400)]


def test_a_tenth_of_the_colours_on_concepts_is_held_out() -> None:
    held = [is_held_out_pair(colour, key) for colour in COLOURS for key in _KEYS]
    assert sum(held) / len(held) == pytest.approx(0.1, abs=0.02)


def test_a_tenth_of_the_pairs_is_held_out_whatever_the_order() -> None:
    pairs = list(zip(_KEYS, _KEYS[1:], strict=False))
    assert sum(is_held_out_together(*pair) for pair in pairs) / len(pairs) == pytest.approx(0.1, abs=0.04)
    assert all(is_held_out_together(a, b) == is_held_out_together(b, a) for a, b in pairs)


def test_the_answers_are_fixed_for_all_times() -> None:
    held = [colour for colour in COLOURS if is_held_out_pair(colour, "bird")]
    together = [key for key in ("bird", "cat", "frog", "jeans", "star") if is_held_out_together("rocket", key)]
    assert (held, together) == (["red", "blue", "purple"], ["frog", "jeans"])


def test_a_colour_of_the_name_itself_is_never_held_out() -> None:
    assert not any(is_held_out_pair(colour, f"{colour}-thing-{n}") for colour in COLOURS for n in range(50))


def test_the_colour_word_of_a_name_makes_no_difference() -> None:
    others = [colour for colour in COLOURS if colour not in ("red", "green")]
    for noun in _KEYS:
        held = [is_held_out_pair(colour, f"red-{noun}") for colour in others]
        assert held == [is_held_out_pair(colour, f"green-{noun}") for colour in others]
