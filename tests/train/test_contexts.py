import pytest
import torch

from sfumato.core.noise import Noise
from sfumato.encoders.image import picture_tokens, sentence
from sfumato.encoders.text import TextEncoder, TokenEncoder
from sfumato.train.contexts import Contexts, Forms, encode_captions, nearest
from tests.tiny import tiny_bert, tiny_bert_tokenizer

CAPTIONS = ("a red car", "a dog", "a red car", "a blue bird and a red car")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    tokenizer = tiny_bert_tokenizer(tmp_path_factory.mktemp("tokenizer"))
    return TextEncoder((TokenEncoder(tokenizer, tiny_bert(), whole_length=False),))


def contexts(text: TextEncoder, forms: Forms) -> Contexts:
    vectors = torch.nn.functional.normalize(torch.randn(4, 32), dim=1)
    return Contexts(encode_captions(text, CAPTIONS), vectors, nearest(vectors, 2), forms)


def test_states_are_those_of_the_encoder_and_equal_captions_are_held_once(text: TextEncoder):
    states = encode_captions(text, CAPTIONS, batch=2)
    assert len(states.states) == 3
    for caption, row in zip(CAPTIONS, states.rows, strict=True):
        tokens = text([caption]).condition.tokens
        assert tokens is not None
        assert int(states.lengths[row]) == tokens.shape[1]
        assert torch.allclose(states.states[row, : tokens.shape[1]].float(), tokens[0], atol=2e-3)
        assert not states.states[row, tokens.shape[1] :].any()


def test_text_form_is_the_caption_alone(text: TextEncoder):
    condition = contexts(text, Forms(1.0, 0.0, 0.0)).condition(torch.tensor([1, 3]), Noise([5, 6]))
    alone = text(["a dog", "a blue bird and a red car"]).condition
    assert condition.tokens is not None and alone.tokens is not None
    assert condition.token_mask is not None and alone.token_mask is not None
    assert torch.equal(condition.token_mask, alone.token_mask)
    mask = alone.token_mask[..., None]
    assert torch.allclose(condition.tokens * mask, alone.tokens * mask, atol=2e-3)


def test_pictures_form_is_null_text_and_own_or_neighbouring_vectors(text: TextEncoder):
    all_of = contexts(text, Forms(0.0, 1.0, 0.0))
    null = text.null(1).tokens
    assert null is not None
    seen = set()
    for seed in range(40):
        condition = all_of.condition(torch.tensor([2]), Noise([seed]))
        assert condition.tokens is not None and condition.token_mask is not None
        assert torch.allclose(condition.tokens[:, : null.shape[1]], null, atol=2e-3)
        pictures = condition.tokens[0, null.shape[1] :][condition.token_mask[0, null.shape[1] :]]
        rows = [2] if torch.allclose(pictures[0], picture_tokens(all_of.vectors[2])) else all_of.neighbours[2].tolist()
        assert torch.allclose(pictures, picture_tokens(all_of.vectors[rows[: len(pictures)]]))
        seen.add((rows[0] == 2, len(pictures)))
    assert seen == {(True, 1), (False, 1), (False, 2)}


def test_none_is_the_null_text_alone(text: TextEncoder):
    condition = contexts(text, Forms(0.0, 0.0, 0.0)).condition(torch.tensor([0, 3]), Noise([1, 2]))
    null = text.null(2).tokens
    assert condition.tokens is not None and condition.token_mask is not None and null is not None
    valid = condition.token_mask.sum(1)
    assert valid.tolist() == [null.shape[1]] * 2
    assert torch.allclose(condition.tokens[:, : null.shape[1]], null, atol=2e-3)


def test_shares_are_kept(text: TextEncoder):
    count = 3000
    mixed = contexts(text, Forms(0.5, 0.2, 0.1))
    condition = mixed.condition(torch.ones(count, dtype=torch.int64), Noise(range(count)))
    assert condition.token_mask is not None
    null, caption = len(mixed.captions.null), int(mixed.captions.lengths[mixed.captions.rows[1]])
    longest = max(null, caption)
    has_text = condition.token_mask[:, :longest].sum(1) == caption
    has_pictures = condition.token_mask[:, longest:].any(1)
    shares = [(has_text & ~has_pictures), (~has_text & has_pictures), (has_text & has_pictures)]
    assert [round(float(share.float().mean()), 1) for share in shares] == [0.5, 0.2, 0.1]


def test_forms_that_do_not_add_up():
    with pytest.raises(ValueError, match="shares"):
        Forms(0.8, 0.2, 0.2)


def test_nearest_leaves_out_itself_and_its_copies():
    vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0], [0.9, 0.5], [0, 1]]), dim=1)
    found = nearest(vectors, 1)[:, 0].tolist()
    assert found[:2] == [2, 2] and found[2] in (0, 1) and found[3] == 2


def test_a_sentence_is_the_masked_mean(text: TextEncoder):
    together = text(["a dog", "a blue bird and a red car"]).condition
    assert torch.allclose(sentence(together)[0], sentence(text(["a dog"]).condition)[0], atol=1e-5)
