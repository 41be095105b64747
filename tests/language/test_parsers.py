"""What every parser promises, and how a parser that cannot be had says so."""

import sys

import pytest

from sfumato.language.parse import Parser, named_parser
from sfumato.language.spacy_parser import spacy_parser

TEXTS = (
    "a green bench and a red car",
    "A red car with a white roof is next to a man in a blue hat holding a dog's bowl.",
    ' A  Brown purse, (very OLD) -- isn\'t "sitting on" a well-lit bench!  ',
    "Waffle - textured linen holds a white plant with a dish , featuring tri - colored pasta , and broccoli .",
    "a red cube on top of a blue cube; a green cone in front of it",
    "The men 's restroom: two urinals, a white sink and door",
    "photo of a cat, 4k, 😀 black & white",
    "red",
    "...",
    "",
)


def available() -> dict[str, Parser]:
    found: dict[str, Parser] = {}
    for name in ("rules", "spacy", "stanza", "benepar"):
        try:
            found[name] = named_parser(name)
        except ValueError as error:
            assert "pip install" in str(error) or "python -c" in str(error)
    return found


PARSERS = available()


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", PARSERS)
def test_contract(name: str, text: str) -> None:
    parser = PARSERS[name]
    for spans in (parser.phrases(text), parser.scene_graph(text)):
        assert len(set(spans)) == len(spans)
        for start, end in spans:
            phrase = text[start:end]
            assert 0 <= start < end <= len(text)
            assert len(phrase.split()) > 1
            assert phrase[0] not in " .,;:!?\"'()-" and phrase[-1] not in " .,;:!?\"'()-"
            assert phrase != text.strip(" .!")
    phrases = parser.phrases(text)
    assert list(phrases) == sorted(phrases, key=lambda span: (span[0], -span[1]))
    assert parser.phrases(text) == phrases


@pytest.mark.parametrize("name", PARSERS)
def test_two_coloured_things(name: str) -> None:
    text = "a green bench and a red car"
    assert PARSERS[name].phrases(text) == PARSERS[name].scene_graph(text) == ((0, 13), (18, 27))


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="no parser is called 'nltk'; choose one of rules, spacy, stanza, benepar"):
        named_parser("nltk")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("spacy", 'run `pip install "sfumato[language]"`'),
        ("stanza", "run `pip install stanza`"),
        ("benepar", "run `pip install benepar`"),
    ],
)
def test_a_package_that_is_missing_is_named(name: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as Python marks what cannot be imported
    with pytest.raises(ValueError) as raised:
        named_parser(name)
    assert str(raised.value) == f"the parser '{name}' is not installed; {remedy}"


def test_a_model_that_is_missing_is_named() -> None:
    pytest.importorskip("spacy")
    with pytest.raises(ValueError, match=r"no model en_none; run `pip install \"sfumato\[language\]\"`"):
        spacy_parser(["en_none"])
