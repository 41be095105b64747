"""Pictures and words: transformers' CLIP on the same pixels and tokens, the embedded encoder on its own captions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers.models.clip.configuration_clip import CLIPConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.clip.modeling_clip import CLIPModel

from sfumato.checkpoints.load import load, load_pictures
from sfumato.core.image import from_pictures
from sfumato.core.noise import Noise
from sfumato.encoders.clip import ClipPair, ClipPixels, of_clip
from sfumato.encoders.image import PictureEncoder, picture_tokens, sentences
from sfumato.encoders.joint import JointEncoder, NeighbourTokens, embedded_tokens, of_minilm
from sfumato.encoders.text import TextEncoder, TokenEncoder
from sfumato.world.scene import draw
from sfumato.world.store import open_world
from tests.tiny import seeded, tiny_bert, tiny_bert_tokenizer, tiny_clip, tiny_clip_tokenizer, tiny_picture_encoder

SIDE, WIDTH = 32, 24
TEXTS = ("a red hat", "", "zebra!", "the cat on the dog " * 40, "Das Bärenfell 🐻")


def tiny_clip_model(**text: Any) -> CLIPModel:
    """A random CLIP of 32 x 32 pictures and vectors of length 24."""
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**tiny_clip().config.to_dict(), **text},
        vision_config={**vision, "image_size": SIDE, "patch_size": 8},
        projection_dim=WIDTH,
    )
    with seeded(7):
        model = CLIPModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.mul_(5)
    return model


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> ClipPair:
    return ClipPair(
        tiny_clip_model(), tiny_clip_tokenizer(tmp_path_factory.mktemp("clip")), ClipPixels(SIDE, edge=SIDE)
    )


@pytest.fixture(scope="module")
def emoji() -> JointEncoder:
    pictures = load_pictures("emoji")
    assert pictures is not None
    return of_minilm(load("emoji").text, pictures, "emoji", "0" * 16)


def processor(**settings: Any) -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(**{"size": {"shortest_edge": SIDE}, "crop_size": SIDE, **settings})


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Large forms with hard edges, and some noise."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 7, 3), np.uint8)).resize((width, height), Image.Resampling.BOX)
    noisy = np.asarray(coarse).astype(int) + random.integers(-20, 20, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def of_transformers(pair: ClipPair, pictures: list[Image.Image], **settings: Any) -> Tensor:
    pixels = processor(**settings)(pictures, return_tensors="pt")["pixel_values"]
    return pair.module.get_image_features(pixel_values=pixels).pooler_output


def test_pictures_are_those_of_transformers(pair: ClipPair) -> None:
    pictures = [picture(SIDE, SIDE, seed) for seed in range(3)]
    ours, theirs = pair.pictures(from_pictures(pictures)), of_transformers(pair, pictures)
    assert ours.shape == (3, WIDTH) and ours.dtype == torch.float32
    assert theirs.std(0).min() > 0.01, "three pictures that differ"
    assert torch.allclose(ours, theirs, atol=1e-6 * float(theirs.abs().max()), rtol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (45, 45), (16, 16), (40, 71), (71, 40), (20, 33)])
def test_resized_pictures_differ_by_what_pillow_rounds(pair: ClipPair, size: tuple[int, int]) -> None:
    """Pillow rounds to 8 bits after each of its two passes; its picture is ours to within a level or so."""
    one = picture(*size)
    level = 1 / 255 / min(pair.pixels.std)
    theirs = processor()([one], return_tensors="pt")["pixel_values"]
    ours = pair.pixels(from_pictures([one]))
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1.2 * level
    assert (ours - theirs).abs().mean() <= 0.35 * level
    cosine = torch.cosine_similarity(pair.pictures(from_pictures([one])), of_transformers(pair, [one]))
    assert cosine.min() > 0.999


def test_settings_of_pixels(pair: ClipPair) -> None:
    one = picture(50, 60)
    settings = {"size": {"shortest_edge": 40}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.5, 1], "resample": 2}
    wanted = processor(**settings)([one], return_tensors="pt")["pixel_values"]
    pixels = ClipPixels(SIDE, 40, (0.5, 0.4, 0.3), (0.5, 0.5, 1.0), "bilinear")
    assert (pixels(from_pictures([one])) - wanted).abs().max() <= 1.2 / 255 / 0.5
    pressed = processor(size={"height": SIDE, "width": SIDE})([one], return_tensors="pt")["pixel_values"]
    level = 1 / 255 / min(pair.pixels.std)
    assert (ClipPixels(SIDE, edge=None)(from_pictures([one])) - pressed).abs().max() <= 1.2 * level


def test_a_picture_as_long_as_a_ribbon_is_seen_in_its_middle(pair: ClipPair) -> None:
    """Whole, it would be resized to 32 x 640000 pixels."""
    ribbon = torch.rand(1, 3, 2, 40_000) * 2 - 1
    assert torch.equal(pair.pixels(ribbon), pair.pixels(ribbon[..., 19_992:20_008]))


def test_words_are_those_of_transformers(pair: ClipPair) -> None:
    theirs = [
        pair.module.get_text_features(
            **pair.tokenizer([text], padding=True, truncation=True, return_tensors="pt")
        ).pooler_output
        for text in TEXTS
    ]
    ours = pair.words(TEXTS)
    assert ours.shape == (len(TEXTS), WIDTH) and ours.dtype == torch.float32
    assert torch.allclose(ours, torch.cat(theirs), rtol=1e-5, atol=1e-6 * float(ours.abs().max()))
    assert len(torch.unique(ours, dim=0)) == len(TEXTS)
    assert torch.equal(pair.words(TEXTS, batch=2), torch.cat([pair.words(TEXTS[i : i + 2]) for i in (0, 2, 4)]))


def test_the_end_that_old_settings_give(pair: ClipPair) -> None:
    old = ClipPair(tiny_clip_model(eos_token_id=2), pair.tokenizer, pair.pixels)
    assert torch.equal(old.words(TEXTS), pair.words(TEXTS))


def test_a_clip_is_an_encoder(pair: ClipPair) -> None:
    encoder = of_clip(pair, "mine", "0123456789abcdef")
    assert (encoder.name, encoder.fingerprint, encoder.width, encoder.side) == ("mine", "0123456789abcdef", WIDTH, SIDE)
    images = from_pictures([picture(40, 40)])
    assert not encoder.normalised and abs(float(encoder.pictures(images).norm()) - 1) > 0.1
    assert torch.equal(encoder.pictures(images), pair.pictures(images))
    assert torch.equal(encoder.words(["a hat"]), pair.words(["a hat"]))
    assert len(repr(encoder)) < 200


def test_parts_that_do_not_belong_together(pair: ClipPair) -> None:
    with pytest.raises(ValueError, match="are cut to 16 pixels, and its network sees 32"):
        ClipPair(pair.module, pair.tokenizer, ClipPixels(16, 16))
    with pytest.raises(ValueError, match="tokenizer has 552 tokens, and its network 500"):
        ClipPair(tiny_clip_model(vocab_size=500), pair.tokenizer, pair.pixels)
    with pytest.raises(ValueError, match="ends texts with the token 551, and its network looks for 7"):
        ClipPair(tiny_clip_model(eos_token_id=7), pair.tokenizer, pair.pixels)
    short = TextEncoder((TokenEncoder(pair.tokenizer, tiny_clip(hidden_size=16)),))
    with pytest.raises(ValueError, match="words have vectors of length 16 and its pictures of length 32"):
        of_minilm(short, PictureEncoder(tiny_picture_encoder()), "x", "0" * 16)


@pytest.mark.parametrize(
    "settings",
    [
        {"side": 0, "edge": 0},
        {"side": 32, "edge": 31},
        {"side": 32, "edge": 10**9},
        {"side": 32, "edge": 32, "std": (0.0, 1.0, 1.0)},
        {"side": 32, "edge": 32, "mean": (float("nan"), 0.0, 0.0)},
    ],
)
def test_pixels_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot"):
        ClipPixels(**settings)


@pytest.mark.parametrize("name", ["pair", "emoji"])
def test_what_both_encoders_do(name: str, request: pytest.FixtureRequest) -> None:
    """Gradients reach the pictures and only them; no picture or text depends on its neighbours; refusals."""
    found = request.getfixturevalue(name)
    encoder = of_clip(found, "mine", "0" * 16) if name == "pair" else found
    images = (Noise([1, 2, 3])((3, 3, 48, 48)) / 3).clamp(-0.99, 0.99).requires_grad_()
    vectors = encoder.pictures(images)
    assert vectors.shape == (3, encoder.width)
    (gradient,) = torch.autograd.grad(vectors[1, 0], images)
    assert gradient[1].abs().max() > 0 and not gradient[0].any() and not gradient[2].any()
    slack = 1e-5 * float(vectors.detach().abs().max())
    assert torch.allclose(encoder.pictures(images[1:2]), vectors[1:2], rtol=1e-5, atol=slack)
    texts = ["a red hat", "a blue car on the apple and the dog", "bird"]
    words = encoder.words(texts)
    assert not words.requires_grad
    assert torch.allclose(encoder.words(texts[2:]), words[2:], rtol=1e-5, atol=1e-5 * float(words.abs().max()))
    for wrong in ("a red hat", []):
        with pytest.raises(ValueError, match="a list of one or more texts"):
            encoder.words(wrong)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 4, 32, 32)])
def test_tensors_that_are_no_pictures(pair: ClipPair, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="pictures must be"):
        pair.pictures(torch.zeros(shape))


def test_sentences_are_the_words_of_a_checkpoint(tmp_path: Path) -> None:
    text = TextEncoder((TokenEncoder(tiny_bert_tokenizer(tmp_path), tiny_bert(), whole_length=False),))
    pictures = PictureEncoder(tiny_picture_encoder().requires_grad_(False))
    encoder = of_minilm(text, pictures, "mine", "0" * 16)
    assert (encoder.width, encoder.side, encoder.normalised) == (32, 64, True)
    images, texts = from_pictures([picture(40, 40)]), ["a red hat", "two dogs"]
    assert torch.equal(encoder.pictures(images), pictures(images))
    assert torch.equal(encoder.words(texts), sentences(text, texts))


def test_scenes_are_nearest_to_their_captions(emoji: JointEncoder) -> None:
    """Scenes of the world of different concepts."""
    world = open_world("sample")
    scenes = [draw(world, 0, index) for index in (0, 1, 2, 3, 4, 5, 7)]
    images = from_pictures([Image.fromarray(scene.image) for scene in scenes])
    with torch.no_grad():
        vectors, words = emoji.pictures(images), emoji.words([scene.caption for scene in scenes])
    cosines = vectors @ words.T
    assert cosines.argmax(1).tolist() == cosines.argmax(0).tolist() == list(range(len(scenes)))
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(scenes)), atol=1e-6)


def test_neighbours_as_tokens() -> None:
    vectors = Noise([3])((1, 4, 6)) * 5
    lengths = vectors.norm(dim=-1, keepdim=True)
    assert torch.equal(NeighbourTokens(normalised=False)(vectors), vectors), "the paper's released models"
    assert torch.allclose(NeighbourTokens()(vectors), vectors / lengths, rtol=1e-6), "knn2img and diffusers"
    assert torch.allclose(NeighbourTokens(scale=3.0)(vectors * 7), 3 * vectors / lengths, rtol=1e-6)
    assert torch.allclose(NeighbourTokens(normalised=False, scale=0.5)(vectors), vectors / 2, rtol=1e-6)
    blank = NeighbourTokens().null(vectors)
    assert torch.equal(blank, torch.zeros(1, 4, 6)) and torch.equal(NeighbourTokens()(blank), blank)


def test_the_embedded_checkpoint_takes_what_picture_tokens_makes() -> None:
    unit = torch.nn.functional.normalize(Noise([3, 4])((2, 4, 384)), dim=-1)
    tokens = embedded_tokens(384)
    assert torch.allclose(tokens(unit), picture_tokens(unit), rtol=1e-6, atol=1e-7)
    assert torch.allclose(tokens(unit.half().float() * 2), picture_tokens(unit), atol=1e-3)
    assert tokens == NeighbourTokens(normalised=True, scale=384**0.5 / 2, alone=False)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf"), 10**400])
def test_scales_that_cannot_be(scale: float) -> None:
    with pytest.raises(ValueError, match="the scale of neighbours must lie in"):
        NeighbourTokens(scale=scale)
