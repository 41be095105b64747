"""Loading: what is accepted in which form, and one sentence for everything that is wrong."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfumato.checkpoints.load import EMBEDDED, load
from sfumato.checkpoints.safety import CheckpointError
from sfumato.core.noise import Noise
from tests.tiny import write_emoji, write_sd1, write_sd2, write_sdxl

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("originals")
    writers = {"sd1": write_sd1, "sd2": write_sd2, "sdxl": write_sdxl, "emoji": write_emoji}
    return {name: write(folder / name) for name, write in writers.items()}


@pytest.fixture
def sd1(originals: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(originals["sd1"], tmp_path / "sd1"))


def edit_json(path: Path, **changes: Any) -> None:
    value = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in value.items() if value is not ...}))


def edit_tensors(path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(path)), path)


def refused(folder: Path, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence) as raised:
        load(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "prediction", "sized", "width"),
    [("sd1", "noise", False, 32), ("sd2", "v", False, 32), ("sdxl", "noise", True, 64), ("emoji", "v", False, 32)],
)
def test_kinds(originals: dict[str, Path], name: str, prediction: str, sized: bool, width: int) -> None:
    parts = load(originals[name])
    assert parts.network.prediction == prediction and parts.network.sized == sized
    assert parts.size == (32, 32) and parts.codec.shape(*parts.size) == (4, 16, 16)
    assert parts.name == name
    tokens = parts.text(["a red hat"]).condition.tokens
    assert tokens is not None and tokens.shape[2] == width
    assert not parts.network.unet.training
    assert next(parts.network.unet.parameters()).dtype == torch.float32


def test_the_end_of_the_path_is_the_published_one(originals: dict[str, Path]) -> None:
    table = load(originals["sd1"]).model.schedule.alphas_cumprod  # type: ignore[attr-defined]
    assert load(originals["sd1"]).model.schedule.end.alpha ** 2 == table[0]
    assert load(originals["emoji"]).model.schedule.end.alpha == 1


def test_weights_are_those_of_the_file(originals: dict[str, Path]) -> None:
    unet = load(originals["sd1"]).network.unet
    written = load_file(originals["sd1"] / UNET)
    assert all(torch.equal(value, written[name]) for name, value in unet.state_dict().items())
    assert not any(tensor.is_meta for tensor in [*unet.parameters(), *unet.buffers()])


def test_dtype_and_to(originals: dict[str, Path]) -> None:
    parts = load(originals["sd1"], torch.bfloat16)
    assert {p.dtype for p in parts.network.unet.parameters()} == {torch.bfloat16}
    assert parts.codec.vae.dtype == torch.bfloat16
    assert parts.text(["a hat"]).condition.tokens.dtype == torch.float32  # type: ignore[union-attr]
    assert parts.to(torch.float32) is parts and parts.network.dtype == torch.float32
    assert parts.device == torch.device("cpu")


@pytest.mark.parametrize(("force", "expected"), [(True, torch.float32), (False, torch.float16)])
def test_a_codec_that_overflows_stays_float32(sd1: Path, force: bool, expected: torch.dtype) -> None:
    edit_json(sd1 / "vae/config.json", force_upcast=force)
    parts = load(sd1, torch.float16)
    assert parts.codec.vae.dtype == expected and parts.network.dtype == torch.float16
    assert load(sd1).to(torch.float16).codec.vae.dtype == expected


def test_half_precision_files(sd1: Path) -> None:
    for path in (sd1 / UNET, sd1 / VAE, sd1 / TEXT):
        half = {name: value.half() for name, value in load_file(path).items()}
        save_file(half, path.with_suffix(".fp16.safetensors"))
        path.unlink()
    assert load(sd1).network.dtype == torch.float32


@pytest.mark.parametrize("variant", ["", ".fp16"])
def test_shards(sd1: Path, originals: dict[str, Path], variant: str) -> None:
    write_shards(sd1, lambda name, number: f"diffusion_pytorch_model{variant}-{number}.safetensors", variant)
    ours, whole = load(sd1).network.unet.state_dict(), load(originals["sd1"]).network.unet.state_dict()
    assert all(torch.equal(ours[name], whole[name]) for name in whole)


def write_shards(folder: Path, call: Callable[[str, int], str], variant: str = "") -> None:
    """Divide the U-Net's weights in two files with an index."""
    path = folder / UNET
    tensors = load_file(path)
    shard = {name: call(name, index % 2) for index, name in enumerate(sorted(tensors))}
    for file in set(shard.values()):
        if "/" not in file:
            save_file({name: tensors[name] for name in tensors if shard[name] == file}, path.parent / file)
    index = {"metadata": {}, "weight_map": shard}
    (path.parent / f"diffusion_pytorch_model.safetensors.index{variant}.json").write_text(json.dumps(index))
    path.unlink()


def test_names_of_older_files(sd1: Path, originals: dict[str, Path]) -> None:
    """Stable Diffusion 1.5 as published: a prefix and position ids in the text encoder, other names in the codec."""

    def older_text(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        renamed = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in tensors.items()}
        return {**renamed, "text_model.embeddings.position_ids": torch.arange(77)[None]}

    def older_vae(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        words = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        renamed = {}
        for name, value in tensors.items():
            for new, old in words.items():
                name = name.replace(f".{new}.", f".{old}.")
            renamed[name] = value
        return renamed

    edit_tensors(sd1 / TEXT, older_text)
    edit_tensors(sd1 / VAE, older_vae)
    assert any(".query." in name for name in load_file(sd1 / VAE))
    old, new = load(sd1), load(originals["sd1"])
    assert torch.equal(old.text(["a hat"]).condition.tokens, new.text(["a hat"]).condition.tokens)  # type: ignore[arg-type]
    x0 = Noise([1])((1, 4, 4, 4))
    assert torch.equal(old.codec.decode(x0), new.codec.decode(x0))


def test_bert_without_a_pooler(originals: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(originals["emoji"], tmp_path / "emoji"))
    edit_tensors(folder / TEXT, lambda tensors: {k: v for k, v in tensors.items() if "pooler" not in k})
    with_pooler, without = load(originals["emoji"]), load(folder)
    assert torch.equal(
        with_pooler.text(["a hat"]).condition.tokens,  # type: ignore[arg-type]
        without.text(["a hat"]).condition.tokens,  # type: ignore[arg-type]
    )


def test_parts_that_are_not_needed_are_left_alone(sd1: Path) -> None:
    index = sd1 / "model_index.json"
    edit_json(index, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"], odd=["here", "NotOurs"], no=7)
    (sd1 / "safety_checker").mkdir()
    (sd1 / "safety_checker" / "pytorch_model.bin").write_bytes(b"\x80\x04anything")
    assert load(sd1).size == (32, 32)


def test_names_that_are_no_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "there is no folder .*; the embedded ones are emoji")
    with pytest.raises(CheckpointError, match="download its folder first"):
        load("runwayml/stable-diffusion-v1-5")
    (tmp_path / "file.safetensors").touch()
    refused(tmp_path / "file.safetensors", "is a file; a checkpoint is a folder")
    refused(tmp_path, "model_index.json is missing")
    assert list(EMBEDDED) == ["emoji"]


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_missing_parts(sd1: Path, part: str) -> None:
    shutil.rmtree(sd1 / part)
    refused(sd1, f"the part {part}, which model_index.json lists, is missing")
    edit_json(sd1 / "model_index.json", **{part: ...})
    refused(sd1, f"model_index.json has no {part}")
    edit_json(sd1 / "model_index.json", **{part: [None, None]})
    refused(sd1, f"model_index.json has no {part}")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_unknown_classes(sd1: Path, part: str) -> None:
    edit_json(sd1 / "model_index.json", **{part: ["custom_code", "FluxTransformer2DModel"]})
    refused(sd1, f"{part} is of the class 'FluxTransformer2DModel'; known are")


def test_missing_unexpected_and_misshapen_tensors(sd1: Path) -> None:
    original = (sd1 / UNET).read_bytes()
    edit_tensors(sd1 / UNET, lambda tensors: {k: v for k, v in tensors.items() if k != "conv_in.weight"})
    refused(sd1, "unet lacks 'conv_in.weight', which its config.json asks for")
    (sd1 / UNET).write_bytes(original)
    edit_tensors(sd1 / UNET, lambda tensors: {**tensors, "more": torch.zeros(1), "most": torch.zeros(1)})
    refused(sd1, "unet holds 'more' and 1 more tensors, which its config.json does not know")
    (sd1 / UNET).write_bytes(original)
    edit_tensors(sd1 / UNET, lambda tensors: {**tensors, "conv_in.bias": torch.zeros(3)})
    refused(sd1, r"unet holds 'conv_in.bias' in another shape .*: \[3\] instead of \[16\]")


def test_quantised_weights_are_refused(sd1: Path) -> None:
    edit_tensors(sd1 / UNET, lambda tensors: {**tensors, "conv_in.weight": tensors["conv_in.weight"].to(torch.int8)})
    refused(sd1, "unet holds 'conv_in.weight' as I8, where floating-point numbers belong; quantised weights cannot")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"max_position_embeddings": 30_000_000},
            "its max_position_embeddings is 30000000, and its weights have 35200",
        ),
        ({"max_position_embeddings": 60_000}, r"it asks for Embedding.weight of shape \[60000, 32\], and its weights"),
        ({"hidden_size": 10**10}, "its hidden_size is 10000000000, and its weights have"),
        ({"num_hidden_layers": 1000}, "it asks for more than 172 tensors, and its weights are 36"),
    ],
)
def test_settings_are_not_believed_beyond_the_files(sd1: Path, changes: dict[str, Any], sentence: str) -> None:
    edit_json(sd1 / "text_encoder/config.json", **changes)
    begun = time.process_time()
    refused(sd1, f"text_encoder/config.json describes no CLIPTextModel that can be built: .*{sentence}")
    assert time.process_time() - begun < 10


def test_buffers_have_their_values(originals: dict[str, Path]) -> None:
    module = load(originals["sd1"]).text.encoders[0].module
    buffers = dict(module.named_buffers())
    assert buffers and all(torch.equal(value, torch.arange(77)[None]) for value in buffers.values())


def test_weights_that_are_pickles_or_missing(sd1: Path) -> None:
    torch.save({"a": torch.zeros(2)}, sd1 / UNET)
    refused(sd1, "is a pickle under a safetensors name")
    (sd1 / UNET).rename(sd1 / "unet" / "diffusion_pytorch_model.bin")
    refused(sd1, "unet has no weights: .*diffusion_pytorch_model.bin is a pickle")


@pytest.mark.parametrize("name", ["../../x", "../vae/diffusion_pytorch_model.safetensors", "/elsewhere/x"])
def test_shards_outside_the_folder(sd1: Path, name: str) -> None:
    write_shards(sd1, lambda tensor, number: name)
    refused(sd1, "does not lie in its own folder")


def test_shards_that_are_missing_double_or_unlisted(sd1: Path) -> None:
    write_shards(sd1, lambda tensor, number: f"part-{number}.safetensors")
    index = sd1 / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    shutil.copy(sd1 / "unet" / "part-0.safetensors", sd1 / "unet" / "part-1.safetensors")
    refused(sd1, "in two shards")
    (sd1 / "unet" / "part-1.safetensors").unlink()
    refused(sd1, "names the file 'part-1.safetensors', which is missing")
    edit_json(index, weight_map=[])
    refused(sd1, "has no weight_map")


def test_settings_that_describe_nothing(sd1: Path) -> None:
    before = (sd1 / "unet/config.json").read_text()
    for changes in ({"block_out_channels": "wide"}, {"norm_num_groups": 7}, {"down_block_types": ["Strange"]}):
        edit_json(sd1 / "unet/config.json", **changes)
        refused(sd1, "unet/config.json describes no UNet2DConditionModel that can be built")
        (sd1 / "unet/config.json").write_text(before)
    for size in (None, 0, -16, [64, 0]):
        edit_json(sd1 / "unet/config.json", sample_size=size)
        refused(sd1, "gives no size")


@pytest.mark.parametrize(
    "changes",
    [{"scaling_factor": None}, {"scaling_factor": 0}, {"scaling_factor": float("nan")}, {"shift_factor": "1"}],
)
def test_codecs_that_scale_no_latents(sd1: Path, changes: dict[str, Any]) -> None:
    edit_json(sd1 / "vae/config.json", **changes)
    refused(sd1, "vae/config.json scales no latents")


def test_loading_in_many_threads_leaves_torch_as_it_was(sd1: Path) -> None:
    def built(_: int) -> list[torch.nn.Module]:
        return [torch.nn.Linear(2, 2) for _ in range(200)]

    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(built, number) for number in range(4)]
        loaded = list(pool.map(lambda _: load(sd1), range(16)))
    modules = [module for each in others for module in each.result()]
    modules += [torch.nn.Linear(2, 2), *(parts.network.unet for parts in loaded)]
    assert not any(weight.is_meta for module in modules for weight in module.parameters())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prediction_type": "flow"}, "prediction_type is 'flow'"),
        ({"beta_schedule": "odd"}, "beta_schedule is 'odd'"),
        ({"beta_start": "x"}, "cannot be used"),
        ({"num_train_timesteps": -1}, "makes no schedule"),
        ({"num_train_timesteps": 10**12}, "makes no schedule"),
        ({"trained_betas": [2.0, 3.0]}, "cannot be used"),
    ],
)
def test_schedulers_that_make_no_schedule(sd1: Path, changes: dict[str, Any], sentence: str) -> None:
    edit_json(sd1 / "scheduler/scheduler_config.json", **changes)
    refused(sd1, sentence)


def test_tokenizers_that_cannot_be_read(sd1: Path) -> None:
    (sd1 / "tokenizer/tokenizer.json").write_text("{}")
    refused(sd1, "tokenizer cannot be read")
    for name in ("tokenizer.json", "vocab.json"):
        (sd1 / "tokenizer" / name).unlink()
    refused(sd1, "tokenizer has no vocabulary")
