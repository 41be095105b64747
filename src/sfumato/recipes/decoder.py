"""Train the decoder of a checkpoint's codec further, on latents as its denoiser leaves them.

loss = mean |x - D(z')| + mse_weight * mean (x - D(z'))^2 + coarse_weight * mean |P(x - D(z'))|,  P = means of 8 x 8,

where D clips to [-1, 1] as decoding does, and z' are the latents of x for a share of the pictures, and for the others
these noised in part and drawn again after the caption. A decoder that has met latents of the encoder only takes the
small errors of a denoiser for details; this one learns what they stand for. The encoder is locked, so the latents
stay what they were, and all that was trained on them goes on to fit.

Papers: Diffusion Transformers with Representation Autoencoders (Zheng et al., 2025), arXiv:2510.11690, and Improving
    Reconstruction of Representation Autoencoder (Liu et al., 2026), arXiv:2602.08620, which train decoders on noised
    latents. Differs from the papers: the errors are the denoiser's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sfumato.train.config import CodecFitConfig, SceneFitConfig, flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image
    from torch import Tensor

    from sfumato.checkpoints.parts import Parts
    from sfumato.core.codec import LatentCodec
    from sfumato.core.noise import Noise
    from sfumato.train.redrawn import RedrawnSet

__all__ = ["Config", "main", "measure", "redrawn"]

_HELD_OUT, _SHOWN = 256, 16
_STEPS = 20
_WEIGHTS = ("text_encoder", "tokenizer", "unet", "vae")


@dataclass(frozen=True, kw_only=True)
class Config(CodecFitConfig, SceneFitConfig):
    """Settings of the decoder's training.

    Raises:
        ValueError: a share or a number of steps out of range, or as in ``FitConfig``.
    """

    output_dir: Path = flag(Path("runs/decoder"), "folder of the run; the codec is saved in its subfolder vae")
    max_train_steps: int = flag(4000, "optimiser steps in all")
    train_batch_size: int = flag(32, "images a forward pass")
    optimizer: Literal["adamw", "muon"] = flag("muon", "muon moves weight matrices by Muon and the rest by AdamW")
    learning_rate: float = flag(1e-3, "highest learning rate")
    lr_cooldown_steps: int = flag(1500, "steps of linear fall to zero at the end of the run")
    mixed_precision: Literal["no", "bf16"] = flag("bf16", "bf16 runs the forward pass under autocast")
    scenes: int = flag(20000, "training scenes")
    singles: float = flag(0.35, "weight of scenes of one thing in its own colours")
    recoloured: float = flag(0.15, "weight of scenes of one thing in a named colour")
    pairs: float = flag(0.5, "weight of scenes of two things")
    initial: str = flag("emoji", "checkpoint, or 'emoji', whose decoder is trained further")
    redrawn_share: float = flag(0.6, "share of the pictures decoded from latents that the denoiser redrew")
    walked: int = flag(6, f"most steps, of the {_STEPS} of the default walk, that are redrawn")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.redrawn_share <= 1:
            raise ValueError(f"redrawn_share must lie in [0, 1], got {self.redrawn_share}")
        if not 1 <= self.walked <= _STEPS:
            raise ValueError(f"walked must lie in [1, {_STEPS}], got {self.walked}")


def main(config: Config) -> None:
    """Train, and save the codec as a diffusers folder ``output_dir/vae`` with its model card."""
    import torch

    from sfumato.checkpoints.load import folder_of, load
    from sfumato.core.codec import LatentCodec
    from sfumato.core.sheet import grid
    from sfumato.train.card import former_runs, write_card
    from sfumato.train.device import device_of
    from sfumato.train.fit import fit
    from sfumato.train.order import Order
    from sfumato.train.reconstruction import reconstruction_loss
    from sfumato.train.resume import check_start
    from sfumato.train.scenes import to_images

    check_start(config)
    parts = load(config.initial, torch.float32)
    codec: Any = parts.codec
    former = former_runs(folder_of(config.initial) / "vae")
    data, held_out = _prepared(config, parts)
    order = Order(config.scenes, config.train_batch_size, config.seed)
    before = measure(codec, held_out)
    vae = codec.vae.requires_grad_(False).to(memory_format=torch.channels_last)
    vae.decoder.requires_grad_(True)
    vae.post_quant_conv.requires_grad_(True)

    def loss(module: Any, indices: Tensor, noise: Noise) -> dict[str, Tensor]:
        again, there = noise.uniform((len(indices),)) < config.redrawn_share, device_of(module)
        z = torch.where(again[:, None, None, None], data.redrawn[indices], data.encoded[indices]).to(there)
        images = to_images(data.pictures[indices]).to(there)
        return reconstruction_loss(LatentCodec(module).decode(z), images, config.mse_weight, config.coarse_weight)

    def look(module: Any) -> Image.Image:
        shown, there = LatentCodec(module), device_of(module)
        rows = (to_images(held_out.pictures[:_SHOWN]), held_out.encoded[:_SHOWN], held_out.redrawn[:_SHOWN])
        return grid(torch.cat([rows[0], *(shown.decode(z.float().to(there)).cpu() for z in rows[1:])]), columns=_SHOWN)

    report = fit(vae, loss, order.indices, config, sample=look)
    vae.cpu()
    after = measure(codec, held_out)
    scores = {name: f"{after[name]:.2f}, before {before[name]:.2f}" for name in after}
    vae.half().save_pretrained(config.output_dir / "vae", max_shard_size="14MB")
    write_card(config.output_dir / "vae", "decoder", config, report, scores, data=data.key, former=former)


def _prepared(config: Config, parts: Parts) -> tuple[RedrawnSet, RedrawnSet]:
    """The training set, and the same of further scenes that are measured on."""
    from sfumato.checkpoints.load import folder_of
    from sfumato.train.locked import digest
    from sfumato.train.prepare import mean_latents
    from sfumato.train.redrawn import prepare_redrawn
    from sfumato.train.scenes import SceneStream
    from sfumato.world.sources import open_world

    codec: Any = parts.codec
    base = folder_of(config.initial)
    facts = (digest(*(base / part for part in _WEIGHTS)), config.walked)

    def prepared(scenes: SceneStream) -> RedrawnSet:
        return prepare_redrawn(
            scenes,
            lambda images: mean_latents(codec, images),
            lambda latents, captions: redrawn(parts, latents, captions, config.walked),
            facts=facts,
            folder=config.output_dir,
        )

    scenes = SceneStream(open_world(config.world or None), config.seed, config.scenes, config.scene_config())
    return prepared(scenes), prepared(scenes.held_out(_HELD_OUT))


def redrawn(parts: Parts, latents: Tensor, captions: Sequence[str], walked: int, batch: int = 64) -> Tensor:
    """Noise latents to one of the last levels of the default walk, and walk from there after their captions.

        x = alpha * x0 + sigma * noise,   then the last s steps,   s = 1, ..., walked in turn, one s a batch

    Args:
        parts: a loaded checkpoint.
        latents: x0 (N, C, h, w), scaled.
        captions: N captions.
        walked: most steps that are walked, in [1, 20].
        batch: latents at a time, >= 1.

    Returns:
        (N, C, h, w), float32: what the decoder would be given.

    Raises:
        ValueError: ``walked`` out of range.

    Paper: SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations (Meng et al., 2021),
        arXiv:2108.01073, algorithm 1.
    """
    import torch
    from tqdm import tqdm

    from sfumato.core.noise import Noise
    from sfumato.core.predict import noised
    from sfumato.core.sample import sample
    from sfumato.flows.prompts import prompted
    from sfumato.flows.steering import Steering, steered
    from sfumato.flows.walk import Walk, sampler_of

    if not 1 <= walked <= _STEPS:
        raise ValueError(f"walked must lie in [1, {_STEPS}], got {walked}")
    sampler = sampler_of(parts, Walk(_STEPS))
    made: list[Tensor] = []
    starts = range(0, len(latents), batch)
    for number, start in enumerate(tqdm(starts, desc="redrawn", disable=None, leave=False)):
        rows = slice(start, start + batch)
        x0, noise = latents[rows].float(), Noise(range(start, start + len(latents[rows])))
        path = sampler.path[-2 - number % walked :]
        with torch.no_grad(), torch.autocast(x0.device.type, torch.bfloat16):
            text = prompted(parts, captions[rows], parts.size)
            denoise = steered(parts, text.branch, parts.size, Steering(), sampler.path)
            made.append(sample(denoise, noised(x0, noise.like(x0), path[0]), path, sampler.step, noise=noise))
    return torch.cat(made).float()


def measure(codec: LatentCodec, data: RedrawnSet) -> dict[str, float]:
    """How near what a codec decodes is to the pictures, in dB.

    Args:
        codec: in evaluation mode.
        data: scenes that it was not trained on.

    Returns:
        Mean PSNR of what is decoded from the encoded and from the redrawn latents.
    """
    import torch

    from sfumato.train.reconstruction import psnr
    from sfumato.train.scenes import to_images

    images = to_images(data.pictures)
    with torch.no_grad():
        return {
            f"PSNR of held-out scenes, {name}, dB": psnr(
                torch.cat([codec.decode(z.float()) for z in of.split(64)]), images
            )
            for name, of in (("encoded", data.encoded), ("redrawn", data.redrawn))
        }
