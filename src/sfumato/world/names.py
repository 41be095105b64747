"""What people call the emoji: one clean name a concept, aliases, and whether the name takes an article.

Unicode's formal names ("AUTOMOBILE", "EXTRATERRESTRIAL ALIEN") are not what a person types, so ``names.json`` holds the
everyday name wherever it differs (the short names of Unicode's CLDR, and a few shorter ones of our own), the words that
take no article, and the aliases that name something else or nothing ("sunny", "mag right") and are left unused.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

__all__ = ["Number", "Concept", "concepts_of"]

Number = Literal["one", "mass", "plural"]

_CORE_GROUPS = frozenset(
    {"Smileys & Emotion", "Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects"}
)
_WORDS = re.compile(r"(?!shit|symbol|flag-)[a-z]{3,}([ -](?!symbol)[a-z]+){0,4}")
_COLOUR = re.compile(r"\b(?:red|orange|yellow|green|blue|purple|pink|brown|black|white|grey|dark)\b")
_FACE = re.compile(r"face-|cat-face|monkey-face|emotion")
_FACE_NOUN = re.compile(r" (?:face|cat|monkey|skull|ghost|robot|alien|head|ogre|goblin)\b")
_CLOCK_FACE = re.compile(r".*(o'clock|-thirty)")


@dataclass(frozen=True)
class Concept:
    """One thing that all families may draw, whatever the style; skin-tone variants are not concepts.

    Args:
        index: position in ``World.concepts``.
        key: name as an identifier, lower case with hyphens, unique.
        name: what a person would type, lower case, unique.
        names: the name first, then its aliases; an alias belongs to one concept only.
        group: Unicode group, e.g. "Food & Drink".
        subgroup: Unicode subgroup, e.g. "food-fruit".
        codepoints: lower-case hexadecimal code points joined by hyphens, e.g. "1f34e".
        number: "one" takes an article ("a car"), "mass" and "plural" take none ("bread", "jeans").
        core: True for the about 1,000 everyday concepts that all three training families have.
    """

    index: int
    key: str
    name: str
    names: tuple[str, ...]
    group: str
    subgroup: str
    codepoints: str
    number: Number = "one"
    core: bool = False


@cache
def _table() -> dict[str, Any]:
    text = resources.files("sfumato.world").joinpath("names.json").read_text(encoding="utf-8")
    return json.loads(text)


def _name(entry: Mapping[str, Any]) -> str:
    return _table()["names"].get(entry["unified"].lower(), entry["name"].lower())


def _number(name: str) -> Number:
    if name in _table()["mass"]:
        return "mass"
    return "plural" if name in _table()["plural"] else "one"


def _candidates(entry: Mapping[str, Any]) -> list[str]:
    """Other names: formal and short ones, if plain words that speak of no other colour; of faces, only whole nouns."""
    words = [entry["name"].lower(), *(short.replace("_", " ") for short in entry["short_names"])]
    if _FACE.match(entry["subcategory"]):
        words = [word for word in words if _FACE_NOUN.search(word)]
    own = set(_name(entry).split())
    fitting = (word for word in words if _WORDS.fullmatch(word) and own.issuperset(_COLOUR.findall(word)))
    return [word for word in fitting if word not in _table()["unused"]]


def _aliases(entries: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    names = {_name(entry) for entry in entries}
    uses = Counter(word for entry in entries for word in dict.fromkeys(_candidates(entry)))
    return [
        tuple(word for word in dict.fromkeys(_candidates(entry)) if word not in names and uses[word] == 1)
        for entry in entries
    ]


def concepts_of(entries: Sequence[Mapping[str, Any]], everywhere: frozenset[str]) -> tuple[Concept, ...]:
    """The concepts in the order of Unicode's emoji chart.

    Args:
        entries: rows of ``emoji.json`` of emoji-datasource 16.
        everywhere: code points that all training families have a picture of.

    Returns:
        One concept a row, without the five bare skin tones.
    """
    kept = sorted((e for e in entries if e["category"] != "Component"), key=lambda e: e["sort_order"])
    return tuple(
        _concept(index, entry, aliases, everywhere)
        for index, (entry, aliases) in enumerate(zip(kept, _aliases(kept), strict=True))
    )


def _concept(index: int, entry: Mapping[str, Any], aliases: tuple[str, ...], everywhere: frozenset[str]) -> Concept:
    name, codepoints = _name(entry), entry["unified"].lower()
    everyday = entry["category"] in _CORE_GROUPS and not _CLOCK_FACE.fullmatch(name)
    return Concept(
        index=index,
        key=re.sub(r"[^a-z0-9]+", "-", name).strip("-"),
        name=name,
        names=(name, *aliases),
        group=entry["category"],
        subgroup=entry["subcategory"],
        codepoints=codepoints,
        number=_number(name),
        core=everyday and codepoints in everywhere,
    )
