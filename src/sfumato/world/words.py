"""English of the captions: articles, plurals, and colour words in front of names that may hold one already."""

from __future__ import annotations

import re

from sfumato.world.colours import WORDS
from sfumato.world.names import Concept

__all__ = ["NUMBERS", "counted", "phrase", "plural", "with_article", "without_colour"]

NUMBERS = {2: "two", 3: "three", 4: "four"}

_COLOUR_WORD = re.compile(rf"\b(?:light |dark )?(?:{'|'.join(WORDS)}) ")
_CONSONANT_SOUND = re.compile(r"(one|uni(?!m|n)|eu|u-|ufo|ukulele|used)")
_VOWEL_SOUND = re.compile(r"([aeio]|u(?!-)|8|hour|x-|suv|sos|ng button|mrs|ok)")
_AFTER_HEAD = re.compile(
    r" (?:with|without|of|in|on|for|over|at|under|behind|and|tilted|done|holding|blowing|savoring|screaming|vomiting"
    r"|exhaling|increasing|decreasing|fluttering|facing|rolling) "
)
_UNCHANGED = ("sheep", "deer", "fish", "jellyfish", "pufferfish", "shrimp", "squid", "bison", "moose", "dice", "series")
_IRREGULAR = {
    "mouse": "mice",
    "ox": "oxen",
    "goose": "geese",
    "leaf": "leaves",
    "knife": "knives",
    "wolf": "wolves",
    "scarf": "scarves",
    "foot": "feet",
    "tooth": "teeth",
    "man": "men",
    "woman": "women",
    "snowman": "snowmen",
    "person": "people",
    "child": "children",
    "die": "dice",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "volcano": "volcanoes",
    "mango": "mangoes",
    "tornado": "tornadoes",
    "mosquito": "mosquitoes",
    "buffalo": "buffaloes",
}


def without_colour(name: str) -> str:
    """A name without its colour word: "red apple" is "apple", "light blue heart" is "heart"; "orange" stays."""
    return _COLOUR_WORD.sub("", name)


def phrase(name: str, colour: str | None, style: str | None = None) -> str:
    """A thing in words, without article: "car", "green apple", "3d red car".

    Args:
        name: one of a concept's names.
        colour: takes the place of a colour word in the name; None leaves the name as it is.
        style: style word put in front, or None.
    """
    coloured = name if colour is None else f"{colour} {without_colour(name)}"
    return coloured if style is None else f"{style} {coloured}"


def with_article(words: str, concept: Concept) -> str:
    """Put "a" or "an" in front, unless the concept takes none: "an umbrella", "a unicorn", "jeans", "blue bread"."""
    if concept.number != "one":
        return words
    vowel = _VOWEL_SOUND.match(words) and not _CONSONANT_SOUND.match(words)
    return f"{'an' if vowel else 'a'} {words}"


def plural(words: str) -> str:
    """Plural of a thing in words: "red cars", "cats with tears of joy", "sheep", "mice"."""
    match = _AFTER_HEAD.search(words + " ")
    head, rest = (words, "") if match is None else (words[: match.start()], words[match.start() :])
    before, space, noun = head.rpartition(" ")
    return before + space + _plural_noun(noun) + _plural_companion(rest)


def _plural_companion(rest: str) -> str:
    """The other half of a couple: of "bow and arrow", " and arrow" becomes " and arrows"."""
    return rest if not rest.startswith(" and ") or rest.endswith("s") else f" and {_plural_noun(rest[5:])}"


def _plural_noun(noun: str) -> str:
    if noun in _UNCHANGED:
        return noun
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if re.search(r"(s|x|ch|sh|z)$", noun):
        return noun + "es"
    return noun[:-1] + "ies" if re.search(r"[^aeiou]y$", noun) else noun + "s"


def counted(count: int, words: str) -> str:
    """Several things in words: "three red cars"; count is 2, 3 or 4."""
    return f"{NUMBERS[count]} {plural(words)}"
