"""The parts that training builds on and never changes: text encoder, codecs, picture encoder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers.models.bert.modeling_bert import BertModel
from transformers.models.bert.tokenization_bert import BertTokenizer
from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

from sfumato.core.codec import LatentCodec
from sfumato.encoders.image import PictureEncoder
from sfumato.encoders.text import TextEncoder, TokenEncoder
from sfumato.networks.codes import CodeCodec, VQModel

__all__ = ["Locked", "TextAndCodec", "digest", "locked_codec", "locked_pictures", "locked_text", "locked_vq"]


@dataclass(frozen=True, eq=False)
class Locked:
    """The three locked parts, and a hash of their weight files.

    Args:
        text: MiniLM, or another BERT-like encoder.
        codec: between pictures and latents.
        pictures: between pictures and sentence vectors.
        codec_folder: where the codec was read.
        pictures_folder: where the picture encoder was read.
        digest: 16 hexadecimal digits; changes when any of their files does.
    """

    text: TextEncoder
    codec: LatentCodec
    pictures: PictureEncoder
    codec_folder: Path
    pictures_folder: Path
    digest: str

    @staticmethod
    def load(text: Path, codec: Path, pictures: Path) -> Locked:
        """Load all three.

        Args:
            text: folder with ``text_encoder`` and ``tokenizer``.
            codec: folder of an ``AutoencoderKL``.
            pictures: folder of a ``CLIPVisionModelWithProjection``.

        Raises:
            FileNotFoundError: a folder lacks a part; the sentence names what makes it.
        """
        known = digest(text / "text_encoder", text / "tokenizer", codec, pictures)
        return Locked(locked_text(text), locked_codec(codec), locked_pictures(pictures), codec, pictures, known)


@dataclass(frozen=True, eq=False)
class TextAndCodec:
    """The locked text encoder and codec, and a hash of their weight files, for what needs no picture encoder.

    Args:
        text: MiniLM, or another BERT-like encoder.
        codec: between pictures and latents.
        digest: 16 hexadecimal digits; changes when any of their files does.
    """

    text: TextEncoder
    codec: LatentCodec
    digest: str

    @staticmethod
    def load(text: Path, codec: Path) -> TextAndCodec:
        """Load both.

        Args:
            text: folder with ``text_encoder`` and ``tokenizer``.
            codec: folder of an ``AutoencoderKL``.

        Raises:
            FileNotFoundError: a folder lacks a part; the sentence names what makes it.
        """
        known = digest(text / "text_encoder", text / "tokenizer", codec)
        return TextAndCodec(locked_text(text), locked_codec(codec), known)


def locked_text(folder: Path) -> TextEncoder:
    """The text encoder of a folder with ``text_encoder`` and ``tokenizer``.

    Raises:
        FileNotFoundError: the folder lacks a part.
    """
    for part in ("text_encoder", "tokenizer"):
        _check(folder / part, "tools/take_minilm.py")
    module: Any = BertModel.from_pretrained(
        folder / "text_encoder",
        add_pooling_layer=False,
        local_files_only=True,
        use_safetensors=True,
        dtype=torch.float32,
    )
    tokenizer = BertTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    return TextEncoder((TokenEncoder(tokenizer, _lock(module), whole_length=False),))


def locked_codec(folder: Path) -> LatentCodec:
    """The codec of an ``AutoencoderKL`` folder.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    _check(folder, "'sfumato train codec'")
    return LatentCodec(
        _lock(
            AutoencoderKL.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32
            )
        )
    )


def locked_pictures(folder: Path) -> PictureEncoder:
    """The picture encoder of a ``CLIPVisionModelWithProjection`` folder.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    _check(folder, "'sfumato train pictures_words'")
    return PictureEncoder(
        _lock(
            CLIPVisionModelWithProjection.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        )
    )


def locked_vq(folder: Path) -> CodeCodec:
    """The quantised codec of a ``VQModel`` folder.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    _check(folder, "'sfumato train vq'")
    return CodeCodec(
        _lock(VQModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32))
    )


def digest(*folders: Path) -> str:
    """16 hexadecimal digits over the weights and settings in folders of parts; model cards do not count."""
    hashed = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.json")):
            if file.name != "training.json":
                hashed.update(file.name.encode() + file.read_bytes())
    return hashed.hexdigest()[:16]


def _check(folder: Path, maker: str) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; {maker} makes it")


def _lock(module: Any) -> Any:
    return module.eval().requires_grad_(False)
