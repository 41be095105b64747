"""The flow: promises about seeds and batches, settings, and the public name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato
from sfumato.checkpoints.load import Parts, load
from sfumato.core.sample import Record
from sfumato.flows.text_to_image import text_to_image
from tests.parts import made
from tests.tiny import write_emoji, write_sd1

PROMPTS = ["a red hat", "two blue cats, and a scarlet dog", "apple"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return load(write_emoji(tmp_path_factory.mktemp("emoji")))


def make(parts: Parts, prompts: list[str], seeds: list[int], **settings: Any) -> torch.Tensor:
    return made(parts, prompts, seeds, **{"steps": 3, "guidance": 3.0, **settings})


def rows(parts: Parts) -> tuple[list[int], Any]:
    """The rows of each forward, and the handle that ends the counting."""
    counts: list[int] = []
    return counts, parts.network.unet.register_forward_pre_hook(lambda module, args: counts.append(len(args[0])))


def test_pictures_are_pictures(parts: Parts) -> None:
    pictures = make(parts, PROMPTS, [1, 2, 3])
    assert pictures.shape == (3, 3, 32, 32) and pictures.dtype == torch.float32
    assert pictures.min() >= -1 and pictures.max() <= 1 and pictures.std() > 0.1
    assert not pictures.requires_grad and not pictures.is_inference()


@pytest.mark.parametrize("scheduler", ["ddim", "dpmpp_2m", "euler_a", "unipc", "lcm"])
def test_a_picture_does_not_depend_on_its_neighbours(parts: Parts, scheduler: str) -> None:
    together = make(parts, PROMPTS, [1, 2, 3], scheduler=scheduler)
    alone = make(parts, PROMPTS[1:2], [2], scheduler=scheduler)
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 0.05


def test_again_is_bit_for_bit(parts: Parts) -> None:
    assert torch.equal(make(parts, PROMPTS, [1, 2, 3]), make(parts, PROMPTS, [1, 2, 3]))
    assert not torch.equal(make(parts, PROMPTS[:1], [1]), make(parts, PROMPTS[:1], [2]))


def test_one_forward_a_step(parts: Parts) -> None:
    counts, handle = rows(parts)
    make(parts, PROMPTS[:2], [1, 2], steps=4)
    make(parts, PROMPTS[:2], [1, 2], steps=4, guidance=1.0)
    make(parts, PROMPTS[:2], [1, 2], steps=4, interval=(0.25, 0.75))
    make(parts, PROMPTS[:2], [1, 2], steps=4, rescale=0.5)
    handle.remove()
    assert counts == [4] * 4 + [2] * 4 + [2, 4, 4, 2] + [4] * 4


def test_settings_change_the_picture(parts: Parts) -> None:
    plain = make(parts, PROMPTS[:1], [1])
    for change in (
        {"guidance": 6.0},
        {"negative": "blurry"},
        {"rescale": 0.7},
        {"interval": (0.0, 0.4)},
        {"scheduler": "heun"},
        {"steps": 4},
    ):
        assert (make(parts, PROMPTS[:1], [1], **change) - plain).abs().max() > 1e-3, change


def test_watch_sees_each_step(parts: Parts) -> None:
    records: list[Record] = []
    make(parts, PROMPTS[:1], [1], watch=records.append)
    assert [(record.index, record.count) for record in records] == [(1, 3), (2, 3), (3, 3)]
    assert records[-1].x.shape == (1, 4, 16, 16)


def test_size(parts: Parts) -> None:
    assert make(parts, PROMPTS[:1], [1], size=(16, 48)).shape == (1, 3, 16, 48)
    with pytest.raises(ValueError, match="multiples of 2"):
        make(parts, PROMPTS[:1], [1], size=(15, 48))


def test_half_precision_weights(tmp_path: Path) -> None:
    folder = write_sd1(tmp_path / "sd1")
    full, half = (make(load(folder, dtype), PROMPTS[:1], [1]) for dtype in (torch.float32, torch.bfloat16))
    assert half.dtype == torch.float32
    assert (full - half).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"guidance": -1.0}, "guidance must be"),
        ({"guidance": float("nan")}, "guidance must be"),
        ({"rescale": 1.5}, "rescale must lie"),
        ({"interval": (0.5, 0.5)}, "interval must be"),
        ({"steps": 0}, "steps must lie in 1..1000"),
        ({"scheduler": "dmi"}, "did you mean 'ddim'"),
    ],
)
def test_settings_out_of_range(parts: Parts, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(parts, PROMPTS[:1], [1], **change)


def test_prompts_and_seeds_must_agree(parts: Parts) -> None:
    for prompts, seeds in ((PROMPTS, [1]), ([], []), ("a red hat", [1])):
        with pytest.raises(ValueError, match="a list of prompts and one seed for each"):
            text_to_image(parts, prompts, seeds=seeds)


def test_the_public_names() -> None:
    assert sfumato.text_to_image is text_to_image and sfumato.load is load
    assert sfumato.__version__
    with pytest.raises(AttributeError, match="no attribute 'pipeline'"):
        _ = sfumato.pipeline


def test_importing_sfumato_imports_nothing_heavy() -> None:
    code = "import sys, sfumato; print({'torch', 'diffusers', 'transformers', 'numpy', 'PIL'} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"


def test_several_scores_of_the_estimate_act_together(parts: Parts) -> None:
    first, second = (lambda x0: x0.mean((1, 2, 3)), 50.0), (lambda x0: -x0.square().mean((1, 2, 3)), 50.0)

    def of(*scores: Any) -> torch.Tensor:
        return make(parts, ["a cat"], [1], guidance=1.0, estimate_scores=scores, steps=2)

    both = of(first, second)
    torch.testing.assert_close(both, of(second, first), rtol=0, atol=1e-4)
    assert all((both - of(each)).abs().max() > 1e-3 for each in (first, second))
