"""Words of a text with their classes: by list where the class is closed, by ending and neighbours where it is open."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from sfumato.language.words import (
    ADJECTIVES,
    BASE_VERBS,
    COMPOUNDS,
    JOINED,
    PARTICIPLES,
    PLURALS,
    SINGULAR,
    TAGS,
    VERBS,
)

__all__ = ["Token", "tagged"]

_WORD = re.compile(r"['’]s\b|\d+(?:[.,:]\d+)+|\w+(?:[-'’]\w+)*|[^\w\s]")
_OPEN = ("noun", "adj", "form")
_MODIFIERS = ("det", "adj", "num", "poss")


@dataclass(frozen=True)
class Token:
    """A word, several words with one class, or a sign.

    Args:
        start: its first character.
        end: the one after its last.
        word: in small letters.
        tag: "det", "num", "adj", "noun", "poss", "pron", "prep", "verb" (finite), "part" (a participle that begins or
            continues a verb phrase), "rel", "adv", "cc", "comma" or "stop".
    """

    start: int
    end: int
    word: str
    tag: str


def tagged(text: str) -> list[Token]:
    """The words of a text, each with its class."""
    words = _joined([_listed(match) for match in _WORD.finditer(text)])
    found: list[Token] = []
    article: Token | None = None
    for index, token in enumerate(words):
        after = words[index + 1] if index + 1 < len(words) else Token(0, 0, "", "stop")
        before = found[-1] if found else Token(0, 0, "", "stop")
        found.append(replace(token, tag=_tag(token, before, after, article)))
        if found[-1].tag == "det":
            article = token
        elif found[-1].tag not in ("num", "adj", "noun", "poss", "adv"):
            listed = found[-1].tag in ("cc", "comma") and before.tag in ("adj", "comma")
            article = article if listed else None
    return found


def _listed(match: re.Match[str]) -> Token:
    """A word with the class that it has by itself; "form" for what may be a form of a verb."""
    word = match.group().lower().replace("’", "'")
    if (tag := TAGS.get(word)) is None:
        tag = _by_shape(word)
    return Token(match.start(), match.end(), word, tag)


def _by_shape(word: str) -> str:
    last = word.rpartition("-")[2]
    if not (word[0].isalnum() or word[0] == "_"):
        return "stop"
    if word[0].isdigit():
        return "num" if word[-1].isdigit() else "noun"
    if word.endswith("'s"):
        return "poss"
    if last != word and (last in ADJECTIVES or last.endswith(("ed", "ing"))):
        return "adj"
    if word in PARTICIPLES or (len(word) > 3 and word.endswith(("ed", "ing")) and not word.endswith("eed")):
        return "form"
    if word.endswith(("ous", "ful", "less")):
        return "adj"
    return "adv" if word.endswith("ly") else "noun"


def _joined(words: list[Token]) -> list[Token]:
    """The same words, those that have one class together ("on top of") put together."""
    found: list[Token] = []
    for token in words:
        found.append(token)
        for parts, tag in JOINED.items():
            last = found[-len(parts) :]
            if tuple(each.word for each in last) == parts:
                found[-len(parts) :] = [Token(last[0].start, token.end, " ".join(parts), tag)]
    return found


def _tag(token: Token, before: Token, after: Token, article: Token | None) -> str:
    """The class of a word among its neighbours, those before it being settled.

    Args:
        token: with the class that it has by itself.
        before: the word before it.
        after: the word after it, with the class that it has by itself.
        article: the determiner of the noun phrase that the word before it is in.
    """
    match token.tag:
        case "noun":
            return "verb" if _is_finite(token.word, before, after, article) else "noun"
        case "form":
            return _form(token.word, before, after, article)
        case "rel" if token.word == "that" and before.tag not in ("noun", "adj", "num", "comma"):
            return "det" if after.tag in _OPEN else "rel"
        case "verb" if token.word in ("can", "will", "may") and before.tag in _MODIFIERS:
            return "noun"
        case "det" if token.word == "one" and before.tag in ("det", "adj"):
            return "noun"
        case "poss" if before.tag in ("pron", "rel"):
            return "verb"
        case _:
            return token.tag


def _is_finite(word: str, before: Token, after: Token, article: Token | None) -> bool:
    """Whether a word that could be a noun is a verb."""
    plural = before.word in PLURALS or (before.word.endswith("s") and not before.word.endswith("ss"))
    if before.tag in ("pron", "rel"):
        return word in VERBS | BASE_VERBS or word.endswith("s")
    if before.word == "to" and word in BASE_VERBS:
        return True
    if before.tag in ("cc", "adj") and word in VERBS:
        return after.tag in ("det", "pron")
    if before.tag != "noun" or word in TAGS:
        return False
    if word in VERBS or (plural and word in BASE_VERBS):
        return True
    third_person = word.endswith("s") and not word.endswith(("ss", "us", "is"))
    singular = article is not None and article.word in SINGULAR
    return singular and third_person and after.word != "of" and after.tag in ("det", "prep", "pron", "adv", "num")


def _form(word: str, before: Token, after: Token, article: Token | None) -> str:
    """What a word in -ing or -ed is: part of a verb phrase, or a modifier in a noun phrase ("a parked car")."""
    modifies = after.tag in _OPEN or after.tag == "num"
    if word.endswith("ing"):
        if after.word in COMPOUNDS.get(word, ()):
            return "adj"
        if before.tag in _MODIFIERS:
            return "adj" if modifies else "noun" if article is not None and before.word != "one" else "part"
        return "part"
    if before.tag in ("verb", "part", "pron", "rel"):
        return "part"
    return "adj" if modifies else "part"
