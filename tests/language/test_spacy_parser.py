import pytest

from sfumato.language.spacy_parser import SpacyParser, spacy_parser

pytest.importorskip("spacy")

PHRASES = {
    "a red car with a white roof in the rain": ["a red car", "a white roof in the rain", "a white roof", "the rain"],
    "A room with blue walls and a white sink and door.": [
        *("A room", "blue walls and a white sink and door", "blue walls"),
        *("a white sink and door", "a white sink"),
    ],
    "A man in a blue hat holding a dog sitting on a green bench looks at the camera .": [
        *("A man in a blue hat holding a dog sitting on a green bench", "A man", "a blue hat"),
        *("a dog sitting on a green bench", "a dog", "a green bench", "the camera"),
    ],
    "a red circle to the left of a blue box": ["a red circle", "a blue box"],
    "the dog's red bowl": ["the dog's"],
    "A  Red Car on a street isn't new": ["A  Red Car on a street", "A  Red Car", "a street"],
}

GRAPHS = {
    "the red car on the street is new": ["the red car", "the street", "the red car on the street"],
    "There is a red vase on top of the table and a cat sleeps under it.": [
        *("a red vase", "the table", "a cat", "a red vase on top of the table"),
    ],
    "A woman is seen holding a red bag and eats an apple in the park": [
        *("A woman", "a red bag", "an apple", "the park"),
        *("A woman is seen holding a red bag and eats an apple", "A woman is seen holding a red bag"),
        "an apple in the park",
    ],
    "a white bathroom that has a black sink is clean": [
        *("a white bathroom", "a black sink", "a white bathroom that has a black sink"),
    ],
}


@pytest.fixture(scope="module")
def parser() -> SpacyParser:
    try:
        return spacy_parser()
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("text", PHRASES)
def test_phrases(parser: SpacyParser, text: str) -> None:
    assert [text[a:b] for a, b in parser.phrases(text)] == PHRASES[text]


@pytest.mark.parametrize("text", GRAPHS)
def test_scene_graph(parser: SpacyParser, text: str) -> None:
    assert [text[a:b] for a, b in parser.scene_graph(text)] == GRAPHS[text]


def test_a_member_of_a_list_is_in_the_phrase_of_the_list(parser: SpacyParser) -> None:
    text = "a bed, a red lamp and a table are in the room"
    found = [text[a:b] for a, b in parser.phrases(text)]
    assert found == ["a bed, a red lamp and a table", "a bed", "a red lamp", "a table", "the room"]
