"""Loading encoders of pictures and words: parity with transformers, fingerprints, and a sentence for what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers.models.clip.configuration_clip import CLIPConfig
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.clip.modeling_clip import CLIPModel
from transformers.models.clip.processing_clip import CLIPProcessor

from sfumato.checkpoints.joint import load_joint
from sfumato.checkpoints.load import load, load_pictures
from sfumato.checkpoints.safety import CheckpointError
from sfumato.core.image import from_pictures
from sfumato.core.noise import Noise
from sfumato.encoders.image import sentences
from tests.tiny import seeded, tiny_clip, tiny_clip_tokenizer, write_emoji, write_sd1

SIDE, WIDTH = 32, 24
IMAGES = (Noise([1, 2])((2, 3, SIDE, SIDE)) / 3).clamp(-1, 1)
TEXTS = ["a red hat", "the cat on the dog " * 40]


def write_clip(folder: Path) -> Path:
    """A folder as a model and its processor were published for years: preprocessor_config.json, vocab.json."""
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=tiny_clip().config.to_dict(),
        vision_config={**vision, "image_size": SIDE, "patch_size": 8},
        projection_dim=WIDTH,
    )
    with seeded(7):
        model = CLIPModel(config)
    tiny_clip_tokenizer(folder)
    model.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("originals")
    return {"clip": write_clip(folder / "clip"), "emoji": write_emoji(folder / "emoji")}


@pytest.fixture
def clip(originals: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(originals["clip"], tmp_path / "clip"))


@pytest.fixture
def emoji(originals: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(originals["emoji"], tmp_path / "emoji"))


def edit(path: Path, **changes: Any) -> None:
    """Change settings; ... takes one away."""
    table = {**(json.loads(path.read_text()) if path.is_file() else {}), **changes}
    path.write_text(json.dumps({name: value for name, value in table.items() if value is not ...}))


def nudge(path: Path, name: str) -> None:
    """Change the last number of a tensor in a file by the least that its dtype knows."""
    tensors = load_file(path)
    last = tensors[name].view(-1)[-1:]
    last.copy_(torch.nextafter(last, last + 1))
    save_file(tensors, path, metadata={"format": "pt"})


def refused(folder: Path | str, sentence: str, read: Callable[[Any], object] = load_joint) -> None:
    with pytest.raises(CheckpointError, match=sentence) as raised:
        read(folder)
    assert "\n" not in str(raised.value)


def test_a_clip_is_that_of_transformers(clip: Path) -> None:
    encoder, model, processor = load_joint(clip), CLIPModel.from_pretrained(clip), CLIPProcessor.from_pretrained(clip)
    pictures = [
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)) for seed in (0, 1)
    ]
    given: Any = processor(text=TEXTS, images=pictures, return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        images = model.get_image_features(pixel_values=given["pixel_values"]).pooler_output
        words = model.get_text_features(given["input_ids"], given["attention_mask"]).pooler_output
    assert torch.allclose(encoder.pictures(from_pictures(pictures)), images, rtol=1e-6, atol=1e-6)
    assert torch.allclose(encoder.words(TEXTS), words, rtol=1e-6, atol=1e-6)
    assert (encoder.name, encoder.width, encoder.side, encoder.normalised) == ("clip", WIDTH, SIDE, False)
    assert not encoder.pictures(IMAGES).requires_grad


def test_a_folder_that_transformers_writes_today(clip: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    CLIPModel.from_pretrained(clip).save_pretrained(new, max_shard_size="50KB")
    CLIPProcessor.from_pretrained(clip).save_pretrained(new)
    assert (new / "processor_config.json").is_file() and not (new / "preprocessor_config.json").is_file()
    assert len(list(new.glob("model-*.safetensors"))) > 1
    assert torch.equal(load_joint(new).pictures(IMAGES), load_joint(clip).pictures(IMAGES))
    assert torch.equal(load_joint(new).words(TEXTS), load_joint(clip).words(TEXTS))
    edit(new / "processor_config.json", image_processor={"size": {"shortest_edge": SIDE - 1}})
    refused(new, "a picture resized to 31 pixels cannot be cut to 32")


def test_half_precision(clip: Path) -> None:
    half, whole = load_joint(clip, torch.bfloat16), load_joint(clip)
    assert half.pictures(IMAGES).dtype == torch.float32 and half.fingerprint == whole.fingerprint
    assert torch.cosine_similarity(half.pictures(IMAGES), whole.pictures(IMAGES)).min() > 0.999


def test_a_checkpoint_with_pictures(emoji: Path) -> None:
    encoder, pictures = load_joint(emoji), load_pictures(emoji)
    assert pictures is not None
    assert torch.equal(encoder.pictures(IMAGES), pictures(IMAGES).detach())
    assert torch.equal(encoder.words(["a red hat"]), sentences(load(emoji).text, ["a red hat"]))
    assert (encoder.name, encoder.width, encoder.side, encoder.normalised) == ("emoji", 32, 64, True)
    assert not encoder.pictures(IMAGES).requires_grad


def test_the_embedded_one() -> None:
    encoder = load_joint("emoji")
    assert (encoder.name, encoder.width, encoder.side, encoder.normalised) == ("emoji", 384, 64, True)


@pytest.mark.parametrize("name", ["clip", "emoji"])
def test_fingerprints_do_not_know_the_place(originals: dict[str, Path], tmp_path: Path, name: str) -> None:
    here = load_joint(originals[name]).fingerprint
    folder = Path(shutil.copytree(originals[name], tmp_path / "elsewhere" / "another-name"))
    assert load_joint(folder).name == "another-name"
    for file in ("README.md", "training.json", "pytorch_model.bin"):
        (folder / file).write_text("{}")
    assert load_joint(folder).fingerprint == here
    assert len(here) == 16 and set(here) <= set("0123456789abcdef")


@pytest.mark.parametrize("tensor", ["logit_scale", "text_projection.weight", "vision_model.post_layernorm.bias"])
def test_fingerprints_know_each_weight_of_a_clip(clip: Path, tensor: str) -> None:
    before = load_joint(clip).fingerprint
    nudge(clip / "model.safetensors", tensor)
    assert load_joint(clip).fingerprint != before


def test_fingerprints_know_settings_and_words(clip: Path) -> None:
    seen = [load_joint(clip).fingerprint]
    edit(clip / "preprocessor_config.json", resample=2)
    seen.append(load_joint(clip).fingerprint)
    edit(clip / "tokenizer_config.json", do_lower_case=False)
    seen.append(load_joint(clip).fingerprint)
    assert len(set(seen)) == 3


def test_fingerprints_know_the_encoders_of_a_checkpoint_and_not_its_network(emoji: Path) -> None:
    before = load_joint(emoji).fingerprint
    nudge(emoji / "unet/diffusion_pytorch_model.safetensors", "conv_in.bias")
    assert load_joint(emoji).fingerprint == before
    nudge(emoji / "pictures/model.safetensors", "visual_projection.weight")
    between = load_joint(emoji).fingerprint
    nudge(emoji / "text_encoder/model.safetensors", "embeddings.word_embeddings.weight")
    assert len({before, between, load_joint(emoji).fingerprint}) == 3


def test_settings_for_pictures(clip: Path) -> None:
    whole = load_joint(clip).pictures(IMAGES)
    edit(clip / "preprocessor_config.json", size=SIDE, crop_size=SIDE, image_mean=..., image_std=..., resample=...)
    assert torch.equal(load_joint(clip).pictures(IMAGES), whole), "as CLIP was first published"
    edit(clip / "preprocessor_config.json", size={"height": SIDE, "width": SIDE})
    assert torch.equal(load_joint(clip).pictures(IMAGES), whole)
    (clip / "preprocessor_config.json").unlink()
    assert torch.equal(load_joint(clip).pictures(IMAGES), whole), "CLIP's own are the default"
    edit(clip / "preprocessor_config.json", do_normalize=False)
    plain = load_joint(clip).pictures(IMAGES)
    edit(clip / "preprocessor_config.json", do_normalize=True, image_mean=[0, 0, 0], image_std=[1, 1, 1])
    assert torch.equal(load_joint(clip).pictures(IMAGES), plain) and not torch.equal(plain, whole)


def test_attention_that_a_file_asks_for_is_not_fetched(clip: Path) -> None:
    whole = load_joint(clip).pictures(IMAGES)
    table = json.loads((clip / "config.json").read_text())
    asked = {"attn_implementation": "kernels-community/any", "_attn_implementation": "kernels-community/any"}
    edit(clip / "config.json", **asked, vision_config={**table["vision_config"], **asked})
    assert torch.equal(load_joint(clip).pictures(IMAGES), whole)


def test_folders_that_are_neither(tmp_path: Path, clip: Path) -> None:
    refused(tmp_path / "nothing", "there is no folder")
    refused("openai/clip-vit-base-patch32", "download its folder first")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "is a file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty embeds no pictures and words: it has neither the model_index.json of a check")
    refused(write_sd1(tmp_path / "sd1"), "the checkpoint sd1 has no part pictures; give the folder of a CLIP instead")
    for kind in ("siglip", "clip_text_model", None, ["clip"], ...):
        edit(clip / "config.json", model_type=kind)
        refused(clip, "clip is of the kind .*; known is 'clip'")


def test_weights_that_are_broken(clip: Path) -> None:
    weights = clip / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    refused(clip, "is cut short")
    save_file({**load_file_of(whole), "more": torch.zeros(1)}, weights)
    refused(clip, "clip holds 'more', which its config.json does not know")
    save_file({name: value for name, value in load_file_of(whole).items() if name != "logit_scale"}, weights)
    refused(clip, "clip lacks 'logit_scale'")
    torch.save({"a": torch.zeros(2)}, weights)
    refused(clip, "is a pickle under a safetensors name")
    weights.rename(clip / "model.bin")
    refused(clip, "clip has no weights: model.safetensors is missing .*model.bin is a pickle")


def load_file_of(content: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load as tensors_of

    return tensors_of(content)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"text_config": {"hidden_size": "wide"}}, "describes no CLIP that can be built"),
        ({"vision_config": 7}, "describes no CLIP that can be built"),
        ({"vision_config": {"image_size": 10**15}}, "describes no CLIP that can be built"),
        ({"projection_dim": 7}, "in another shape than its config.json asks for"),
    ],
)
def test_settings_that_describe_no_clip(clip: Path, changes: dict[str, Any], sentence: str) -> None:
    edit(clip / "config.json", **changes)
    refused(clip, sentence)


def test_words_that_cannot_be_read(clip: Path) -> None:
    for longest in (2, 0, -1, "long"):
        edit(clip / "tokenizer_config.json", model_max_length=longest)
        refused(clip, "clip")
    edit(clip / "tokenizer_config.json", model_max_length=2)
    refused(clip, "the parts of clip do not belong together: it takes texts of 2 tokens")
    (clip / "vocab.json").write_text("[")
    refused(clip, "the tokenizer of clip cannot be read")
    (clip / "vocab.json").unlink()
    refused(clip, "clip has no vocabulary: tokenizer.json and vocab.json are missing")


def test_words_of_another_network(clip: Path) -> None:
    """Its vectors would be read where no text ends: all texts would have the same."""
    table = json.loads((clip / "config.json").read_text())
    edit(clip / "config.json", text_config={**table["text_config"], "eos_token_id": 7})
    refused(clip, "ends texts with the token 551, and its network looks for 7")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"crop_size": 16}, "a picture resized to 32 pixels cannot be|are cut to 16 pixels, and its network sees 32"),
        ({"crop_size": {"height": 32, "width": 16}}, "is no size of a square"),
        ({"crop_size": [32]}, "is no size of a square"),
        ({"size": {}}, "is no size of a square"),
        ({"size": {"shortest_edge": True}}, "True is no size of a square"),
        ({"size": {"shortest_edge": {"height": []}}}, "is no size of a square"),
        ({"size": {"height": 64, "width": 64}}, "pressed to the size .*, and the network sees 32"),
        ({"size": 10**400}, "cannot be cut to 32"),
        ({"resample": 1}, "the filter 1; known are 2"),
        ({"resample": {}}, "the filter"),
        ({"image_mean": 0.5}, "no value for each of red, green and blue"),
        ({"image_mean": [0.5, 0.5, "x"]}, "no value for each of red, green and blue"),
        ({"image_mean": [10**400, 0, 0]}, "settings of clip for pictures cannot be used"),
        ({"image_std": [0, 1, 1]}, "colours cannot have"),
        ({"image_std": [float("nan"), 1, 1]}, "colours cannot have"),
    ],
)
def test_settings_for_pictures_that_cannot_be_used(clip: Path, changes: dict[str, Any], sentence: str) -> None:
    edit(clip / "preprocessor_config.json", **changes)
    refused(clip, sentence)


def test_parts_of_a_checkpoint_that_do_not_belong_together(emoji: Path) -> None:
    path = emoji / "pictures"
    edit(path / "config.json", projection_dim=16)
    tensors = load_file(path / "model.safetensors")
    save_file({**tensors, "visual_projection.weight": torch.zeros(16, 32)}, path / "model.safetensors")
    refused(emoji, "the parts of emoji do not belong together: its words have vectors of length 32 and its pictures of")
    shutil.rmtree(emoji / "tokenizer")
    refused(emoji, "the part tokenizer, which model_index.json lists, is missing")
