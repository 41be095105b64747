"""The quantised codec: it learns, resumes, keeps its codebook in use, and is a plain model of diffusers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sfumato.core.noise import Noise
from sfumato.networks.codes import CodeCodec
from sfumato.recipes import vq
from sfumato.train.locked import locked_vq
from sfumato.train.reconstruction import psnr, reconstruction_loss
from sfumato.train.scenes import render
from sfumato.world.scene import SceneConfig
from sfumato.world.sources import open_world

SETTINGS = vq.Config(
    max_train_steps=8,
    train_batch_size=4,
    lr_warmup_steps=2,
    lr_cooldown_steps=0,
    ema_decay=0.5,
    checkpointing_steps=4,
    sample_steps=8,
    logging_steps=2,
    width=8,
    codes=64,
    scenes=24,
    world="sample",
)
IMAGES = Noise([1, 2])((2, 3, 64, 64)).clamp(-1, 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 4 + 4 steps."""
    folder = tmp_path_factory.mktemp("vq")
    vq.main(replace(SETTINGS, output_dir=folder, max_train_steps=4))
    vq.main(replace(SETTINGS, output_dir=folder, resume_from_checkpoint="latest"))
    return folder


def test_it_learns_and_says_how_well(run: Path) -> None:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert losses[-1] < 0.9 * losses[0]
    assert all(1 <= entry["perplexity"] <= 64 for entry in entries if "loss" in entry)
    assert (run / "samples" / "step-00000008.png").is_file()
    card = json.loads((run / "vq" / "training.json").read_text())
    assert "sfumato train vq" in card["command"] and card["steps"] == 8
    assert set(card["scores"]) == {
        "PSNR on held-out scenes, dB",
        "share of codes in use",
        "perplexity of the codes",
    }


def test_a_resumed_run_is_the_run_that_was_never_stopped(run: Path, tmp_path: Path) -> None:
    vq.main(replace(SETTINGS, output_dir=tmp_path))
    weights = "vq/diffusion_pytorch_model.safetensors"
    whole, resumed = load_file(tmp_path / weights), load_file(run / weights)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_what_is_saved_is_a_plain_model_with_unit_codes(run: Path) -> None:
    codec = locked_vq(run / "vq")
    assert (codec.factor, codec.side, codec.count) == (8, 8, 64)
    lengths = codec.vq.quantize.embedding.weight.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(64), rtol=0, atol=1e-6)
    codes = codec.encode(IMAGES)
    assert codes.shape == (2, 64)
    _, cosines, _ = vq.quantised(codec.vq, IMAGES)
    assert torch.equal(codes, cosines.argmax(-1).flatten(1)), "the nearest by distance is the nearest by cosine"
    torch.testing.assert_close(codec.decode(codes), codec.vq(IMAGES).sample.clamp(-1, 1), rtol=0, atol=1e-5)


def test_the_last_term_alone_moves_codes_that_are_never_nearest() -> None:
    model: Any = vq.build(SETTINGS)
    book = model.quantize.embedding.weight
    _, cosines, _ = vq.quantised(model, IMAGES)
    used = torch.zeros(64, dtype=torch.bool)
    used[cosines.argmax(-1).flatten()] = True
    assert 0 < used.sum() < 64

    def moved(weight: float) -> torch.Tensor:
        model.zero_grad()
        vq.vq_loss(model, IMAGES, replace(SETTINGS, spread_weight=weight))["loss"].backward()
        return book.grad.abs().sum(1) > 0

    assert torch.equal(moved(0.0), used)
    assert bool(moved(0.1).all())


def test_the_loss_is_its_formula() -> None:
    """With one code for all, both distances are those to it, and the entropies are 0."""
    settings = replace(SETTINGS, codes=1, mse_weight=3.0, coarse_weight=0.0, commit_weight=0.5, spread_weight=7.0)
    model: Any = vq.build(settings)
    with torch.no_grad():
        z, cosines, book = vq.quantised(model, IMAGES)
        assert z.shape == (2, 8, 8, 8) and cosines.shape == (2, 8, 8, 1) and book.shape == (1, 8)
        error = model.decode(book[0, :, None, None].expand(2, 8, 8, 8), force_not_quantize=True).sample - IMAGES
        distance = (2 - 2 * cosines).mean()
        wanted = error.abs().mean() + 3 * error.square().mean() + 1.5 * distance
        found = vq.vq_loss(model, IMAGES, settings)
    torch.testing.assert_close(found["loss"], wanted, rtol=0, atol=1e-5)
    assert found["perplexity"] == 1


def test_the_figures_are_those_of_the_pictures() -> None:
    codec = CodeCodec(vq.build(SETTINGS).eval().requires_grad_(False))
    scenes = render(open_world("sample"), 0, 3, SceneConfig())
    figures = vq.measure(codec, scenes)
    images = scenes.pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    codes = codec.encode(images)
    squared = (codec.decode(codes) - images).square().mean((1, 2, 3))
    assert figures["PSNR on held-out scenes, dB"] == round(float((10 * (4 / squared).log10()).mean()), 2)
    assert figures["share of codes in use"] == round(len(codes.unique()) / 64, 3)


def test_what_compares_pictures_is_its_formula() -> None:
    made, images = (Noise([seed, seed + 1])((2, 3, 16, 16)) for seed in (0, 2))
    error = images - made
    coarse = error.unflatten(3, (2, 8)).unflatten(2, (2, 8)).mean((3, 5))
    found = reconstruction_loss(made.bfloat16(), images, 3.0, 0.0)
    assert found["loss"].dtype == torch.float32
    found = reconstruction_loss(made, images, 3.0, 2.0)
    wanted = error.abs().mean() + 3 * error.square().mean() + 2 * coarse.abs().mean()
    torch.testing.assert_close(found["loss"], wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(found["psnr"], 10 * (4 / error.square().mean()).log10(), rtol=0, atol=1e-5)


def test_the_psnr_is_the_mean_of_those_of_the_pictures() -> None:
    images = torch.zeros(2, 3, 8, 8)
    made = torch.tensor([0.2, 0.02])[:, None, None, None].expand_as(images)
    assert psnr(made, images) == pytest.approx((20 + 40) / 2, abs=1e-4)
