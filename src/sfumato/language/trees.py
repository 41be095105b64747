"""Bracketed constituency trees, such as ``(NP (DT a) (JJ red) (NN car))``, and the spans of their noun phrases.

Treebanks write words in their own way: -LRB- for "(", `` and '' for quotes. Leaves are found in the text again, in
order, so that spans are characters of the text as it was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sfumato.language.spans import Span

__all__ = ["Tree", "entities", "noun_phrases", "read_trees", "relations"]

_ESCAPES = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}
_QUOTES = ("``", "''", '"', "“", "”", "„", "«", "»", "`", "'", "‘", "’")
_CLAUSES = ("PP", "VP", "ADJP", "ADVP", "SBAR", "S", "PRT")
"""Where the objects of a relation lie, down to the next noun phrase."""


@dataclass(frozen=True)
class Tree:
    """A node.

    Args:
        label: the kind of phrase, without function marks (NP of "NP-SBJ"), or the part of speech of a word.
        span: its characters.
        children: the nodes below; none for a word.
    """

    label: str
    span: Span
    children: tuple[Tree, ...] = ()


def read_trees(bracketed: Sequence[str], text: str) -> list[Tree]:
    """The trees of a text's sentences.

    Args:
        bracketed: one tree a sentence, in order.
        text: what they are trees of.

    Raises:
        ValueError: brackets that do not close, or a word that the text does not have at its place.
    """
    trees: list[Tree] = []
    for each in bracketed:
        trees.append(_read(each, text, trees[-1].span[1] if trees else 0))
    return trees


def noun_phrases(tree: Tree) -> Iterator[Span]:
    """The spans of all noun phrases, at every level."""
    return (node.span for node in _nodes(tree) if node.label == "NP")


def entities(tree: Tree) -> Iterator[Span]:
    """The spans of the innermost noun phrases: a noun with what is before it."""
    return (node.span for node in _nodes(tree) if _is_entity(node))


def relations(tree: Tree) -> Iterator[Span]:
    """For each noun phrase and each that a phrase beside it holds ("[a car] [on a street]"), the span of both.

    Subjects and objects are innermost noun phrases; each conjunct of an object is one. Two objects of one verb are not
    related to each other.
    """
    for node in (each for each in _nodes(tree) if each.label != "VP"):
        subject: Tree | None = None
        for child in node.children:
            if child.label == "NP":
                subject = subject or _first_entity(child)
            elif subject is not None and child.label in _CLAUSES:
                pairs = ((subject, found) for found in _objects(child))
                yield from ((a.span[0], b.span[1]) for a, b in pairs if not (_is_pronoun(a) or _is_pronoun(b)))


def _nodes(tree: Tree) -> Iterator[Tree]:
    """All nodes, each before those below it."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(node.children))


def _is_entity(tree: Tree) -> bool:
    """Whether this is a noun phrase without another below; possessives ("the dog's") are part of theirs."""
    below = (node for child in tree.children for node in _nodes(child))
    return _is_noun_phrase(tree) and not any(_is_noun_phrase(node) for node in below)


def _is_noun_phrase(tree: Tree) -> bool:
    """Whether this is a noun phrase that is no possessive."""
    return tree.label == "NP" and [child.label for child in tree.children][-1:] != ["POS"]


def _is_pronoun(tree: Tree) -> bool:
    return [child.label for child in tree.children] in (["PRP"], ["EX"])


def _first_entity(tree: Tree) -> Tree:
    return next((node for node in _nodes(tree) if _is_entity(node)), tree)


def _objects(tree: Tree) -> Iterator[Tree]:
    """The entities that a phrase is about, not those that these lead to in turn."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if node.label == "NP":
            conjuncts = [child for child in node.children if child.label == "NP"]
            joined = any(child.label == "CC" for child in node.children)
            yield from (_first_entity(each) for each in (conjuncts if joined and conjuncts else [node]))
        else:
            waiting.extend(child for child in reversed(node.children) if child.label in (*_CLAUSES, "NP"))


def _read(bracketed: str, text: str, position: int) -> Tree:
    """One tree, its first word at or after a position of the text."""
    root: list[Tree] = []
    open_nodes: list[tuple[str, list[Tree]]] = [("", root)]
    pieces = re.findall(r"[()]|[^\s()]+", bracketed)
    for before, piece in zip(["", *pieces], pieces, strict=False):
        if piece == "(":
            open_nodes.append(("", []))
        elif piece == ")" and len(open_nodes) > 1:
            label, children = open_nodes.pop()
            if children:
                open_nodes[-1][1].append(_joined(label, children))
        elif before == "(":
            open_nodes[-1] = (re.split(r"[-=|]", piece)[0] or piece, open_nodes[-1][1])
        elif piece != ")":
            span = _find(piece, text, position)
            position = span[1]
            open_nodes[-1][1].append(Tree("", span))
    if len(open_nodes) != 1 or len(root) != 1:
        raise ValueError(f"not one bracketed tree whose brackets close: {bracketed[:80]!r}")
    return root[0]


def _joined(label: str, children: list[Tree]) -> Tree:
    """A node over others; a part of speech over its word is one node."""
    span = (children[0].span[0], children[-1].span[1])
    return Tree(label, span, () if [child.label for child in children] == [""] else tuple(children))


def _find(leaf: str, text: str, position: int) -> Span:
    """Where a word of a tree is in the text."""
    while position < len(text) and text[position].isspace():
        position += 1
    plain = _ESCAPES.get(leaf, leaf.replace("\\/", "/").replace("\\*", "*"))
    for form in (plain, *(_QUOTES if leaf in _QUOTES else ())):
        if text[position : position + len(form)].casefold() == form.casefold():
            return position, position + len(form)
    raise ValueError(f"the tree's word {leaf!r} is not in the text at character {position}: {text[position:][:40]!r}")
