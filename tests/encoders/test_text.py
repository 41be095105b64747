"""Encodings equal the libraries' own, and every character finds its tokens."""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from threading import Thread
from types import FrameType

import pytest
import torch

from sfumato.encoders.text import EncodedText, TextEncoder, TokenEncoder
from tests.tiny import (
    POOLED_WIDTH,
    TEXT_WIDTH,
    tiny_bert,
    tiny_bert_tokenizer,
    tiny_clip,
    tiny_clip_tokenizer,
    tiny_clip_with_projection,
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder((TokenEncoder(tiny_clip_tokenizer(tmp_path_factory.mktemp("clip")), tiny_clip()),))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    first = tiny_clip_tokenizer(tmp_path_factory.mktemp("one"))
    second = tiny_clip_tokenizer(tmp_path_factory.mktemp("two"), pad="!")
    return TextEncoder(
        (
            TokenEncoder(first, tiny_clip(), "penultimate"),
            TokenEncoder(second, tiny_clip_with_projection(), "penultimate", pooled=True),
        ),
        zero_null=True,
    )


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    tokenizer = tiny_bert_tokenizer(tmp_path_factory.mktemp("bert"))
    return TextEncoder((TokenEncoder(tokenizer, tiny_bert(), whole_length=False),))


def pieces(encoded: EncodedText, phrase: str, image: int = 0, occurrence: int = 0) -> list[str]:
    """The characters that the tokens of a phrase stand for."""
    text = encoded.texts[image]
    found = encoded.find(phrase, image, occurrence)
    return [text[start:stop] for start, stop in (encoded.spans[image][index] for index in found)]


@torch.no_grad()
def test_clip_states(clip: TextEncoder) -> None:
    encoded = clip(["a red hat", "two cats"])
    module, tokenizer = clip.encoders[0].module, clip.encoders[0].tokenizer
    ids = tokenizer(["a red hat", "two cats"], padding="max_length", max_length=77, return_tensors="pt").input_ids
    assert torch.equal(encoded.condition.tokens, module(ids).last_hidden_state)  # type: ignore[arg-type]
    assert encoded.condition.tokens.shape == (2, 77, TEXT_WIDTH)  # type: ignore[union-attr]
    assert encoded.condition.token_mask is None and encoded.condition.vector is None


@torch.no_grad()
def test_two_encoders_side_by_side(pair: TextEncoder) -> None:
    condition = pair(["a red hat"]).condition
    first, second = pair.encoders
    ids = [
        encoder.tokenizer(["a red hat"], padding="max_length", max_length=77, return_tensors="pt").input_ids
        for encoder in (first, second)
    ]
    left = first.module(ids[0], output_hidden_states=True).hidden_states[-2]
    right = second.module(ids[1], output_hidden_states=True)
    assert torch.equal(condition.tokens, torch.cat([left, right.hidden_states[-2]], dim=-1))  # type: ignore[arg-type]
    assert torch.equal(condition.vector, right.text_embeds)  # type: ignore[arg-type]
    assert condition.vector.shape == (1, POOLED_WIDTH)  # type: ignore[union-attr]
    assert not torch.equal(ids[0], ids[1]), "the two pad differently"


@torch.no_grad()
def test_bert_is_padded_to_the_longest_and_masked(bert: TextEncoder) -> None:
    together = bert(["a red hat", "a scarlet hat, and a dog!"]).condition
    alone = bert(["a red hat"]).condition
    assert alone.tokens.shape == (1, 5, TEXT_WIDTH) and alone.token_mask is None  # type: ignore[union-attr]
    assert together.token_mask is not None and together.token_mask.sum(1).tolist() == [5, 13]
    torch.testing.assert_close(together.tokens[:1, :5], alone.tokens)  # type: ignore[index]


def test_words_of_one_and_of_many_tokens(clip: TextEncoder, bert: TextEncoder) -> None:
    text = "A  Red\that, scarlet!"
    for encoder in (clip, bert):
        encoded = encoder([text])
        assert pieces(encoded, "red hat") == ["Red", "hat"]
        assert pieces(encoded, "a") == ["A"]
        assert len(pieces(encoded, "scarlet")) > 1 and "".join(pieces(encoded, "SCARLET")) == "scarlet"
        assert pieces(encoded, "hat,") == ["hat", ","]
        assert pieces(encoded, text)[-1] == "!"


@pytest.mark.parametrize(
    "text", ["café é hat", "cafe\u0301 hat", "𝒜 😀 hat", "  hat", "don't hat", "red-blue hat", "\nhat\n"]
)
def test_offsets_survive_lower_casing_accents_and_spaces(clip: TextEncoder, bert: TextEncoder, text: str) -> None:
    for encoder in (clip, bert):
        assert pieces(encoder([text]), "hat") == ["hat"]


def test_the_first_and_the_last_token_are_nobodys(clip: TextEncoder) -> None:
    spans = clip(["red hat"]).spans[0]
    assert spans[:4] == ((0, 0), (0, 3), (4, 7), (0, 0)) and set(spans[3:]) == {(0, 0)}
    assert clip(["red hat"]).find("red hat") == [1, 2]


def test_several_places_and_texts(clip: TextEncoder) -> None:
    encoded = clip(["a cat and a cat", "the dog"])
    assert encoded.find("cat") == [2] and encoded.find("cat", occurrence=1) == [5]
    assert encoded.find("dog", image=1) == [2]
    with pytest.raises(ValueError, match="'cat' is only 2 time"):
        encoded.find("cat", occurrence=2)


def test_words_are_whole(clip: TextEncoder) -> None:
    encoded = clip(["redder hats and a hat"])
    assert pieces(encoded, "hat") == ["hat"]
    with pytest.raises(ValueError, match="'red' is not in the text"):
        encoded.find("red")


def test_a_wrong_word_gets_the_nearest(clip: TextEncoder) -> None:
    encoded = clip(["a photo of a red hat"])
    with pytest.raises(ValueError, match="nearest are 'red hat'"):
        encoded.find("red cat")
    with pytest.raises(ValueError, match="nearest are 'photo'"):
        encoded.find("foto")
    for nothing in ("", "  "):
        with pytest.raises(ValueError, match="is not in the text"):
            encoded.find(nothing)


@pytest.mark.parametrize("name", ["clip", "bert"])
def test_what_is_cut_is_said(name: str, request: pytest.FixtureRequest) -> None:
    encoder: TextEncoder = request.getfixturevalue(name)
    room = encoder.encoders[0].longest - 2
    text = "red " * (room - 1) + "hat blue dog"
    with pytest.warns(UserWarning, match="this end of a text was cut: 'blue dog'"):
        encoded = encoder([text, "a"])
    assert encoded.cut == ("blue dog", "")
    assert encoded.find("hat") == [room]
    with pytest.raises(ValueError, match="too long and was cut"):
        encoded.find("dog")
    with pytest.raises(ValueError, match="too long and was cut"):
        encoded.find("hat blue")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encoder(["red " * room]).cut == ("",)


def test_the_end_that_is_cut_is_quoted_in_eighty_characters(clip: TextEncoder) -> None:
    with pytest.warns(UserWarning, match="this end of a text was cut") as caught:
        clip(["red " * 75 + "hat " + "a blue dog and " * 50 + "a car"])
    (quoted,) = [str(each.message).split("cut: ")[1] for each in caught]
    assert quoted.startswith("'hat a blue dog and a") and quoted.endswith(" a car'") and "..." in quoted
    assert len(quoted) <= 82


@pytest.mark.parametrize("name", ["clip", "bert", "pair"])
@torch.no_grad()
def test_padding_and_cutting_are_those_of_the_tokenizer(name: str, request: pytest.FixtureRequest) -> None:
    """Also where a text holds the tokenizer's own marks."""
    encoder: TextEncoder = request.getfixturevalue(name)
    texts = ["", "a red hat", "<|endoftext|> [SEP] scarlet 😀 [PAD]", "red hats! " * 40 + "<|endoftext|> [SEP]"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoded = encoder(texts)
    one = encoder.encoders[-1]
    padding = "max_length" if one.whole_length else "longest"
    settings = {"padding": padding, "truncation": True, "max_length": one.longest, "return_offsets_mapping": True}
    theirs = copy.deepcopy(one.tokenizer)(texts, return_tensors="pt", **settings)
    assert encoded.spans == tuple(tuple((a, b) for a, b in row) for row in theirs.offset_mapping.tolist())
    mask = None if one.whole_length else theirs.attention_mask
    output = one.module(theirs.input_ids, attention_mask=mask, output_hidden_states=True)
    states = output.hidden_states[-2] if name == "pair" else output.last_hidden_state
    assert torch.equal(encoded.condition.tokens[..., -TEXT_WIDTH:], states)  # type: ignore[index]
    if mask is not None:
        assert torch.equal(encoded.condition.token_mask, mask.bool())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["clip", "bert"])
@torch.no_grad()
def test_threads_may_share_an_encoder(name: str, request: pytest.FixtureRequest) -> None:
    """Another thread encodes a text, to its end, just when the tokenizer has got its settings for this one."""
    encoder: TextEncoder = request.getfixturevalue(name)
    texts, others = ["a red hat", "two cats and a dog"], ["red " * 100]
    alone, met = encoder(texts), []

    def switch(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code.co_name == "set_truncation_and_padding":
            thread = Thread(target=lambda: met.append(len(encoder.encoders[0](others).cut[0])))
            thread.start()
            thread.join()

    sys.setprofile(switch)
    try:
        together = encoder(texts)
    finally:
        sys.setprofile(None)
    assert met and all(met), "the other thread was there, and its text was cut"
    assert together.spans == alone.spans and together.cut == alone.cut == ("", "")
    assert torch.equal(together.condition.tokens, alone.condition.tokens)  # type: ignore[arg-type]


def test_what_a_tokenizers_file_switches_on_is_off_before_threads_share_it(tmp_path: Path) -> None:
    tokenizer = tiny_bert_tokenizer(tmp_path)
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=20)
    encoder = TokenEncoder(tokenizer, tiny_bert(), whole_length=False)
    assert tokenizer.backend_tokenizer.truncation is None and tokenizer.backend_tokenizer.padding is None
    assert len(encoder(["a red hat and a cat"]).spans[0]) == 8


def test_a_text_that_is_not_unicode_is_refused(clip: TextEncoder, bert: TextEncoder) -> None:
    """As bytes of another encoding come from a command line."""
    for encoder in (clip, bert):
        with pytest.raises(ValueError, match=r"the text 'caf\\udce9' is not valid Unicode; write it in UTF-8"):
            encoder(["a cat", "caf\udce9"])


@torch.no_grad()
def test_null(clip: TextEncoder, pair: TextEncoder, bert: TextEncoder) -> None:
    assert torch.equal(clip.null(2).tokens[1], clip([""]).condition.tokens[0])  # type: ignore[index]
    assert bert.null(3).tokens.shape == (3, 2, TEXT_WIDTH)  # type: ignore[union-attr]
    zeros = pair.null(2)
    assert zeros.tokens.shape == (2, 77, 2 * TEXT_WIDTH) and not zeros.tokens.any()  # type: ignore[union-attr]
    assert zeros.vector.shape == (2, POOLED_WIDTH) and not zeros.vector.any()  # type: ignore[union-attr]


def test_refusals(clip: TextEncoder, bert: TextEncoder) -> None:
    with pytest.raises(ValueError, match="at least one token encoder"):
        TextEncoder(())
    for texts in ([], "a red hat"):
        with pytest.raises(ValueError, match="list of one or more texts"):
            clip(texts)
    with pytest.raises(ValueError, match="divide texts differently"):
        TextEncoder((clip.encoders[0], bert.encoders[0]))(["scarlet"])


def test_gradients_reach_the_embeddings(tmp_path: Path) -> None:
    """Textual inversion trains through the encoder."""
    encoder = TextEncoder((TokenEncoder(tiny_clip_tokenizer(tmp_path), tiny_clip()),))
    encoder(["red hat"]).condition.tokens.square().sum().backward()  # type: ignore[union-attr]
    gradient = encoder.encoders[0].module.embeddings.token_embedding.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0
