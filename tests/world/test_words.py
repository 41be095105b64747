from __future__ import annotations

from dataclasses import replace

import pytest

from sfumato.world.store import World
from sfumato.world.words import counted, phrase, plural, with_article, without_colour


@pytest.mark.parametrize(
    ("words", "article"),
    [
        ("car", "a car"),
        ("apple", "an apple"),
        ("orange car", "an orange car"),
        ("umbrella", "an umbrella"),
        ("unicorn", "a unicorn"),
        ("unamused face", "an unamused face"),
        ("one-hump camel", "a one-hump camel"),
        ("hourglass", "an hourglass"),
        ("house", "a house"),
        ("x-ray", "an x-ray"),
        ("8 ball", "an 8 ball"),
        ("3d car", "a 3d car"),
    ],
)
def test_articles_follow_the_sound(world: World, words: str, article: str) -> None:
    assert with_article(words, world.concepts[0]) == article


def test_plural_and_mass_words_take_no_article(world: World) -> None:
    assert with_article("blue jeans", world.find("jeans")) == "blue jeans"
    assert with_article("bread", replace(world.concepts[0], number="mass")) == "bread"


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("red car", "red cars"),
        ("box", "boxes"),
        ("cherry", "cherries"),
        ("monkey", "monkeys"),
        ("sheep", "sheep"),
        ("tropical fish", "tropical fish"),
        ("mouse", "mice"),
        ("maple leaf", "maple leaves"),
        ("cat with tears of joy", "cats with tears of joy"),
        ("face savoring food", "faces savoring food"),
        ("heart on fire", "hearts on fire"),
        ("volcano", "volcanoes"),
        ("loudly crying face", "loudly crying faces"),
        ("fork and knife", "forks and knives"),
        ("skull and crossbones", "skulls and crossbones"),
    ],
)
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


def test_counts_are_words() -> None:
    assert counted(3, "red car") == "three red cars"


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("red apple", "apple"),
        ("light blue heart", "heart"),
        ("large orange diamond", "large diamond"),
        ("orange", "orange"),
        ("blackboard", "blackboard"),
    ],
)
def test_colour_words_are_taken_out_of_names(name: str, bare: str) -> None:
    assert without_colour(name) == bare


def test_a_colour_replaces_that_of_the_name() -> None:
    assert phrase("red apple", "green") == "green apple"
    assert phrase("red apple", None) == "red apple"
    assert phrase("car", "red", "3d") == "3d red car"
