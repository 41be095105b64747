"""A CLIP as an encoder of pictures and words: what its network sees of pictures, and vectors as it was trained to give.

Paper: Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021), arXiv:2103.00020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sfumato.core.image import resize
from sfumato.encoders.joint import JointEncoder, check_texts

__all__ = ["ClipPair", "ClipPixels", "of_clip"]

_LONGEST_SHAPE = 8
_OLD_END = 2
"""What old settings of CLIP give as the mark of the end; transformers then takes the largest token for it."""

_Colour = tuple[float, float, float]


@dataclass(frozen=True)
class ClipPixels:
    """How pictures are put before a CLIP: resized, the middle cut out, colours standardised.

    As Pillow, by which transformers resizes, it takes first the width and then the height, and cuts colours off at
    black and white after each. Pillow also rounds to 8 bits; this does not, is differentiable, and differs by a level.

    Args:
        side: of the square that the network sees, in pixels.
        edge: the shorter side after resizing, >= side; None: the whole picture is pressed into the square.
        mean: of red, green and blue, in [0, 1].
        std: of red, green and blue, > 0.
        kind: of filter.

    Raises:
        ValueError: an edge shorter than the side, or numbers out of range.
    """

    side: int
    edge: int | None
    mean: _Colour = (0.48145466, 0.4578275, 0.40821073)
    std: _Colour = (0.26862954, 0.26130258, 0.27577711)
    kind: Literal["bilinear", "bicubic"] = "bicubic"

    def __post_init__(self) -> None:
        if self.side < 1 or (self.edge is not None and not self.side <= self.edge <= 8 * self.side):
            raise ValueError(f"a picture resized to {self.edge} pixels cannot be cut to {self.side}")
        if not all(0 <= value <= 1 for value in self.mean) or not all(0 < value <= 10 for value in self.std):
            raise ValueError(f"colours cannot have the mean {self.mean} and the deviation {self.std}")

    def __call__(self, images: Tensor) -> Tensor:
        """What the network sees of pictures.

        Args:
            images: (B, 3, H, W) in [-1, 1]; of a shape beyond 8 : 1 only the middle.

        Returns:
            (B, 3, side, side) float32, standardised.

        Raises:
            ValueError: a tensor of another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"pictures must be (B, 3, H, W), got shape {tuple(images.shape)}")
        longest = _LONGEST_SHAPE * min(images.shape[-2:])
        seen = _middle(images.float(), longest, longest)
        tall, wide = self._resized(*seen.shape[-2:])
        for size in ((seen.shape[-2], wide), (tall, wide)):
            if seen.shape[-2:] != size:
                seen = resize(seen, *size, self.kind).clamp(-1, 1)
        mean, std = (seen.new_tensor(colour)[:, None, None] for colour in (self.mean, self.std))
        return ((_middle(seen, self.side, self.side) + 1) / 2 - mean) / std

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.edge is None:
            return self.side, self.side
        short, long = min(height, width), max(height, width)
        other = self.edge * long // short
        return (other, self.edge) if height > width else (self.edge, other)


@dataclass(frozen=True, eq=False)
class ClipPair:
    """A CLIP's two encoders; vectors are as the projections give them, not normalised.

    Args:
        module: ``CLIPModel``.
        tokenizer: the ``CLIPTokenizer`` of its texts.
        pixels: what its network sees of pictures.

    Raises:
        ValueError: pixels of another size than the network's, or a tokenizer that is not this network's: of more
            tokens, or with another mark of the end, where the vector of a text is read; or no place for words.
    """

    module: Any
    tokenizer: Any
    pixels: ClipPixels

    def __post_init__(self) -> None:
        settings, wanted = self.module.config.text_config, self.module.config.vision_config.image_size
        if self.pixels.side != wanted:
            raise ValueError(f"its pictures are cut to {self.pixels.side} pixels, and its network sees {wanted}")
        if len(self.tokenizer) > settings.vocab_size:
            raise ValueError(f"its tokenizer has {len(self.tokenizer)} tokens, and its network {settings.vocab_size}")
        if self.longest < 3:
            raise ValueError(
                f"it takes texts of {self.longest} tokens, marks included, which leaves no place for words"
            )
        ids, end = self._ids([""])[0].tolist(), self.tokenizer.eos_token_id
        marked = max(ids) if settings.eos_token_id == _OLD_END else settings.eos_token_id
        if end not in ids or end != marked:
            raise ValueError(f"its tokenizer ends texts with the token {end}, and its network looks for {marked}")

    @property
    def width(self) -> int:
        """Length D of a vector."""
        return self.module.config.projection_dim

    @property
    def longest(self) -> int:
        """Largest number L of tokens, marks included."""
        return min(self.tokenizer.model_max_length, self.module.config.text_config.max_position_embeddings)

    def pictures(self, images: Tensor) -> Tensor:
        """Encode pictures; differentiable.

        Args:
            images: (B, 3, H, W) in [-1, 1], of any size.

        Returns:
            (B, D) float32.

        Raises:
            ValueError: a tensor of another shape.
        """
        return self.module.get_image_features(self.pixels(images).to(self.module.dtype)).pooler_output.float()

    def words(self, texts: Sequence[str], batch: int = 256) -> Tensor:
        """Encode texts; one that is too long is cut, its mark of the end kept.

        Args:
            texts: B texts, B >= 1.
            batch: how many at a time.

        Returns:
            (B, D) float32.

        Raises:
            ValueError: no texts.
        """
        check_texts(texts)
        with torch.no_grad():
            parts = [self._ids(texts[start : start + batch]) for start in range(0, len(texts), batch)]
            return torch.cat([self.module.get_text_features(part).pooler_output.float() for part in parts])

    def _ids(self, texts: Sequence[str]) -> Tensor:
        """Tokens (B, L), padded to the longest text, as CLIP was trained."""
        encoding = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.longest, return_tensors="pt"
        )
        return encoding["input_ids"].to(self.module.device)


def of_clip(pair: ClipPair, name: str, fingerprint: str) -> JointEncoder:
    """The encoder that a CLIP is.

    Args:
        pair: its two encoders.
        name: of its folder.
        fingerprint: 16 hexadecimal digits.

    Returns:
        an encoder to vectors that are not normalised.
    """
    return JointEncoder(name, fingerprint, pair.width, pair.pixels.side, False, pair.pictures, pair.words)


def _middle(images: Tensor, height: int, width: int) -> Tensor:
    """The middle of images, at most so tall and wide."""
    tall, wide = (min(most, there) for most, there in zip((height, width), images.shape[-2:], strict=True))
    top, left = (images.shape[-2] - tall) // 2, (images.shape[-1] - wide) // 2
    return images[..., top : top + tall, left : left + wide]
