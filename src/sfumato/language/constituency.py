"""Phrases from constituency trees, as the paper has them: every NP of more than one word, at every level.

A parser makes the trees, stanza (the authors' choice) or benepar; ``sfumato.language.trees`` reads them. Neither
package nor its model comes with sfumato.

Not tried: the two adapters have been run up to the message that a model is missing (stanza 1.15.0, benepar 0.2.0), not
with their models. Reading trees is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sfumato.language.spans import Span, graph, tidied
from sfumato.language.trees import entities, noun_phrases, read_trees, relations

__all__ = ["ConstituencyParser", "benepar_parser", "stanza_parser"]


@dataclass(frozen=True)
class ConstituencyParser:
    """Phrases from bracketed trees.

    Args:
        trees: from a text to the tree of each of its sentences, such as ``(NP (DT a) (NN car))``.

    Paper: Training-Free Structured Diffusion Guidance for Compositional Text-to-Image Synthesis (Feng et al., 2022),
        arXiv:2212.05032, section 3.2.
    Differs from the paper: scene graphs are read from the same tree, where the authors have a parser of their own.
    """

    trees: Callable[[str], Sequence[str]]

    def phrases(self, text: str) -> tuple[Span, ...]:
        """The noun phrases at every level.

        Raises:
            ValueError: trees that are not of this text.
        """
        return tidied(text, (span for tree in read_trees(self.trees(text), text) for span in noun_phrases(tree)))

    def scene_graph(self, text: str) -> tuple[Span, ...]:
        """The innermost noun phrases, then the relations of one to the other.

        Raises:
            ValueError: trees that are not of this text.
        """
        trees = read_trees(self.trees(text), text)
        found = [span for tree in trees for span in entities(tree)]
        return graph(text, found, (span for tree in trees for span in relations(tree)))


def stanza_parser() -> ConstituencyParser:
    """The parser of the package stanza, with its English model.

    Raises:
        ValueError: the package is not installed, or its model is missing.
    """
    try:
        import stanza  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("the parser 'stanza' is not installed; run `pip install stanza`") from error
    try:
        pipeline = stanza.Pipeline(
            lang="en", processors="tokenize,pos,constituency", download_method=None, verbose=False
        )
    except OSError as error:
        raise ValueError(
            "the parser 'stanza' has no English model; run `python -c \"import stanza; stanza.download('en')\"`"
        ) from error

    def trees(text: str) -> list[str]:
        return [f"{sentence.constituency:O}" for sentence in pipeline(text).sentences]

    return ConstituencyParser(trees)


def benepar_parser() -> ConstituencyParser:
    """The parser of the package benepar, with its smaller English model.

    Raises:
        ValueError: the package is not installed, or its model or nltk's model of sentence ends is missing.
    """
    try:
        import benepar  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("the parser 'benepar' is not installed; run `pip install benepar`") from error
    try:
        parser = benepar.Parser("benepar_en3")
        list(parser.parse_sents("a car"))
    except LookupError as error:
        raise ValueError(
            "the parser 'benepar' has no English model; run "
            "`python -c \"import benepar, nltk; benepar.download('benepar_en3'); nltk.download('punkt_tab')\"`"
        ) from error

    def trees(text: str) -> list[str]:
        return [str(tree) for tree in parser.parse_sents(text)]

    return ConstituencyParser(trees)
