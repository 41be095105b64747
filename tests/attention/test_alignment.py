"""Alignments of tokens: by word, by what is common, for tokenizers that pad and divide in different ways."""

from __future__ import annotations

import pytest
import torch

from sfumato.attention.alignment import (
    Alignment,
    Pair,
    aligned,
    check_pairs,
    refined,
    replaced,
    replaced_as_published,
)
from sfumato.encoders.text import EncodedText, TextEncoder

PROMPTS = [
    ("a red hat", "a blue hat"),
    ("a red hat on a cat", "a scarlet hat on a cat"),
    ("a scarlet hat on a cat", "a red hat on a dog"),
    ("the scarlet dogs, and a red car", "the red cats, and a scarlet car"),
    ("red", "singing"),
]
"""As many words in both, of different numbers of tokens."""


@pytest.mark.parametrize("prompts", PROMPTS)
def test_replacement_keeps_the_attention_of_a_pixel(encoder: TextEncoder, prompts: tuple[str, str]) -> None:
    words = encoder(prompts)
    moved = weights(words) @ replaced(words, [(0, 1)]).matrix[0].double()
    torch.testing.assert_close(moved.sum(-1), torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-6)


def test_words_of_as_many_tokens_are_matched_one_to_one(encoder: TextEncoder) -> None:
    words = encoder(["a red hat, on two scarlet cars", "the blue dog, on a scarlet cars"])
    found = replaced(words, [(0, 1)])
    assert torch.equal(found.matrix[0], torch.eye(len(words.spans[0]))) and found.known.all()


def test_a_longer_word_shares_and_all_after_it_is_shifted(encoder: TextEncoder) -> None:
    words = encoder(["a red hat on a cat", "a scarlet hat on a cat", "a scarlet hat on a scarlet cat"])
    matrix, count = replaced(words, [(0, 1)]).matrix[0], len(words.find("scarlet", 1))
    assert count > 1
    for phrase, twin in (("red", "scarlet"), ("hat", "hat"), ("on", "on"), ("cat", "cat")):
        (old,) = words.find(phrase, 0)
        new = words.find(twin, 1)
        wanted = torch.zeros(len(matrix))
        wanted[new] = 1 / len(new)
        assert torch.equal(matrix[old], wanted), phrase
    end = words.find("cat", 0)[0] + 1
    assert matrix[end, end + count - 1] == 1, "the mark of the end"
    assert matrix[end + 1 :, : end + count].count_nonzero() == 0, "padding is matched to padding alone"


def test_a_shorter_word_is_given_the_sum(encoder: TextEncoder) -> None:
    words = encoder(["a scarlet hat", "a red hat"])
    matrix, old, (new,) = replaced(words, [(0, 1)]).matrix[0], words.find("scarlet", 0), words.find("red", 1)
    assert (matrix[old, new] == 1).all() and matrix[old].sum() == len(old)


@pytest.mark.parametrize("prompts", PROMPTS)
def test_there_and_back_again_leaves_words_where_they_were(encoder: TextEncoder, prompts: tuple[str, str]) -> None:
    words = encoder(prompts)
    there, back = (replaced(words, [pair]).matrix[0] for pair in ((0, 1), (1, 0)))
    both = there @ back
    for word in ("a", "the", "on", "car", "cat", "hat"):
        if word in prompts[0].split() and word in prompts[1].split():
            token = words.find(word, 0)
            assert torch.equal(both[token][:, token], torch.eye(len(token)))
    torch.testing.assert_close(both.sum(1), torch.ones(len(both)))


def test_a_text_that_fills_all_room_gives_the_padding_to_the_end(clip: TextEncoder) -> None:
    long, short = " ".join(["scarlet"] * 12 + ["red"] * 3), " ".join(["red"] * 15)
    words = clip([short, long])
    assert words.spans[1][75] != (0, 0) and not words.cut[1]
    matrix = replaced(words, [(0, 1)]).matrix[0]
    torch.testing.assert_close(matrix.sum(1), torch.ones(77))
    assert (matrix[17:, 76] == 1).all()


def test_the_published_mapper_stays_at_its_place_after_the_last_swap(clip: TextEncoder) -> None:
    words = clip(["a red hat on a cat", "a scarlet hat on a cat"])
    matrix, (hat,) = replaced_as_published(words, [(0, 1)]).matrix[0], words.find("hat", 1)
    assert torch.equal(matrix[:, :hat], replaced(words, [(0, 1)]).matrix[0][:, :hat])
    assert torch.equal(matrix[:, hat:], torch.eye(77)[:, hat:]), "hat is given a neighbour's map"
    assert matrix.sum() != 77
    same = clip(["a red hat", "a blue hat"])
    assert torch.equal(replaced_as_published(same, [(0, 1)]).matrix, replaced(same, [(0, 1)]).matrix)


def test_other_numbers_of_words_are_refused(encoder: TextEncoder) -> None:
    words = encoder(["a red hat", "a red hat on a cat"])
    for each in (replaced, replaced_as_published):
        with pytest.raises(
            ValueError, match="have 3 and 6 words; replacement needs as many in both, so use refinement"
        ):
            each(words, [(0, 1)])


@pytest.mark.parametrize("prompt", ["a red hat", "the scarlet dogs, and a red car", "a a a red red", ""])
def test_refinement_of_itself_changes_nothing(encoder: TextEncoder, prompt: str) -> None:
    words = encoder([prompt, prompt])
    found = refined(words, [(0, 1)])
    assert torch.equal(found.matrix[0], torch.eye(len(words.spans[0]))) and found.known.all()


@pytest.mark.parametrize("added", ["scarlet", "red", "two blue"])
def test_what_refinement_adds_is_unknown_and_the_rest_is_found(encoder: TextEncoder, added: str) -> None:
    words = encoder([f"a cat on a {added} hat", "a cat on a hat", f"a cat on a {added} hat, blurry"])
    found = refined(words, [(1, 0), (1, 2)])
    for number, (source, rewrite) in enumerate(found.pairs):
        new = words.find(added, rewrite)
        assert not found.known[number, new].any() and found.matrix[number][:, new].count_nonzero() == 0
        for phrase in ("cat", "on", "hat"):
            (old,), (twin,) = words.find(phrase, source), words.find(phrase, rewrite)
            assert found.matrix[number, old, twin] == 1 and found.known[number, twin]
        assert (found.matrix[number].sum(0) == found.known[number]).all(), "one to one, or not at all"
    assert not found.known[1, words.find("blurry", 2)].any()


def test_adding_words_and_taking_them_away_again_is_the_identity(encoder: TextEncoder) -> None:
    words = encoder(["a hat on a cat", "a red hat on a scarlet cat"])
    there, back = refined(words, [(0, 1)]), refined(words, [(1, 0)])
    length = words.find("cat", 0)[0] + 2
    assert torch.equal((there.matrix[0] @ back.matrix[0])[:length, :length], torch.eye(length))
    assert back.known[0, :length].all()


def test_a_part_of_a_word_is_no_word(encoder: TextEncoder) -> None:
    words = encoder(["dogs", "dog s"])
    assert not refined(words, [(0, 1)]).known[0, words.find("dog s", 1)].any()


def test_padding_of_a_shorter_rewrite_gets_no_word(clip: TextEncoder) -> None:
    words = clip(["a red hat on a cat", "a red hat"])
    found = refined(words, [(0, 1)])
    last, longest = words.find("hat", 1)[0] + 1, words.find("cat", 0)[0] + 1
    assert not found.known[0, last + 1 : longest + 1].any()
    assert found.known[0, longest + 1 :].all() and found.matrix[0, longest + 1 :, longest + 1 :].trace() == 76 - longest


def test_words_are_replaced_where_there_are_as_many_and_refined_elsewhere(encoder: TextEncoder) -> None:
    words = encoder(["a red hat", "a scarlet hat", "a red hat on a cat", "a red, hat"])
    found = aligned(words, [(0, 1), (0, 2), (0, 3)])
    for number, (how, pair) in enumerate([(replaced, (0, 1)), (refined, (0, 2)), (refined, (0, 3))]):
        alone = how(words, [pair])
        assert torch.equal(found.matrix[number], alone.matrix[0]) and torch.equal(found.known[number], alone.known[0])
    assert found.pairs == ((0, 1), (0, 2), (0, 3))


def test_some_tokens_only(encoder: TextEncoder) -> None:
    words = encoder(["a red hat", "a blue hat"])
    chosen = torch.zeros(1, len(words.spans[0]), dtype=torch.bool)
    chosen[0, words.find("blue", 1)] = True
    assert torch.equal(aligned(words, [(0, 1)]).only(chosen).known, chosen)


@pytest.mark.parametrize("pairs", [((0, 1), (0, 1)), ((0, 1), (2, 1)), ((0, 1), (1, 2)), ((0, 0),)])
def test_an_image_is_rewritten_once_and_a_source_never(pairs: tuple[Pair, ...]) -> None:
    with pytest.raises(ValueError, match="rewritten once, and a source is not rewritten"):
        check_pairs(pairs)
    with pytest.raises(ValueError, match="rewritten once, and a source is not rewritten"):
        Alignment(pairs, torch.zeros(2, 3, 3), torch.zeros(2, 3, dtype=torch.bool))


def weights(words: EncodedText) -> torch.Tensor:
    """Attention of five pixels to the first text, in float64."""
    masked = torch.zeros(len(words.spans[0]), dtype=torch.float64)
    if words.condition.token_mask is not None:
        masked[~words.condition.token_mask[0]] = float("-inf")
    return (3 * torch.randn(5, len(masked), dtype=torch.float64) + masked).softmax(-1)
