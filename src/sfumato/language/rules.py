"""A small parser without dependencies: phrases of captions by closed word classes.

It knows determiners, numbers, prepositions, pronouns, conjunctions and auxiliaries by list, and infers the rest. A word
of no list is a noun, as a head or before one ("a kitchen table"); colours, sizes and the like are adjectives. A word in
-ing or -ed is a modifier between a determiner or an adjective and a noun ("a parked car"), and otherwise begins a verb
phrase ("a dog running"). A word in -s after a noun that has "a" is a verb ("a bathroom features a sink"), as are the
verbs that captions use most.

What word classes leave open it decides by habit. "of" and "with" belong to the noun on their left, "in" and "on" too
unless a verb is before it, and other prepositions to the first noun of a phrase. "and" joins the nouns on both its
sides, so that in "a man in a hat and a coat" he wears both. A participle belongs to the first noun of its phrase: in "a
man in a hat holding a dog" the man holds it. It does not know verbs in the plural but the most usual, verbs without -s
after a singular, and commas that are no lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from sfumato.language.runs import STOP, Noun, Run, pieces_of
from sfumato.language.spans import Span, graph, tidied
from sfumato.language.tags import Token
from sfumato.language.words import WEARING

__all__ = ["RuleParser"]

_OF = ("of", "full of", "with", "without")


@dataclass(frozen=True)
class RuleParser:
    """Phrases by closed word classes; see the module for what that can decide.

    Paper: Training-Free Structured Diffusion Guidance for Compositional Text-to-Image Synthesis (Feng et al., 2022),
        arXiv:2212.05032, section 3.2, names the phrases.
    Differs from the paper: a parser that needs no model.
    """

    def phrases(self, text: str) -> tuple[Span, ...]:
        """The noun phrases at every level."""
        pieces = pieces_of(text)
        spans = [
            span
            for piece, after in pairwise((*pieces, STOP))
            if isinstance(piece, Run)
            for span in _levels(piece, _acts(piece, after))
        ]
        return tidied(text, (*spans, *_with_verbs(pieces)))

    def scene_graph(self, text: str) -> tuple[Span, ...]:
        """The nouns with what is before them, then the relations by preposition or verb."""
        pieces = pieces_of(text)
        runs = [piece for piece in pieces if isinstance(piece, Run)]
        nouns = [noun.span for run in runs for noun in run.nouns if not noun.bare]
        pairs = [*(pair for run in runs for pair in _by_preposition(run)), *_by_verb(pieces)]
        relations = ((a.span[0], b.span[1]) for a, b in pairs if not (a.bare or b.bare))
        return graph(text, nouns, relations)


def _levels(run: Run, acts: bool) -> Iterator[Span]:
    """The noun phrases of a run: each noun, and each with all that is joined to it on its right.

    A later member of a list ("a, b and c") begins a phrase only with single words after it ("a white sink and door").
    """
    for index, noun in enumerate(run.nouns):
        if noun.bare:
            continue
        yield from (noun.span, *noun.inner)
        if _goes_on(run, index, acts):
            yield noun.span[0], run.span[1]
        if not noun.single and (last := _last_word(run, index)) is not None:
            yield noun.span[0], last.span[1]


def _last_word(run: Run, index: int) -> Noun | None:
    """The last of the nouns joined to this one, if each of them is a word by itself."""
    last = None
    for each in islice(_list_from(run, index), 1, None):
        if not each.single or each.bare:
            return None
        last = each
    return last


def _goes_on(run: Run, index: int, acts: bool) -> bool:
    """Whether what comes after a noun of a run belongs to it, by the habits that the module names."""
    before = run.links[index - 1] if index else ""
    after = run.links[index] if index < len(run.links) else ""
    if after in ("", "and"):
        return after == "and" and before != "and"
    if index or run.before.tag == "prep":
        return after in (*_OF, "in", "on")
    return not acts and (after in _OF or run.before.tag not in ("verb", "part"))


def _with_verbs(pieces: Sequence[Run | Token]) -> Iterator[Span]:
    """The noun phrases that hold a participle or a relative clause ("a dog sitting on a mat", "a mat that is red")."""
    open_starts: list[int] = []
    relative, end = False, 0
    for piece, after in pairwise((*pieces, STOP)):
        if isinstance(piece, Run):
            end = piece.span[1]
            if _acts(piece, after) and not piece.nouns[0].bare:
                open_starts.append(piece.span[0])
        elif piece.tag in ("stop", "comma") or (piece.tag == "verb" and not relative):
            yield from ((start, end) for start in open_starts)
            open_starts, relative = [], False
        elif piece.tag != "cc":
            relative = piece.tag == "rel" or (relative and piece.tag != "verb")
            end = piece.end
    yield from ((start, end) for start in open_starts)


def _acts(run: Run, after: Run | Token) -> bool:
    """Whether what comes after nouns is a verb phrase of theirs."""
    return isinstance(after, Token) and after.tag in ("part", "rel") and run.before.word not in WEARING


def _by_preposition(run: Run) -> Iterator[tuple[Noun, Noun]]:
    """Each noun before a preposition, with each that the preposition is about."""
    for index, link in enumerate(run.links):
        if link != "and":
            yield from ((run.nouns[index], noun) for noun in _list_from(run, index + 1))


def _by_verb(pieces: Sequence[Run | Token]) -> Iterator[tuple[Noun, Noun]]:
    """Each subject of a verb, with each noun that the verb is about."""
    first: Noun | None = None
    subject: Noun | None = None
    acting = False
    before: Run | Token = STOP
    for piece in pieces:
        if isinstance(piece, Run):
            if acting and subject is not None:
                yield from ((subject, noun) for noun in _list_from(piece, 0))
            first = first or piece.nouns[0]
            acting = False
        elif piece.tag == "stop":
            first = subject = None
        elif piece.tag in ("part", "rel", "verb", "prep"):
            subject = _subject(piece.tag, before, first, subject)
            acting = piece.tag != "rel"
        before = piece


def _subject(tag: str, before: Run | Token, first: Noun | None, subject: Noun | None) -> Noun | None:
    """Whose verb it is: of a participle or relative clause the noun before it, of a finite verb the clause's first."""
    if tag in ("part", "rel") and isinstance(before, Run) and before.before.word not in WEARING:
        return before.nouns[0]
    relative = isinstance(before, Token) and before.tag == "rel"
    return first if tag == "verb" and not relative else subject


def _list_from(run: Run, index: int) -> Iterator[Noun]:
    """A noun of a run, and those joined to it by conjunctions."""
    yield run.nouns[index]
    while index < len(run.links) and run.links[index] == "and":
        index += 1
        yield run.nouns[index]
