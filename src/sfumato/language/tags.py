"""Words of a text with their classes: by list where the class is closed, by ending and neighbours where it is open."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
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

# Letters written as two characters have their accents after them, as decomposed text does.
_LETTERS = r"[\w\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
_WORD = re.compile(
    r"['’]s\b"
    r"|\b(?:st|mr|mrs|ms|dr|mt)\.(?=\s+\w)"
    r"|\b[^\W\d_]{1,2}\.(?:[^\W\d_]\.)+"
    rf"|(?:[$€£¥#](?=\d))?{_LETTERS}(?:(?:[-\u2011–/'’]|(?<=\d)[.,:](?=\d)){_LETTERS})*(?:(?<=\d)[%°])?[™®©]?"
    r"|[^\w\s]",
    re.IGNORECASE,
)
_SIGN = re.compile("([/–])")
_MARKS = "$€£¥#%°™®©"
_PLAIN = str.maketrans({"’": "'", "\u2011": "-", "–": "-"})
_OPEN = ("noun", "adj", "form")
_MODIFIERS = ("det", "adj", "num", "poss")


@dataclass(frozen=True)
class Token:
    """A word, several words with one class, or a sign.

    Args:
        start: its first character.
        end: the one after its last.
        word: in small letters, with one character a letter and plain hyphens and apostrophes.
        tag: "det", "num", "adj", "noun", "poss", "pron", "prep", "verb" (finite), "part" (a participle that begins or
            continues a verb phrase), "rel", "adv", "cc", "comma" or "stop".
    """

    start: int
    end: int
    word: str
    tag: str


def tagged(text: str) -> list[Token]:
    """The words of a text, each with its class."""
    words = _joined(_possessives([token for match in _WORD.finditer(text) for token in _parts(match)]))
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


def _parts(match: re.Match[str]) -> Iterator[Token]:
    """A word, cut at each slash or dash after which another thing begins ("a red car/a blue bird")."""
    pieces = _SIGN.split(match.group())
    start = end = match.start()
    if len(pieces) == 1 or match.group().lower() in TAGS:
        pieces = [match.group()]
    for before, sign, after in zip(pieces[::2], pieces[1::2], pieces[2::2], strict=False):
        end += len(before) + 1
        if _begins_another(_plain(before), sign, _plain(after)):
            yield _listed(match.string, start, end - 1)
            yield Token(end - 1, end, sign, "cc" if sign == "/" else "stop")
            start = end
    yield _listed(match.string, start, match.end())


def _begins_another(before: str, sign: str, after: str) -> bool:
    """Whether what follows a slash or a dash is another thing, and not the rest of a word ("black/white", "3/4")."""
    first, second = TAGS.get(before.rpartition("-")[2], "noun"), TAGS.get(after.partition("-")[0], "noun")
    described = ("noun", "adj", "num")
    if second == "det":
        return first in described
    if sign == "–" or len(before) == len(after) == 1:
        return False
    return first not in described or second not in described or (second == "adj" and first != "adj")


def _plain(word: str) -> str:
    """A word as the lists have it: small letters, one character a letter, plain hyphens and apostrophes."""
    return unicodedata.normalize("NFC", word.lower()).translate(_PLAIN)


def _listed(text: str, start: int, end: int) -> Token:
    """A word with the class that it has by itself; "form" for what may be a form of a verb."""
    word = _plain(text[start:end])
    if (tag := TAGS.get(word)) is None:
        tag = _by_shape(word.strip(_MARKS) or word)
    return Token(start, end, word, tag)


def _by_shape(word: str) -> str:
    last = word.replace("/", "-").rpartition("-")[2]
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


def _possessives(words: list[Token]) -> list[Token]:
    """The same words, a plural and its apostrophe ("the dogs' bowl") put together, unless a quotation ends there."""
    found: list[Token] = []
    quoted = False
    for index, token in enumerate(words):
        if token.word not in ("'", "’") or not 0 < index < len(words) - 1:
            found.append(token)
            continue
        before, after = words[index - 1], words[index + 1]
        owner = before.end == token.start and before.tag in _OPEN and before.word.endswith("s")
        if owner and not quoted and token.end < after.start and after.tag in (*_OPEN, "num"):
            found[-1] = Token(before.start, token.end, before.word + "'", "poss")
        else:
            found.append(token)
            quoted = before.end < token.start and token.end == after.start
    return found


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
