"""The networks that benchmarks run: random weights, real sizes; and both libraries' loops over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from sfumato.core.branch import Branch, Guided
from sfumato.core.codec import LatentCodec
from sfumato.core.condition import Condition
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.sample import sample
from sfumato.guidance.classifier_free import classifier_free
from sfumato.networks.unet import UNetNetwork
from sfumato.recipes import codec
from sfumato.recipes.denoiser import Config as DenoiserConfig
from sfumato.samplers.names import named_sampler
from sfumato.samplers.schedule import prediction_of, schedule_of
from sfumato.train.embedded import SCHEDULER, build_unet

__all__ = ["EMBEDDED", "FULL", "Size", "full_at", "our_loop", "seeds_of", "their_loop"]

GUIDANCE = 7.5


@dataclass(frozen=True)
class Size:
    """A checkpoint's size, without a checkpoint.

    Args:
        name: for tables.
        latent: shape (C, h, w) of one picture's latents.
        tokens: number of text tokens L, and their width D.
        steps: sampling steps of one run, unless said otherwise.
        suffix: of the names of its tables.
    """

    name: str
    latent: tuple[int, int, int]
    tokens: tuple[int, int]
    steps: int
    suffix: str = ""

    def unet(self) -> Any:
        """A random U-Net, the same each time."""
        torch.manual_seed(0)
        if self.name == EMBEDDED.name:
            return build_unet(DenoiserConfig().width, self.latent[0], self.tokens[1]).eval()
        return UNet2DConditionModel(sample_size=self.latent[1], cross_attention_dim=self.tokens[1]).eval()

    def vae(self) -> Any:
        """A random autoencoder, the same each time."""
        torch.manual_seed(1)
        if self.name == EMBEDDED.name:
            return codec.build(codec.Config()).eval()
        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        return AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, **blocks)

    def text(self, count: int, seed: int) -> Tensor:
        """Random token states (count, L, D)."""
        return Noise(range(seed, seed + count))((count, *self.tokens))


EMBEDDED = Size("the embedded model's size", (4, 16, 16), (8, 384), 20)
FULL = Size("Stable Diffusion 1.5's size", (4, 64, 64), (77, 768), 2, "_full")


def full_at(side: int) -> Size:
    """Stable Diffusion 1.5's network at latents of another side."""
    if side == FULL.latent[-1]:
        return FULL
    return replace(FULL, name=f"{FULL.name}, latents {side} x {side}", latent=(4, side, side), suffix=f"_full_{side}")


def seeds_of(count: int) -> range:
    """The seeds of a batch."""
    return range(7, 7 + count)


def our_loop(
    size: Size, unet: Any, count: int, steps: int, dtype: torch.dtype, vae: Any = None
) -> Callable[[], Tensor]:
    """sfumato's sampling of ``count`` pictures: DDIM with guidance, decoded if there is an autoencoder."""
    network = UNetNetwork(unet.to(dtype), prediction_of(SCHEDULER))
    model = DenoisingModel(network, schedule_of(SCHEDULER))
    text, none = (Branch(Condition(size.text(count, seed))) for seed in (0, 1000))
    sampler = named_sampler("ddim", SCHEDULER, steps)
    denoise = Guided(model, classifier_free(text, none, GUIDANCE))
    to_images = (lambda x0: x0) if vae is None else LatentCodec(vae.to(dtype)).decode

    @torch.no_grad()
    def run() -> Tensor:
        noise = Noise(seeds_of(count))
        x = noise((count, *size.latent))
        return to_images(sample(denoise, x, sampler.path, sampler.step, noise=noise))

    return run


def their_loop(
    size: Size, unet: Any, count: int, steps: int, dtype: torch.dtype, vae: Any = None
) -> Callable[[], Tensor]:
    """The same by diffusers' ``StableDiffusionPipeline``, which puts both branches into one forward pass too."""
    pipeline: Any = StableDiffusionPipeline(
        vae=None if vae is None else vae.to(dtype),
        text_encoder=None,
        tokenizer=None,
        unet=unet.to(dtype),
        scheduler=DDIMScheduler.from_config(SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    text, none = (size.text(count, seed).to(dtype) for seed in (0, 1000))
    noise = Noise(seeds_of(count))((count, *size.latent)).to(dtype)

    def run() -> Tensor:
        made = pipeline(
            prompt_embeds=text,
            negative_prompt_embeds=none,
            latents=noise,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
            output_type="latent" if vae is None else "pt",
        )
        return made.images

    return run
