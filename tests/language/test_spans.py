from sfumato.language.spans import graph, tidied


def shown(text: str, *phrases: str) -> list[str]:
    return [text[a:b] for a, b in tidied(text, [(text.index(p), text.index(p) + len(p)) for p in phrases])]


def test_outer_before_inner_and_left_to_right() -> None:
    text = "a red car with a white roof, and a dog"
    found = shown(text, "a dog", "a white roof", "a red car", "a red car with a white roof", "a dog")
    assert found == ["a red car with a white roof", "a red car", "a white roof", "a dog"]


def test_edges_are_taken_off_and_what_is_inside_stays() -> None:
    text = ' "a  red-hot  car" (don\'t `touch` it), ok'
    assert shown(text, '"a  red-hot  car" (') == ["a  red-hot  car"]
    assert shown(text, "(don't `touch` ") == ["don't `touch"]
    assert shown("5 € or a 🍎", "5 €", " a 🍎") == ["5 €", "a 🍎"]
    assert shown("un e\u0301te\u0301 d'or", "un e\u0301te\u0301") == ["un e\u0301te\u0301"]


def test_single_words_and_the_whole_text_are_no_phrases() -> None:
    text = " a red car. "
    assert shown(text, "car", "red ", " a red car. ", "a red car") == []
    assert shown(text, "red car") == ["red car"]
    assert tidied("", [(0, 0)]) == tidied(" . ", [(0, 3)]) == ()


def test_entities_are_before_relations() -> None:
    text = "a cat on a mat in a house"
    entities, relations = [(9, 14), (0, 5)], [(9, 25), (0, 14), (0, 5), (0, 25)]
    assert [text[a:b] for a, b in graph(text, entities, relations)] == [
        *("a cat", "a mat"),
        *("a cat on a mat", "a mat in a house"),
    ]
