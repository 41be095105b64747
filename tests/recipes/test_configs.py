"""Settings that no network or scene can be made of are refused before anything is prepared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sfumato.recipes import codec, decoder, denoiser, guide, pictures_words, rarm, retrieval, vq
from sfumato.train.config import FitConfig
from sfumato.train.fit import fit


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: codec.Config(width=12), "width must be a positive multiple of 8, got 12"),
        (lambda: codec.Config(compile=True), "trained without --compile"),
        (lambda: codec.Config(latent_channels=0), "latent_channels must be at least 1"),
        (lambda: decoder.Config(compile=True), "trained without --compile"),
        (lambda: vq.Config(codes=0), "codes must be at least 1"),
        (lambda: vq.Config(spread_temperature=0.0), "spread_temperature must be above 0"),
        (lambda: denoiser.Config(text_share=0.9, both_share=0.9), "nor more than 1 in all"),
        (lambda: denoiser.Config(neighbours=0), "neighbours must be at least 1"),
        (lambda: denoiser.Config(neighbours=8, scenes=8), "fewer than the scenes"),
        (lambda: denoiser.Config(singles=-1.0), "weights of kinds must not be negative"),
        (lambda: guide.Config(width=24), "width must be a positive multiple of 16, got 24"),
        (lambda: guide.Config(styles=("oil",)), "styles must be some of"),
        (lambda: pictures_words.Config(hidden=32), "hidden must be a positive multiple of 64"),
        (lambda: pictures_words.Config(patch=7), "patch must be one of 4, 8, 16, 32"),
        (lambda: rarm.Config(width=100, heads=6), "width must be a positive multiple of 6"),
        (lambda: rarm.Config(heads=0), "heads must be at least 1"),
        (lambda: FitConfig(lr_warmup_steps=-1), "lr_warmup_steps must be at least 0"),
    ],
)
def test_settings_that_cannot_be(make: Callable[[], FitConfig], said: str):
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize("recipe", [codec, decoder, denoiser, guide, pictures_words, rarm, retrieval, vq])
def test_a_used_folder_is_refused_before_anything_is_prepared(tmp_path: Path, recipe: object):
    import torch

    def loss(module: torch.nn.Module, batch: int, noise: object) -> dict[str, torch.Tensor]:
        return {"loss": module(torch.ones(1, 1)).square().mean()}

    fit(torch.nn.Linear(1, 1), loss, int, FitConfig(output_dir=tmp_path, max_train_steps=1))
    missing = dict.fromkeys(("text", "codec", "pictures", "vq", "memory"), tmp_path / "missing")
    fields = recipe.Config.__dataclass_fields__  # pyright: ignore[reportAttributeAccessIssue]
    config = recipe.Config(output_dir=tmp_path, **{name: each for name, each in missing.items() if name in fields})
    with pytest.raises(FileExistsError, match="holds a run already"):
        recipe.main(config)  # pyright: ignore[reportAttributeAccessIssue]
