"""StructureDiffusion: where phrases are pasted, the algebra of its variants by hand, and whole pictures."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.attention.contexts import Contexts
from sfumato.attention.maps import MapRecorder
from sfumato.attention.structure import Pasted, Structure, average, concepts, conjunction, conjunction_compat, pasted
from sfumato.checkpoints.load import Parts
from sfumato.core.attention import AttentionCall, AttentionEdit, Site
from sfumato.core.branch import Branch, Guided
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.processor import EditableProcessor
from sfumato.core.sample import sample
from sfumato.encoders.text import EncodedText, Span, TextEncoder
from tests.parts import Flatten, Sharpen, branch, made, scaled_linear, start, tiny_model
from tests.tiny import TEXT_WIDTH

LEVEL = scaled_linear().at(torch.tensor(400.0))
PROMPTS = ["a red hat and a blue cat", "a photo of two scarlet dogs on a burgundy car", "apple"]
PHRASES = ("a red hat", "a blue cat", "two scarlet dogs", "two scarlet dogs on a burgundy car", "a burgundy car")
VARIANTS = ("average", "conjunction", "conjunction-compat", "conjunction-released")


def phrases(text: str) -> tuple[Span, ...]:
    """A parser that knows ``PHRASES``."""
    return tuple(match.span() for phrase in PHRASES for match in re.finditer(rf"\b{phrase}\b", text))


def tokens_of(text: EncodedText) -> Tensor:
    assert text.condition.tokens is not None
    return text.condition.tokens


def found_in(text: EncodedText, image: int, span: Span) -> list[int]:
    """The tokens of a prompt that overlap a span."""
    return [i for i, (a, b) in enumerate(text.spans[image]) if max(a, span[0]) < min(b, span[1])]


def test_rows_of_a_phrase_are_its_own_and_all_others_the_prompts(encoder: TextEncoder) -> None:
    """Words of several tokens included: "scarlet", "dogs" and "burgundy" are divided by both tokenizers."""
    text = encoder(PROMPTS)
    plain = tokens_of(text).clone()
    spans = [concepts(prompt, phrases(prompt)) for prompt in PROMPTS]
    states = pasted(encoder, text, spans)
    assert states.copies.shape[:2] == (3, 3) and [len(each) for each in spans] == [2, 3, 0]
    for image, each in enumerate(spans):
        for place, (first, last) in enumerate(each):
            alone = encoder([PROMPTS[image][first:last]])
            inside = found_in(text, image, (first, last))
            own = [index for index, (a, b) in enumerate(alone.spans[0]) if b > a]
            wanted = plain[image].clone()
            wanted[inside] = tokens_of(alone)[0, own]
            torch.testing.assert_close(states.copies[image, place], wanted, rtol=0, atol=1e-5)
            outside = [index for index in range(len(wanted)) if index not in inside]
            assert torch.equal(states.copies[image, place, outside], plain[image, outside])
            assert states.rows[image, place].nonzero().flatten().tolist() == inside
            if first > 0:  # CLIP reads from left to right: what begins a prompt knows of nothing else
                assert (states.copies[image, place, inside] - plain[image, inside]).abs().max() > 1e-3
    scarlet = text.find("scarlet", image=1)
    assert len(scarlet) > 1 and states.rows[1, 0, scarlet].all()
    assert states.parts.flatten().tolist() == [3, 4, 1]
    assert torch.equal(states.copies[2], plain[2].expand(3, -1, -1)) and torch.equal(states.copies[0, 2], plain[0])
    assert torch.equal(tokens_of(text), plain), "the prompts' states were written to"


def test_all_phrases_pasted_inner_ones_last(encoder: TextEncoder) -> None:
    text = encoder(PROMPTS[1:2])
    spans = concepts(PROMPTS[1], phrases(PROMPTS[1]))
    assert [PROMPTS[1][a:b] for a, b in spans] == [PHRASES[3], PHRASES[2], PHRASES[4]]
    states = pasted(encoder, text, [spans])
    dogs, on, car = (text.find(words) for words in ("two scarlet dogs", "on", "a burgundy car"))
    assert torch.equal(states.whole[0, dogs], states.copies[0, 1, dogs])
    assert torch.equal(states.whole[0, on], states.copies[0, 0, on])
    assert torch.equal(states.whole[0, car], states.copies[0, 2, car])
    rest = ~states.rows[0].any(0)
    assert torch.equal(states.whole[0, rest], states.plain[0, rest])


def test_pieces_of_one_character_are_taken_in_order(encoder: TextEncoder) -> None:
    """Byte-level tokens of an accented letter or an emoji stand for the same character."""
    prompt = "a red café 🍎 and a hat"
    text, alone = encoder([prompt]), encoder([prompt[2:12]])
    states = pasted(encoder, text, [[(2, 12)]])
    inside = found_in(text, 0, (2, 12))
    own = [index for index, (a, b) in enumerate(alone.spans[0]) if b > a]
    assert len(inside) == len(own)
    torch.testing.assert_close(states.copies[0, 0, inside], tokens_of(alone)[0, own], rtol=0, atol=1e-5)


def test_a_word_that_is_divided_otherwise_keeps_the_prompts_row(encoder: TextEncoder) -> None:
    """A span that ends inside "cats": to CLIP's tokenizer "cat" and the beginning of "cats" are not the same token."""
    text, alone = encoder(["two blue cats and a hat"]), encoder(["two blue cat"])
    states = pasted(encoder, text, [[(0, 12)]])
    shared = [span in alone.spans[0] and span != (0, 0) for span in text.spans[0]]
    assert states.rows[0, 0].tolist() == shared
    assert states.rows[0, 0, text.find("two blue")].all() and not states.rows[0, 0, text.find("cats")].all()


def test_what_was_cut_is_named_and_left_out(encoder: TextEncoder) -> None:
    longest = encoder.encoders[0].longest
    prompt = "a red hat and " + "the " * (longest - 8) + "two blue cats on a dog"
    with pytest.warns(UserWarning, match="was cut"):
        text = encoder([prompt])
    dog = (prompt.index("a dog"), len(prompt))
    with pytest.warns(UserWarning, match="'a dog' has no token in the prompt"):
        states = pasted(encoder, text, [[(0, 9), dog]])
    assert states.copies.shape[1] == 1 and states.rows[0, 0].sum() == 3
    with pytest.warns(UserWarning, match="'a dog'"):
        assert pasted(encoder, text, [[dog]]).copies.shape[1] == 0
    part = prompt.index("two blue")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        states = pasted(encoder, text, [[(part, part + len("two blue cats"))]])
    assert 0 < states.rows[0, 0].sum() < len(encoder(["two blue cats"]).find("two blue cats"))


def test_phrases_that_count() -> None:
    text = " a red hat and a blue cat. "
    red, blue = (1, 10), (15, 25)
    assert concepts(text, [red, blue, red, (0, 11), (14, 25)]) == (blue, red)
    assert concepts(text, [(0, len(text)), (1, len(text) - 1), (1, len(text) - 2)]) == ()
    assert concepts(text, []) == ()
    for wrong in ((-1, 3), (3, 3), (5, 2), (20, 40), (10, 11)):
        with pytest.raises(ValueError, match="is none of the text"):
            concepts(text, [wrong])


def test_all_phrases_of_a_batch_are_encoded_in_one_call(encoder: TextEncoder) -> None:
    text, calls = encoder([*PROMPTS, PROMPTS[0]]), list[int]()
    handle = encoder.encoders[0].module.register_forward_pre_hook(lambda m, args: calls.append(len(args[0])))
    Structure(phrases)(encoder, text)
    handle.remove()
    assert calls == [5]


HIDDEN = Noise([50, 51])((2, 16, 32)).double()


def layer_of(model: Any) -> Any:
    return model.network.unet.mid_block.attentions[0].transformer_blocks[0].attn2


def random_states() -> Pasted:
    """Two random prompts with random phrases in random rows, one with three and one with two."""
    noise = Noise([0, 1])
    plain, others = noise((2, 5, TEXT_WIDTH)).double(), noise((2, 3, 5, TEXT_WIDTH)).double()
    rows = noise((2, 3, 5)) > 0.3
    rows[:, :, 0], rows[-1, -1] = True, False
    copies = torch.where(rows[..., None], others, plain[:, None])
    return Pasted(plain, torch.ones(2, 5, dtype=torch.bool), copies, rows)


def edited(layer: Any, context: Tensor, edit: AttentionEdit) -> Tensor:
    call = AttentionCall(((0, len(context), (edit,)),), (4, 4), torch.tensor(0.7))
    return layer(HIDDEN, encoder_hidden_states=context, call=call)


def by_hand(layer: Any, keys: Tensor, values: Tensor) -> Tensor:
    q, k, v = (
        each.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        for each in (layer.to_q(HIDDEN), layer.to_k(keys), layer.to_v(values))
    )
    found = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
    return layer.to_out[0](found.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_are_means_of_separate_attentions(variant: str) -> None:
    """(attention of the prompt + those of an image's own phrases) / (n + 1), each in a pass of its own."""
    layer, states = layer_of(tiny_model()), random_states()
    plain, whole, copies = states.plain, states.whole, states.copies.unbind(1)
    keys, values, edit = {
        "average": ([plain] * 4, [plain, *copies], average(states)),
        "conjunction": ([plain, *copies], [plain, *copies], conjunction(states)),
        "conjunction-compat": ([plain, *copies], [whole] * 4, conjunction_compat(states)),
        "conjunction-released": ([whole, *copies], [whole] * 4, conjunction_compat(states, released=True)),
    }[variant]
    first, *others = (by_hand(layer, *pair) for pair in zip(keys, values, strict=True))
    there = states.rows.any(-1).double()
    total = first + sum(there[:, index, None, None] * each for index, each in enumerate(others))
    torch.testing.assert_close(edited(layer, plain, edit), total / states.parts, rtol=0, atol=1e-12)
    assert edit.fused() == (variant == "average")


def test_a_change_of_one_phrase_is_linear() -> None:
    """W_1 + delta changes O by M delta W_v / (n + 1)."""
    layer, states = layer_of(tiny_model()), random_states()
    delta = Noise([70, 71])((2, 5, TEXT_WIDTH)).double() * states.rows[:, 0, :, None]
    copies = states.copies.clone()
    copies[:, 0] += delta
    moved = Pasted(states.plain, states.valid, copies, states.rows)
    change = edited(layer, states.plain, average(moved)) - edited(layer, states.plain, average(states))
    through = by_hand(layer, states.plain, delta) - layer.to_out[0].bias
    torch.testing.assert_close(change, through / states.parts, rtol=0, atol=1e-12)


def test_conjunction_with_the_prompts_keys_is_the_average() -> None:
    layer, states = layer_of(tiny_model()), random_states()
    many = conjunction(states)
    assert isinstance(many, Contexts)
    one_key = Contexts(states.plain[:, None].expand_as(many.keys), many.values, many.valid, many.shares)
    found = edited(layer, states.plain, one_key)
    torch.testing.assert_close(found, edited(layer, states.plain, average(states)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [average, conjunction, conjunction_compat])
def test_phrases_that_say_what_the_prompt_says_change_nothing(make: Callable[[Pasted], AttentionEdit]) -> None:
    layer, states = layer_of(tiny_model()), random_states()
    same = Pasted(states.plain, states.valid, states.plain[:, None].expand_as(states.copies), states.rows)
    plain = by_hand(layer, states.plain, states.plain)
    torch.testing.assert_close(edited(layer, states.plain, make(same)), plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_its_branch_alone_and_bit_for_bit_plain_without_phrases(variant: Any, encoder: TextEncoder) -> None:
    model, text, none = tiny_model(), encoder(PROMPTS[:2]), branch(0)
    condition = text.condition.to(torch.float64)
    before = model(start(), LEVEL, [none, Branch(condition)])
    for parser in (phrases, lambda each: (), lambda each: ((0, len(each)),)):
        edit = Structure(parser, variant)(encoder, text)
        after = model(start(), LEVEL, [none, Branch(condition, (edit,))])
        torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-10)
        assert edit.active(LEVEL) == (parser is phrases)
        assert (after[1] - before[1]).abs().max() > 1e-4 if parser is phrases else torch.equal(after[1], before[1])


def test_an_image_without_phrases_keeps_its_values_bit_for_bit(encoder: TextEncoder) -> None:
    text, site = encoder(PROMPTS), Site("cross", (4, 4), slice(None), slice(None), EditableProcessor("attn2"))
    tokens = tokens_of(text)
    keys, values = Structure(phrases)(encoder, text).context(tokens, tokens, site)
    assert torch.equal(keys, tokens) and torch.equal(values[2], tokens[2])
    assert not torch.equal(values[0], tokens[0]) and not torch.equal(values[1], tokens[1])


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_image_has_the_same_in_any_batch(variant: Any, encoder: TextEncoder) -> None:
    """Two, three and no phrases in one batch; for BERT also texts of different lengths, and a longer branch beside."""
    model, text, long = tiny_model(), encoder(PROMPTS), branch(5, 3, tokens=30)
    edit = Structure(phrases, variant)(encoder, text)
    three, _ = model(start(3), LEVEL, [Branch(text.condition.to(torch.float64), (edit,)), long])
    for index in range(3):
        alone = encoder(PROMPTS[index : index + 1])
        one = Branch(alone.condition.to(torch.float64), (Structure(phrases, variant)(encoder, alone),))
        (found,) = model(start(1, first_seed=index), LEVEL, [one])
        torch.testing.assert_close(three[index : index + 1], found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_with_other_edits_on_one_branch(variant: Any, encoder: TextEncoder) -> None:
    text, recorder, model = encoder(PROMPTS[:2]), MapRecorder(), tiny_model()
    edits = (Structure(phrases, variant)(encoder, text), Sharpen(), Flatten(), recorder)
    words = Branch(text.condition.to(torch.float64), edits)
    none, path = branch(0), trailing(scaled_linear(), 2)
    found = sample(Guided(model, none + 3.0 * (words - none)), start(), path, noise=Noise([0, 1]))
    assert found.isfinite().all()
    torch.testing.assert_close(recorder.maps(8, 8).sum(1), torch.ones(2, 8, 8, dtype=torch.float64))


@pytest.mark.parametrize("variant", VARIANTS)
def test_pictures(variant: Any, parts: Parts) -> None:
    settings = {"steps": 2, "edits": (Structure(phrases, variant),)}
    plain = made(parts, PROMPTS, [1, 2, 3], steps=2, guidance=4.0)
    found = made(parts, PROMPTS, [1, 2, 3], guidance=4.0, **settings)
    assert found.isfinite().all() and (found - plain)[:2].abs().amax(dim=(1, 2, 3)).min() > 1e-4
    torch.testing.assert_close(found[2], plain[2], rtol=0, atol=1e-4)
    alone = made(parts, PROMPTS[1:2], [2], guidance=4.0, **settings)
    torch.testing.assert_close(found[1:2], alone, rtol=0, atol=1e-4)
    without = made(parts, PROMPTS, [1, 2, 3], guidance=0.0, steps=2)
    assert torch.equal(made(parts, PROMPTS, [1, 2, 3], guidance=0.0, **settings), without)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of average"):
        Structure(phrases, "paste")  # type: ignore[arg-type]
