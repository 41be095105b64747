"""What finds phrases in prompts: the protocol that parsers follow, and parsers by name.

    rules      no dependencies, closed word classes; sfumato.language.rules
    spacy      a small dependency parser, the extra "language"; sfumato.language.spacy_parser
    stanza     the constituency parser of StructureDiffusion's authors; sfumato.language.constituency
    benepar    another constituency parser; sfumato.language.constituency

Spans are characters of the text as it is given, so that whatever encodes it can find the tokens of a phrase.
"""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from sfumato.language.constituency import benepar_parser, stanza_parser
from sfumato.language.rules import RuleParser
from sfumato.language.spacy_parser import spacy_parser
from sfumato.language.spans import Span

__all__ = ["Parser", "ParserName", "named_parser"]

ParserName = Literal["rules", "spacy", "stanza", "benepar"]


class Parser(Protocol):
    """Finds phrases; each has more than one word, none is the whole text, and none begins or ends in punctuation.

    Paper: Training-Free Structured Diffusion Guidance for Compositional Text-to-Image Synthesis (Feng et al., 2022),
        arXiv:2212.05032, section 3.2.
    Differs from the paper: the text is neither put in small letters nor cut at its full stop.
    """

    def phrases(self, text: str) -> tuple[Span, ...]:
        """The noun phrases at every level, outer before inner, left to right.

        "a red car with a white roof in the rain" has "a red car", "a white roof in the rain", "a white roof" and
        "the rain"; it is itself the whole text, which is never among them.
        """
        ...

    def scene_graph(self, text: str) -> tuple[Span, ...]:
        """Nouns with what is before them, then for each relation of two the span from the first to the second.

        "the red car on the street is new" has "the red car", "the street" and "the red car on the street".
        """
        ...


def named_parser(name: str) -> Parser:
    """A parser by its name.

    Args:
        name: "rules", "spacy", "stanza" or "benepar".

    Returns:
        the parser, with its model loaded.

    Raises:
        ValueError: no parser of that name; a package that is not installed; a model that is missing.
    """
    match name:
        case "rules":
            return RuleParser()
        case "spacy":
            return spacy_parser()
        case "stanza":
            return stanza_parser()
        case "benepar":
            return benepar_parser()
        case _:
            raise ValueError(f"no parser is called {name!r}; choose one of {', '.join(get_args(ParserName))}")
