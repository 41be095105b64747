"""Runs of nouns in a text: nouns with what is before them, joined by prepositions and conjunctions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sfumato.language.spans import Span
from sfumato.language.tags import Token, tagged
from sfumato.language.words import PLACES

__all__ = ["STOP", "Noun", "Run", "pieces_of"]

STOP = Token(0, 0, "", "stop")
"""What is before the first word and after the last."""

_HEADS = ("adj", "num", "noun", "poss", "pron")


@dataclass(frozen=True)
class Noun:
    """A noun with what is before it.

    Args:
        span: its characters.
        inner: of its possessives ("the dog's" of "the dog's bowl").
        bare: a pronoun, or adjectives only ("in red").
        single: one word.
        place: where something is ("the left").
    """

    span: Span
    inner: tuple[Span, ...]
    bare: bool
    single: bool
    place: bool


@dataclass(frozen=True)
class Run:
    """Nouns with what joins them: noun, preposition or conjunction, noun, and so on.

    Args:
        nouns: N of them.
        links: the N - 1 between them, each a preposition or "and".
        before: the word before them.
    """

    nouns: tuple[Noun, ...]
    links: tuple[str, ...]
    before: Token

    @property
    def span(self) -> Span:
        """From the first noun to the last."""
        return self.nouns[0].span[0], self.nouns[-1].span[1]


def pieces_of(text: str) -> list[Run | Token]:
    """A text as runs of nouns, and the words between them."""
    atoms = _atoms(tagged(text))
    lists = _commas_of_lists(atoms)
    pieces: list[Run | Token] = []
    index, verb = 0, False
    while index < len(atoms):
        atom = atoms[index]
        if isinstance(atom, Token):
            pieces.append(atom)
            verb = atom.tag != "stop" and (verb or atom.tag == "verb")
        else:
            nouns, links = [atom], list[str]()
            while (link := _link(atoms, index + 1, lists, verb)) is not None:
                word, noun, index = link
                nouns.append(noun)
                links.append(word)
            before = pieces[-1] if pieces else STOP
            pieces.append(Run(tuple(nouns), tuple(links), before if isinstance(before, Token) else STOP))
        index += 1
    return pieces


def _atoms(tokens: Sequence[Token]) -> list[Noun | Token]:
    """Words, those of a noun and what is before it put together."""
    atoms: list[Noun | Token] = []
    index = 0
    while index < len(tokens):
        end = _end_of_noun(tokens, index)
        part = tokens[index:end]
        if not any(token.tag in _HEADS for token in part):
            end = max(end, index + 1)
            atoms.extend(tokens[index:end])
            index = end
            continue
        inner = tuple((part[0].start, token.end) for token in part[:-1] if token.tag == "poss")
        bare = all(token.tag not in ("det", "noun", "poss") for token in part)
        place = part[-1].word in PLACES
        atoms.append(Noun((part[0].start, part[-1].end), inner, bare, len(part) == 1, place))
        index = end
    return atoms


def _end_of_noun(tokens: Sequence[Token], first: int) -> int:
    """The token after a noun phrase that begins at ``first``: determiners, modifiers, nouns."""
    if _tag(tokens, first) == "pron":
        return first + 1
    end = first
    while _tag(tokens, end) == "det":
        end += 1
    head = 0
    wanted = ("adj", "noun") if end > first else ("adj",)
    while True:
        tag = _tag(tokens, end)
        if tag in ("noun", "poss"):
            head = end = end + 1
        elif tag in ("adj", "num"):
            end += 1
        elif end > first and (more := _modifier_after(tokens, end, wanted)):
            end = more
        else:
            return head or end


def _modifier_after(tokens: Sequence[Token], index: int, wanted: tuple[str, ...]) -> int:
    """Where a further modifier is, after adverbs ("a very big") or joined to one ("a black and white"); 0 for none."""
    start = index
    if _tag(tokens, index) == "adv":
        while _tag(tokens, index) == "adv":
            index += 1
        return index if _tag(tokens, index) == "adj" else 0
    while _tag(tokens, index) in ("comma", "cc"):
        index += 1
    joins = index > start and _tag(tokens, start - 1) == "adj"
    return index if joins and _tag(tokens, index) in wanted else 0


def _at(atoms: Sequence[Noun | Token], index: int) -> Noun | Token:
    return atoms[index] if index < len(atoms) else STOP


def _tag(atoms: Sequence[Noun | Token], index: int) -> str:
    """The class of a word, "stop" beyond the end; "" for a noun with what is before it."""
    atom = _at(atoms, index)
    return atom.tag if isinstance(atom, Token) else ""


def _commas_of_lists(atoms: Sequence[Noun | Token]) -> set[int]:
    """The commas of "a, b, and c": those after which nouns and commas lead to a conjunction and a noun."""
    found: set[int] = set()
    for index in range(len(atoms) - 1, -1, -1):
        after = [_tag(atoms, index + step) for step in (0, 1, 2, 3)]
        ends = after[:3] == ["comma", "cc", ""] or after == ["comma", "", "cc", ""]
        if ends or (after[:2] == ["comma", ""] and index + 2 in found):
            found.add(index)
    return found


def _link(atoms: Sequence[Noun | Token], index: int, lists: set[int], verb: bool) -> tuple[str, Noun, int] | None:
    """How a noun is joined to one after it, that one, and where it is.

    Args:
        atoms: of the text.
        index: after the noun.
        lists: commas of lists.
        verb: the clause has its verb, so that a further noun with a verb begins another clause.
    """
    start = index
    while _tag(atoms, index) in ("prep", "adv"):
        index += 1
    before, noun = atoms[index - 1], _at(atoms, index)
    if isinstance(noun, Noun) and isinstance(before, Token) and before.tag == "prep":
        return before.word, noun, index
    index = start + (start in lists)
    index += _tag(atoms, index) == "cc"
    noun = _at(atoms, index)
    if index == start or isinstance(noun, Token) or (verb and _tag(atoms, index + 1) == "verb"):
        return None
    last = atoms[start - 1]
    if isinstance(last, Noun) and last.place and start > 1 and _tag(atoms, start - 2) == "prep":
        return None
    return "and", noun, index
