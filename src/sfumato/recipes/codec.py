"""Train the codec: an autoencoder between 64 x 64 pictures and 16 x 16 x 4 latents.

loss = mean |x - x'| + mse_weight * mean (x - x')^2 + coarse_weight * mean |P(x - x')|
       + kl_weight * mean KL(q(z | x) || N(0, 1)),   z ~ q(z | x),  P = means of 8 x 8 pixels.

The coarse term makes colours come early: without it a codec can rest for long where all shapes are right and some hues
are grey. The KL weight is small: it keeps the latents near zero, and the reconstruction stays sharp. At the end the
scaling factor is set so that the latents of the training scenes have unit variance.

Paper: High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv:2112.10752,
    section 3.1 and appendix G. Differs from the paper: no adversarial and no perceptual term; flat
    drawings do not need them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.train.config import CodecFitConfig, check_least, check_width, flag

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sfumato.core.noise import Noise

__all__ = ["Config", "codec_loss", "main", "scaling_factor"]

FIRST_LOG_VARIANCE = -6.0
"""Unit variance, the usual start, drowns hues in noise until the shapes are learned, and they come late or never."""


@dataclass(frozen=True, kw_only=True)
class Config(CodecFitConfig):
    """Settings of the codec's training.

    Raises:
        ValueError: a number outside its range, at construction.
    """

    output_dir: Path = flag(Path("runs/codec"), "folder of the run; the codec is saved in its subfolder vae")
    max_train_steps: int = flag(3000, "optimiser steps in all")
    lr_cooldown_steps: int = flag(1000, "steps of linear fall to zero at the end of the run")
    width: int = flag(32, "channels at full resolution; doubled at each of two halvings")
    latent_channels: int = flag(4, "channels of the latents")
    kl_weight: float = flag(1e-4, "weight of the KL term")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_width(self.width)
        check_least(self, 1, "latent_channels")


def build(config: Config) -> nn.Module:
    """A new ``AutoencoderKL`` of the config's size; its latents start nearly free of noise."""
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    settings: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "block_out_channels": (config.width, 2 * config.width, 4 * config.width),
        "layers_per_block": 1,
        "latent_channels": config.latent_channels,
        "norm_num_groups": 8,
        "sample_size": 64,
        "scaling_factor": 1.0,
    }
    vae: Any = AutoencoderKL(**settings)
    with torch.no_grad():
        vae.quant_conv.bias[config.latent_channels :] = FIRST_LOG_VARIANCE
    return vae


def codec_loss(vae: Any, images: Tensor, noise: Noise, config: Config) -> dict[str, Tensor]:
    """The loss above and its parts.

    Args:
        vae: ``AutoencoderKL``.
        images: (B, 3, H, W) in [-1, 1].
        noise: one seed an image, for the draw of z.
        config: weights of the terms.
    """
    from sfumato.train.reconstruction import reconstruction_loss

    mean, log_variance = vae.encode(images).latent_dist.parameters.float().chunk(2, dim=1)
    log_variance = log_variance.clamp(-30, 20)
    z = mean + (log_variance / 2).exp() * noise.like(mean)
    found = reconstruction_loss(vae.decode(z).sample, images, config.mse_weight, config.coarse_weight)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    return {**found, "loss": found["loss"] + config.kl_weight * kl, "kl": kl.detach()}


def scaling_factor(vae: Any, images: Tensor) -> float:
    """One over the standard deviation of the mean latents of some images (B, 3, H, W)."""
    return float(1 / vae.encode(images).latent_dist.mean.std())


def main(config: Config) -> None:
    """Train, and save the codec as a diffusers folder ``output_dir/vae`` with its model card."""
    import torch

    from sfumato.train.card import write_card
    from sfumato.train.codecs import codec_scenes, fit_codec
    from sfumato.train.reconstruction import psnr
    from sfumato.train.scenes import to_images

    scenes = codec_scenes(config)
    torch.manual_seed(config.seed)
    vae: Any = build(config).to(memory_format=torch.channels_last)  # pyright: ignore

    def loss(module: Any, images: Tensor, noise: Noise) -> dict[str, Tensor]:
        return codec_loss(module, images, noise, config)

    report = fit_codec(vae, loss, lambda module, images: module(images).sample, config, scenes)
    with torch.no_grad():
        vae.register_to_config(scaling_factor=scaling_factor(vae, to_images(scenes.learned.pictures[:512])))
        images = to_images(scenes.held_out.pictures)
        made = vae.decode(vae.encode(images).latent_dist.mean).sample.clamp(-1, 1)
    scores = {"PSNR on held-out scenes, dB": round(psnr(made, images), 2)}
    vae.save_pretrained(config.output_dir / "vae")
    write_card(config.output_dir / "vae", "codec", config, report, scores, data=scenes.learned.digest)
