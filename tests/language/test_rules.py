import time

import pytest

from sfumato.language.rules import RuleParser
from sfumato.language.tags import tagged

PHRASES = {
    "a green bench and a red car": ["a green bench", "a red car"],
    "A red apple and yellow bananas": ["A red apple", "yellow bananas"],
    "a blue cup and a green cell phone": ["a blue cup", "a green cell phone"],
    "a red car with a white roof in the rain": ["a red car", "a white roof in the rain", "a white roof", "the rain"],
    "A black cat is inside a white toilet.": ["A black cat", "a white toilet"],
    "A room with blue walls and a white sink and door .": [
        *("A room", "blue walls and a white sink and door", "blue walls"),
        *("a white sink and door", "a white sink"),
    ],
    "A tub, a red sink, and a black and white cat": ["A tub", "a red sink", "a black and white cat"],
    "red , white and blue flags on a ship": ["red , white and blue flags", "a ship"],
    "A man in a hat holding a dog sitting on a green bench looks at it.": [
        *("A man in a hat holding a dog sitting on a green bench", "A man", "a hat"),
        *("a dog sitting on a green bench", "a dog", "a green bench"),
    ],
    "a man wearing a red shirt riding a brown horse": ["a man", "a red shirt", "a brown horse"],
    "a woman holding a cup of hot tea near a window": ["a woman", "a cup of hot tea near a window", "a cup", "hot tea"]
    + ["a window"],
    "a white bathroom that has a tub is clean": ["a white bathroom that has a tub", "a white bathroom", "a tub"],
    "a white bus with a red stripe across it drives by": [
        *("a white bus with a red stripe across it", "a white bus", "a red stripe"),
    ],
    "a red circle to the left of a blue box": ["a red circle", "a blue box"],
    "a large triangle above a green square and red rectangle": [
        *("a large triangle", "a green square and red rectangle", "a green square", "red rectangle"),
    ],
    "a red cat on the left and a blue dog on the right": [
        *("a red cat on the left", "a red cat", "the left"),
        *("a blue dog on the right", "a blue dog", "the right"),
    ],
    "the dog's red bowl and the men 's restroom": [
        *("the dog's red bowl", "the dog's", "the men 's restroom", "the men 's"),
    ],
    "a bathroom features a black sink": ["a bathroom", "a black sink"],
    "two zebras graze in a field of grass": ["two zebras", "a field of grass", "a field"],
    "a very brightly colored parrot, a parked car": ["a very brightly colored parrot", "a parked car"],
    "a living room with a dining table": ["a living room", "a dining table"],
    "photo of a blue bird, studio light, 4k": ["photo of a blue bird", "a blue bird", "studio light"],
    "a close up of a red rose": ["a close up", "a red rose"],
    "a cat on a  Well-Lit   Sofa doesn't sleep": ["a cat on a  Well-Lit   Sofa", "a cat", "a  Well-Lit   Sofa"],
    'a "red car" (very old) and a dog that isn’t red!': ["red car", "a dog that isn’t red", "a dog"],
    "that dog that sleeps and this cat": ["that dog", "this cat"],
    "it is red and white": [],
    "apple": [],
    "a car": [],
    " . ": [],
    "": [],
}

GRAPHS = {
    "the red car on the street is new": ["the red car", "the street", "the red car on the street"],
    "there is a man with a red hat and a blue shirt": [
        *("a man", "a red hat", "a blue shirt"),
        *("a man with a red hat and a blue shirt", "a man with a red hat"),
    ],
    "A man in a hat holds a dog sitting on a bench, ok": [
        *("A man", "a hat", "a dog", "a bench"),
        *("A man in a hat holds a dog", "A man in a hat", "a dog sitting on a bench"),
    ],
    "a cat sits on a mat and eats a fish. a dog sees it": [
        *("a cat", "a mat", "a fish", "a dog"),
        *("a cat sits on a mat and eats a fish", "a cat sits on a mat"),
    ],
    "a green bench and a red car": ["a green bench", "a red car"],
    "a red cat next to a blue dog": ["a red cat", "a blue dog"],
    "it is on it": [],
}


@pytest.mark.parametrize("text", PHRASES)
def test_phrases(text: str) -> None:
    assert [text[a:b] for a, b in RuleParser().phrases(text)] == PHRASES[text]


@pytest.mark.parametrize(
    ("thing", "inner"),
    [
        ("the dogs' bowl", ["the dogs"]),
        ("the dogs’ bowl", ["the dogs"]),
        ("the U.S. flag", []),
        ("a Ph.D. student", []),
        ("a St. Bernard", []),
        ("a red pin\u0303ata", []),
        ("a well\u2011lit bench", []),
        ("a black–and–white cat", []),
        ("a black/white cat", []),
        ("a café/bar table", []),
        ("an A/C unit", []),
        ("a 3/4 view", []),
        ("a 3.5-inch disk", []),
        ("a 50% grey box", []),
        ("a $5 bill", []),
        ("an iphone™ case", []),
    ],
)
def test_no_word_is_cut_so_that_two_things_become_one_phrase(thing: str, inner: list[str]) -> None:
    for text, phrases in (
        (f"{thing} and a red car", [thing, *inner, "a red car"]),
        (f"a red car and {thing}", ["a red car", thing, *inner]),
    ):
        assert [text[a:b] for a, b in RuleParser().phrases(text)] == phrases
        assert [text[a:b] for a, b in RuleParser().scene_graph(text)] == [each for each in phrases if each not in inner]


@pytest.mark.parametrize(
    "text",
    ["a red car/a blue bird", "a red car / a blue bird", "a red car–a blue bird", "a red car – a blue bird"],
)
def test_a_slash_or_dash_before_another_thing_parts_them(text: str) -> None:
    assert [text[a:b] for a, b in RuleParser().phrases(text)] == ["a red car", "a blue bird"]


@pytest.mark.parametrize("text", GRAPHS)
def test_scene_graph(text: str) -> None:
    assert [text[a:b] for a, b in RuleParser().scene_graph(text)] == GRAPHS[text]


@pytest.mark.parametrize("first", ["brown", "red", "blue", "green", "yellow", "gold", "pink", "orange", "white"])
@pytest.mark.parametrize("thing", ["car", "bench", "elephant", "suitcase", "orange", "cell phone", "glass", "cherries"])
def test_two_things_and_their_colours(first: str, thing: str) -> None:
    """The form of the prompts of CC-500."""
    phrases = [f"a {first} {thing}", f"an orange {thing}"]
    for text in (" and ".join(phrases), " and ".join(phrases).capitalize() + " ."):
        assert [text[a:b].lower() for a, b in RuleParser().phrases(text)] == phrases


def test_words_that_are_verbs_or_not() -> None:
    cases = {
        "a train passes on the tracks": "det noun verb prep det noun",
        "a green traffic light sits near it": "det adj noun noun verb prep pron",
        "kitchen cabinets with glass doors": "noun noun prep noun noun",
        "a parked car parked near cars": "det adj noun part prep noun",
        "a red building with red writing": "det adj noun prep adj noun",
        "food that includes that orange": "noun rel verb det adj",
        "a can that can roll": "det noun rel verb noun",
        "it's a red one , see": "verb det adj noun comma noun",
        "the dogs' bowl is the cats'": "det poss noun verb det noun stop",
        "the 'red cars' sign": "det stop adj noun stop noun",
        "a light/blue car": "det noun cc adj noun",
        "a red and/or blue hat": "det adj cc adj noun",
        "a man with/without a hat": "det noun prep cc prep det noun",
    }
    for text, tags in cases.items():
        assert " ".join(token.tag for token in tagged(text)) == tags, text


@pytest.mark.parametrize(
    "piece",
    ["a red cat with ", "a, ", "a dog running in ", "red and ", "very ", "( ", "dog's ", "dogs' ", "red/", "a."],
)
def test_long_texts_take_no_time(piece: str) -> None:
    text, begun = piece * 5_000, time.perf_counter()
    RuleParser().phrases(text)
    RuleParser().scene_graph(text)
    assert time.perf_counter() - begun < 5
