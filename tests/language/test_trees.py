import pytest

from sfumato.language.constituency import ConstituencyParser

NESTED = """(ROOT (S
  (NP (NP (DT A) (JJ red) (NN car)) (PP (IN with) (NP (NP (DT a) (JJ white) (NN roof)) (CC and) (NP (NNS wheels)))))
  (VP (VBZ stands) (PP (IN on) (NP (DT a) (NN street)))) (. .)))"""


def parser(*trees: str) -> ConstituencyParser:
    return ConstituencyParser(lambda text: trees)


def phrases(text: str, *trees: str) -> list[str]:
    return [text[a:b] for a, b in parser(*trees).phrases(text)]


def graph(text: str, *trees: str) -> list[str]:
    return [text[a:b] for a, b in parser(*trees).scene_graph(text)]


def test_nested_noun_phrases_at_every_level() -> None:
    text = "A red  car with a white roof and wheels stands on a street."
    assert phrases(text, NESTED) == [
        *("A red  car with a white roof and wheels", "A red  car"),
        *("a white roof and wheels", "a white roof", "a street"),
    ]
    assert graph(text, NESTED) == [
        *("A red  car", "a white roof", "a street"),
        *("A red  car with a white roof and wheels", "A red  car with a white roof"),
    ]


def test_the_relation_of_subject_and_object_of_a_verb() -> None:
    text = "yes a man holding a red bag in the rain walks"
    tree = """(S (INTJ (UH yes)) (NP (NP (DT a) (NN man)) (VP (VBG holding) (NP (DT a) (JJ red) (NN bag))
        (PP (IN in) (NP (DT the) (NN rain))))) (VP (VBZ walks)))"""
    assert graph(text, tree) == [
        *("a man", "a red bag", "the rain"),
        *("a man holding a red bag in the rain", "a man holding a red bag"),
    ]


def test_a_noun_phrase_that_is_all_of_the_text_is_left_out() -> None:
    tree = "(ROOT (NP (NP (DT a) (JJ red) (NN car)) (CC and) (NP (DT a) (JJ white) (NN sheep)) (. .)))"
    for text in ("a red car and a white sheep.", "A Red Car and a White Sheep ."):
        assert [each.lower() for each in phrases(text, tree)] == ["a red car", "a white sheep"]
    assert phrases("a red car", "(NP (DT a) (JJ red) (NN car))") == []
    assert phrases("cars", "(NP (NNS cars))") == []


def test_contractions_quotes_and_brackets() -> None:
    text = "We don't like the dog's \"red bowl\" (an old one)"
    tree = """(S (NP (PRP We)) (VP (VBP do) (RB n't) (VP (VB like) (NP (NP (NP (DT the) (NN dog) (POS 's)) (`` ``)
        (JJ red) (NN bowl) ('' '')) (PRN (-LRB- -LRB-) (NP (DT an) (JJ old) (NN one)) (-RRB- -RRB-))))))"""
    assert phrases(text, tree) == [
        *('the dog\'s "red bowl" (an old one', "the dog's \"red bowl", "the dog's", "an old one"),
    ]
    assert graph(text, tree) == ["the dog's \"red bowl", "an old one"]
    for quoted in ("a “red bowl” here", "a ''red bowl'' here", "a ``red bowl'' here"):
        found = phrases(quoted, "(S (NP (DT a) (`` ``) (JJ red) (NN bowl) ('' '')) (ADVP (RB here)))")
        assert [each.strip("“”'`") for each in found] == [quoted.removesuffix(" here").rstrip("”'")]


def test_marks_of_functions_and_slashes() -> None:
    text = "a black/white cat sleeps"
    tree = "( (S (NP-SBJ-1 (DT a) (JJ black\\/white) (NN cat)) (VP (VBZ sleeps))))"
    assert phrases(text, tree) == ["a black/white cat"]


def test_trees_without_parts_of_speech() -> None:
    assert graph("a car on mats", "(S (NP a car) (PP on (NP mats)))") == ["a car"]
    assert graph("a car on mats !", "(S (NP a car) (PP on (NP mats)) !)") == ["a car"]
    assert graph("yes a car on mats", "(S yes (NP a car) (PP on (NP mats)))") == ["a car on mats", "a car"][::-1]


def test_several_sentences() -> None:
    text = "A cat. A cat on a mat."
    first = "(ROOT (NP (DT A) (NN cat) (. .)))"
    second = "(ROOT (NP (NP (DT A) (NN cat)) (PP (IN on) (NP (DT a) (NN mat))) (. .)))"
    assert parser(first, second).phrases(text) == ((0, 5), (7, 21), (7, 12), (16, 21))
    assert parser(first, second).scene_graph(text) == ((0, 5), (7, 12), (16, 21), (7, 21))


@pytest.mark.parametrize(
    "tree", ["(NP (DT a) (NN car)", "(NP (DT a)) (NN car))", "", "a car", "(NP (DT a)) (NP (NN car))"]
)
def test_brackets_that_do_not_close_are_refused(tree: str) -> None:
    with pytest.raises(ValueError, match="not one bracketed tree"):
        parser(tree).phrases("a car")


def test_a_tree_of_another_text_is_refused() -> None:
    with pytest.raises(ValueError, match="'dog' is not in the text at character 2: 'car'"):
        parser("(NP (DT a) (NN dog))").phrases("a car")


def test_deep_trees_are_read() -> None:
    depth = 5_000
    tree = "(NP " * depth + "(DT a) (NN car)" + ")" * depth
    assert parser(f"(S {tree} (VP (VBZ is)))").phrases("a car is") == ((0, 5),)
