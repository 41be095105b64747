"""Tiny real components with random weights, and whole checkpoint folders made of them; deterministic and offline.

Pictures are 32 x 32, latents 4 x 16 x 16, text states 32 wide. Builders leave torch's global generator as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from tokenizers.pre_tokenizers import ByteLevel
from torch import nn
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertModel
from transformers.models.bert.tokenization_bert import BertTokenizer
from transformers.models.clip.configuration_clip import CLIPTextConfig, CLIPVisionConfig
from transformers.models.clip.modeling_clip import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
)
from transformers.models.clip.tokenization_clip import CLIPTokenizer

from sfumato.networks.guide import Guide

__all__ = [
    "EMOJI_SCHEDULER",
    "SD1_SCHEDULER",
    "SD2_SCHEDULER",
    "POOLED_WIDTH",
    "SDXL_SCHEDULER",
    "TEXT_WIDTH",
    "ZERO_SNR",
    "seeded",
    "tiny_bert",
    "tiny_bert_tokenizer",
    "tiny_clip",
    "tiny_clip_tokenizer",
    "tiny_clip_with_projection",
    "tiny_guide",
    "tiny_sdxl_unet",
    "tiny_unet",
    "tiny_vae",
    "write_emoji",
    "write_sd1",
    "write_sd2",
    "write_sdxl",
]

WORDS = tuple("a the of on and red blue green hat cat car dog apple bird photo blurry two".split())  # noqa: SIM905
TEXT_WIDTH = 32
POOLED_WIDTH = 16

_LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
SD1_SCHEDULER: Mapping[str, Any] = {
    **_LATENT,
    "_class_name": "PNDMScheduler",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
SD2_SCHEDULER: Mapping[str, Any] = {**SD1_SCHEDULER, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
ZERO_SNR: Mapping[str, Any] = {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True}
SDXL_SCHEDULER: Mapping[str, Any] = {
    **SD1_SCHEDULER,
    "_class_name": "EulerDiscreteScheduler",
    "prediction_type": "epsilon",
    "interpolation_type": "linear",
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}
EMOJI_SCHEDULER: Mapping[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "clip_sample": False,
    "prediction_type": "v_prediction",
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "timestep_spacing": "trailing",
}


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator for the block, and restore it after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def tiny_unet(context: int = TEXT_WIDTH, *, seed: int = 0, **config: Any) -> UNet2DConditionModel:
    """Cross-attention at 16 x 16 (down and up) and 8 x 8 (mid); ``config`` overrides settings of diffusers' class."""
    settings = {
        "sample_size": 16,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 2,
        "norm_num_groups": 8,
        "cross_attention_dim": context,
    }
    with seeded(seed):
        return UNet2DConditionModel(**{**settings, **config}).eval()


def tiny_sdxl_unet(*, seed: int = 0) -> UNet2DConditionModel:
    """As SDXL's: both encoders' tokens side by side, a pooled vector and six sizes in the time embedding."""
    return tiny_unet(
        2 * TEXT_WIDTH,
        seed=seed,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=POOLED_WIDTH + 6 * 8,
        use_linear_projection=True,
    )


def tiny_vae(*, seed: int = 1, **config: Any) -> AutoencoderKL:
    """32 x 32 pictures to 4 x 16 x 16 latents."""
    settings = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 32,
        "scaling_factor": 0.5,
    }
    with seeded(seed):
        return AutoencoderKL(**{**settings, **config}).eval()


def tiny_clip_tokenizer(folder: Path, *, pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """CLIP's byte-level tokenizer with a token for each of ``WORDS``; writes vocab.json and merges.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab, merges = _clip_vocabulary()
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    end = "<|endoftext|>"
    specials = {"bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end, "pad_token": pad}
    (folder / "special_tokens_map.json").write_text(json.dumps(specials))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, **specials}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return CLIPTokenizer.from_pretrained(folder)


def tiny_clip(*, seed: int = 2, **config: Any) -> CLIPTextModel:
    """A CLIP text encoder 32 wide for the vocabulary of :func:`tiny_clip_tokenizer`."""
    with seeded(seed):
        return _wide(CLIPTextModel(_clip_config(**config)).eval())


def tiny_clip_with_projection(*, seed: int = 3, **config: Any) -> CLIPTextModelWithProjection:
    """As :func:`tiny_clip`, with a pooled projection 16 wide."""
    with seeded(seed):
        settings = {"hidden_act": "gelu", "projection_dim": POOLED_WIDTH, **config}
        return _wide(CLIPTextModelWithProjection(_clip_config(**settings)).eval())


def tiny_bert_tokenizer(folder: Path) -> BertTokenizer:
    """A WordPiece tokenizer with ``WORDS``, letters, and pieces of longer words; writes vocab.txt to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [f"##{piece}" for piece in ["rl", "let", "s", "ing", *letters]]
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *",.!?'-", *letters, "sca", *WORDS[1:], *pieces]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocab)) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": 24, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return BertTokenizer.from_pretrained(folder)


def tiny_bert(*, seed: int = 4) -> BertModel:
    """A BERT encoder 32 wide for the vocabulary of :func:`tiny_bert_tokenizer`."""
    config = BertConfig(
        vocab_size=128,
        hidden_size=TEXT_WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=24,
    )
    with seeded(seed):
        return _wide(BertModel(config).eval())


def tiny_picture_encoder(*, seed: int = 5) -> CLIPVisionModelWithProjection:
    """A vision transformer of 64 x 64 pictures into the width of :func:`tiny_bert`."""
    settings = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    with seeded(seed):
        config = CLIPVisionConfig(**settings, image_size=64, patch_size=16, projection_dim=TEXT_WIDTH)
        return CLIPVisionModelWithProjection(config).eval()


def tiny_guide(*, seed: int = 6, **config: Any) -> Guide:
    """Reads 4 x 16 x 16 latents: three concepts, two styles, sentences of the width of :func:`tiny_bert`; locked."""
    settings = {
        "words": {"concept": ["cat", "cat face", "red apple"], "style": ["flat", "3d"]},
        "sentence_width": TEXT_WIDTH,
        "block_out_channels": (8, 16, 16),
        "attention_head_dim": 8,
        "norm_num_groups": 4,
    }
    with seeded(seed):
        return Guide(**{**settings, **config}).eval().requires_grad_(False)


def write_sd1(folder: Path) -> Path:
    """A folder like Stable Diffusion 1.5: noise prediction, CLIP with quick-GELU, PNDM settings."""
    return _write_sd(folder, SD1_SCHEDULER, tiny_clip(), "<|endoftext|>")


def write_sd2(folder: Path, **scheduler: Any) -> Path:
    """A folder like Stable Diffusion 2.1: v-prediction, OpenCLIP cut at its last layer but one, padding with "!"."""
    return _write_sd(folder, {**SD2_SCHEDULER, **scheduler}, tiny_clip(hidden_act="gelu", num_hidden_layers=3), "!")


def write_sdxl(folder: Path) -> Path:
    """A folder like SDXL: two encoders, pooled vector, sizes, zeros for an empty negative prompt."""
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline(
        vae=tiny_vae(),
        text_encoder=tiny_clip(),
        text_encoder_2=tiny_clip_with_projection(),
        tokenizer=tiny_clip_tokenizer(folder / "tokenizer"),
        tokenizer_2=tiny_clip_tokenizer(folder / "tokenizer_2", pad="!"),
        unet=tiny_sdxl_unet(),
        scheduler=DDIMScheduler(),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    return _with_scheduler(folder, SDXL_SCHEDULER)


def write_emoji(folder: Path) -> Path:
    """A folder like the embedded one: BERT states as context, v-prediction, cosine schedule, trailing spacing."""
    parts = {"unet": tiny_unet(), "vae": tiny_vae(), "text_encoder": tiny_bert(), "pictures": tiny_picture_encoder()}
    for name, module in parts.items():
        module.save_pretrained(folder / name)
    tiny_bert_tokenizer(folder / "tokenizer")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "BertModel"],
        "tokenizer": ["transformers", "BertTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "pictures": ["transformers", "CLIPVisionModelWithProjection"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return _with_scheduler(folder, EMOJI_SCHEDULER)


def _write_sd(folder: Path, scheduler: Mapping[str, Any], text_encoder: CLIPTextModel, pad: str) -> Path:
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=tiny_vae(),
        text_encoder=text_encoder,
        tokenizer=tiny_clip_tokenizer(folder / "tokenizer", pad=pad),
        unet=tiny_unet(),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return _with_scheduler(folder, scheduler)


def _with_scheduler(folder: Path, config: Mapping[str, Any]) -> Path:
    """Write a scheduler's settings as published, which leave out whatever is a default."""
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(dict(config)))
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", config["_class_name"]]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _wide(encoder: nn.Module) -> Any:
    """The encoder with larger weights, so that different prompts give clearly different states."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim == 2:
                parameter.mul_(5)
    return encoder


def _clip_config(**config: Any) -> CLIPTextConfig:
    vocab, _ = _clip_vocabulary()
    settings = {
        "vocab_size": len(vocab),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_act": "quick_gelu",
        "bos_token_id": vocab["<|startoftext|>"],
        "eos_token_id": vocab["<|endoftext|>"],
        "pad_token_id": vocab["!"],
    }
    return CLIPTextConfig(**{**settings, **config})


def _clip_vocabulary() -> tuple[dict[str, int], list[str]]:
    alphabet = sorted(ByteLevel.alphabet())
    pairs: dict[str, str] = {}
    for word in WORDS:
        pieces = [*word[:-1], word[-1] + "</w>"]
        whole = pieces[0]
        for piece in pieces[1:]:
            pairs.setdefault(whole + piece, f"{whole} {piece}")
            whole += piece
    letters = [c for c in alphabet if c != "!"]
    tokens = ["!", *letters, *(f"{c}</w>" for c in alphabet), *pairs, "<|startoftext|>", "<|endoftext|>"]
    return {token: index for index, token in enumerate(tokens)}, list(pairs.values())
