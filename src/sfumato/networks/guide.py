"""A guide: one small network that reads a noisy latent and its level, for classifier and noised-CLIP guidance.

The encoder half of a U-Net, pooled by attention to one feature vector f(x, level), with linear heads:

    p(word | x, level) = softmax(W f + b)     a head for each list of words, such as "concept" and "colour"
    sentence(x, level) = V f / |V f|          compared with the vectors of texts; GLIDE's f(x, level)

Levels enter as log(sigma / alpha), and x is brought to alpha^2 + sigma^2 = 1, so that a guide serves any schedule.

Paper: Diffusion Models Beat GANs on Image Synthesis (Dhariwal & Nichol, 2021), arXiv:2105.05233, section 4; GLIDE
    (Nichol et al., 2021), arXiv:2112.10741, equation 8. Differs from the papers: one trunk for classifiers and encoder.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import AttentionPooling, TimestepEmbedding, get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_blocks import AttnDownBlock2D, DownBlock2D
from torch import Tensor, nn

from sfumato.core.level import Level, along

__all__ = ["Guide", "Reading", "log_probability"]

_CLEANEST, _NOISIEST = -6.0, 7.0
_MOST_LISTS, _MOST_WORDS, _LONGEST_WORD = 16, 20_000, 100
_SHORT_LIST = 12
_DEPTHS, _LAYERS, _WIDEST = range(2, 7), range(1, 9), 4096


@dataclass(frozen=True, eq=False)
class Reading:
    """What a guide reads in B noisy latents; in float32, or float64 if the guide is.

    Args:
        sentence: (B, D), each of length 1, in the space of the text encoder's sentences.
        logits: for each list of words, (B, words of the list).
    """

    sentence: Tensor
    logits: Mapping[str, Tensor]


class Guide(ModelMixin, ConfigMixin):
    """The network; differentiable in x, and no image depends on another.

    Args:
        words: the lists of words, each with a head of its own, by identifiers; the words of a list all differ.
        sentence_width: length D of a sentence vector.
        in_channels: C of the latents.
        block_out_channels: channels at each resolution, the first that of x, each next one half as fine; multiples of
            ``norm_num_groups``, and from the second on of ``attention_head_dim``.
        layers_per_block: residual blocks at each resolution; from the second on each is followed by self-attention.
        attention_head_dim: channels of an attention head.
        norm_num_groups: of the group norms.

    Raises:
        ValueError: too many lists or words, words that are long, unprintable or twice in a list, or no words at all; a
            size that no honest guide has.
    """

    @register_to_config
    def __init__(
        self,
        words: Mapping[str, Sequence[str]],
        sentence_width: int,
        in_channels: int = 4,
        block_out_channels: Sequence[int] = (64, 128, 224),
        layers_per_block: int = 1,
        attention_head_dim: int = 32,
        norm_num_groups: int = 8,
    ) -> None:
        super().__init__()
        _check(words)
        _check_size(block_out_channels, layers_per_block)
        first, *others = block_out_channels
        last = block_out_channels[-1]
        common: dict[str, Any] = {
            "temb_channels": 4 * first,
            "num_layers": layers_per_block,
            "resnet_groups": norm_num_groups,
            "resnet_time_scale_shift": "scale_shift",
        }
        self.embed_level = TimestepEmbedding(first, 4 * first)
        self.conv_in = nn.Conv2d(in_channels, first, 3, padding=1)
        self.blocks = nn.ModuleList([DownBlock2D(first, first, **common)])
        for number, width in enumerate(others):
            down: Any = "conv" if number < len(others) - 1 else None
            attention = {"attention_head_dim": attention_head_dim, "downsample_type": down}
            self.blocks.append(AttnDownBlock2D(block_out_channels[number], width, **attention, **common))
        self.norm_out = nn.GroupNorm(norm_num_groups, last)
        self.pool = AttentionPooling(last // attention_head_dim, last)
        self.sentence = nn.Linear(last, sentence_width)
        self.heads = nn.ModuleDict({name: nn.Linear(last, len(listed)) for name, listed in words.items()})
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def words(self) -> Mapping[str, Sequence[str]]:
        """The lists of words by name."""
        return cast(Mapping[str, Sequence[str]], self.config["words"])

    @property
    def scale(self) -> float:
        """The logit scale that its sentences were trained with, in (0, 100]: p(text | x, level) ~ exp(scale cosine)."""
        return min(float(self.logit_scale.detach().exp()), 100.0)

    def forward(self, x: Tensor, level: Level) -> Reading:
        """Read noisy latents.

        Args:
            x: (B, C, h, w) at the level; h and w as small as the resolutions allow, or larger.
            level: shape () or (B,).
        """
        features = self._features(x, level)
        sentence = F.normalize(_whole(self.sentence(features)), dim=-1)
        return Reading(sentence, {name: _whole(head(features)) for name, head in self.heads.items()})

    def encode(self, x: Tensor, level: Level) -> Tensor:
        """The sentence vectors (B, D) of x (B, C, h, w) alone: ``encode`` of ``guidance.clip.NoisySimilarity``."""
        return self(x, level).sentence

    def place(self, head: str, word: str) -> int:
        """Where a word stands in a list.

        Raises:
            ValueError: no such list, or no such word in it; the message names the nearest.
        """
        if head not in self.words:
            raise ValueError(f"this guide has no {head!r}{_instead(head, self.words)}")
        listed = list(self.words[head])
        if word not in listed:
            raise ValueError(f"this guide knows no {head} {word!r}{_instead(word, listed)}")
        return listed.index(word)

    def _features(self, x: Tensor, level: Level) -> Tensor:
        weight = self.conv_in.weight
        told = (level.sigma.log() - level.alpha.log()).clamp(_CLEANEST, _NOISIEST).to(x.device).expand(len(x))
        waves = get_timestep_embedding(4 * told, weight.shape[0], downscale_freq_shift=0, max_period=100)
        embedded = self.embed_level(waves.to(weight.dtype))
        power = (level.alpha**2 + level.sigma**2).sqrt()
        hidden = self.conv_in((x / along(power, x)).to(weight.dtype))
        for block in self.blocks:
            hidden, _ = block(hidden, embedded)
        return self.pool(F.silu(self.norm_out(hidden)).flatten(2).transpose(1, 2))


def log_probability(guide: Guide, head: str, words: str | Sequence[str]) -> Callable[[Tensor, Level], Tensor]:
    """log p(word | x, level) by a guide: a ``LogProbability`` for ``guidance.classifier.ClassifierGuided``.

    Args:
        guide: reads x.
        head: name of a list of words.
        words: of that list: one for all images, or one an image.

    Returns:
        a function of x (B, C, h, w) and its level, () or (B,), to (B,); it raises ValueError for another number of
        images than of words.

    Raises:
        ValueError: no such list, no words, or a word that is not in the list.

    Paper: Diffusion Models Beat GANs on Image Synthesis (Dhariwal & Nichol, 2021), arXiv:2105.05233, section 4.
    """
    places = [guide.place(head, word) for word in ((words,) if isinstance(words, str) else words)]
    if not places:
        raise ValueError("a log-probability needs a word, or one an image")

    def log_p(x: Tensor, level: Level) -> Tensor:
        if len(places) not in (1, len(x)):
            raise ValueError(f"{len(places)} words for {len(x)} images; give one, or one an image")
        return guide(x, level).logits[head].log_softmax(-1)[torch.arange(len(x)), torch.tensor(places)]

    return log_p


def _whole(value: Tensor) -> Tensor:
    return value.to(torch.promote_types(value.dtype, torch.float32))


def _instead(word: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    """The end of an error sentence: the nearest known words, or the whole short list if nothing is near."""
    near = difflib.get_close_matches(word, known)
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}?"
    return f"; there are {', '.join(known)}" if len(known) <= _SHORT_LIST else ""


def _check(words: object) -> None:
    """Refuse what no honest list of words is; a checkpoint's settings may hold anything."""
    lists = cast(Mapping[object, object], words) if isinstance(words, Mapping) else {}
    if not 1 <= len(lists) <= _MOST_LISTS:
        raise ValueError(f"a guide has 1 to {_MOST_LISTS} lists of words by name")
    for name, entries in lists.items():
        listed = cast(Sequence[object], entries) if isinstance(entries, list | tuple) else ()
        if not 1 <= len(listed) <= _MOST_WORDS:
            raise ValueError(f"a list of words has 1 to {_MOST_WORDS} of them")
        if not all(_is_word(word) for word in (name, *listed)) or not str(name).isidentifier():
            raise ValueError(f"words are printable and of 1 to {_LONGEST_WORD} letters, names of lists identifiers")
        if len(set(listed)) != len(listed):
            raise ValueError("a word occurs twice in a list")


def _check_size(widths: Sequence[int], layers: int) -> None:
    """Refuse what would take long to build, or could not be."""
    if len(widths) not in _DEPTHS or layers not in _LAYERS or max(widths) > _WIDEST:
        raise ValueError(
            f"a guide has {_DEPTHS[0]} to {_DEPTHS[-1]} resolutions of {_LAYERS[0]} to {_LAYERS[-1]} blocks, "
            f"up to {_WIDEST} channels wide"
        )


def _is_word(word: object) -> bool:
    return isinstance(word, str) and word.isprintable() and 1 <= len(word) <= _LONGEST_WORD
