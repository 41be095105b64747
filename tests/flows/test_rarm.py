"""Drawing codes: each picture by its own seed, from the right distribution, guided as the formula says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.checkpoints.rarm import RarmParts, load_rarm
from sfumato.checkpoints.safety import CheckpointError
from sfumato.core.noise import Noise
from sfumato.flows.rarm import Drawing, draw_codes, rarm
from sfumato.networks.codes import CodeCodec, VQModel
from sfumato.networks.rarm import Rarm

GREEDY = Drawing(temperature=0)


def tiny_parts(**settings: Any) -> RarmParts:
    """16 x 16 pictures of 4 x 4 codes of 12, under vectors of 6 numbers."""
    torch.manual_seed(0)
    vq = VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 4, 8),
        latent_channels=8,
        num_vq_embeddings=12,
        vq_embed_dim=3,
        norm_num_groups=2,
        sample_size=16,
    )
    vq.quantize.embedding.weight.data.normal_()
    plain = {"codes": 12, "length": 16, "context_width": 6, "width": 16, "layers": 2, "heads": 2}
    network = Rarm(**{**plain, **settings}).eval().requires_grad_(False)
    for weight in network.parameters():
        weight.add_(0.2 * torch.randn_like(weight))
    return RarmParts(network, CodeCodec(vq.eval().requires_grad_(False)))


PARTS = tiny_parts()
CONTEXT = Noise([1, 2, 3])((3, 4, 6))
SEEDS = (7, 8, 9)


def drawn(context: Tensor = CONTEXT, guidance: float = 1.0, drawing: Drawing = GREEDY) -> Tensor:
    with torch.no_grad():
        return draw_codes(PARTS.rarm, context, Noise(SEEDS), guidance, drawing)


def drawn_without_a_cache(guidance: float, drawing: Drawing) -> Tensor:
    """The formula, each code from a forward pass over all before it."""
    codes, noise = torch.zeros(3, 0, dtype=torch.int64), Noise(SEEDS)
    while codes.shape[1] < 16:
        null, told = (PARTS.rarm(codes, each)[:, -1] for each in (torch.zeros_like(CONTEXT), CONTEXT))
        codes = torch.cat([codes, drawing(null + guidance * (told - null), noise)[:, None]], 1)
    return codes


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("drawing", [GREEDY, Drawing(), Drawing(1.3, top_k=5, top_p=0.9)], ids=repr)
def test_codes_follow_the_formula(guidance: float, drawing: Drawing) -> None:
    assert torch.equal(drawn(guidance=guidance, drawing=drawing), drawn_without_a_cache(guidance, drawing))


def test_scale_one_is_no_guidance_and_scale_zero_no_context() -> None:
    plain = drawn(drawing=Drawing())
    assert torch.equal(drawn(guidance=1 + 1e-9, drawing=Drawing()), plain)
    null = drawn(torch.zeros_like(CONTEXT), drawing=Drawing())
    assert torch.equal(drawn(guidance=0.0, drawing=Drawing()), null)
    assert not torch.equal(null, plain) and not torch.equal(drawn(guidance=3.0, drawing=Drawing()), plain)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_picture_is_the_same_in_any_batch(guidance: float) -> None:
    together = rarm(PARTS, CONTEXT, seeds=SEEDS, guidance=guidance)
    assert together.shape == (3, 3, 16, 16) and together.dtype == torch.float32
    assert -1 <= together.min() < together.max() <= 1
    for i, seed in enumerate(SEEDS):
        alone = rarm(PARTS, CONTEXT[i : i + 1], seeds=[seed], guidance=guidance)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-5)


def test_pictures_are_their_codes_decoded() -> None:
    torch.testing.assert_close(
        rarm(PARTS, CONTEXT, seeds=SEEDS), PARTS.codec.decode(drawn(drawing=Drawing())), rtol=0, atol=1e-6
    )


def test_one_context_serves_all_seeds() -> None:
    one = rarm(PARTS, CONTEXT[:1], seeds=SEEDS)
    torch.testing.assert_close(one, rarm(PARTS, CONTEXT[:1].expand(3, -1, -1), seeds=SEEDS), rtol=0, atol=0)
    assert not torch.equal(one[0], one[1])


def test_the_number_of_neighbours_may_vary() -> None:
    for k in (1, 2, 8):
        assert rarm(PARTS, Noise([1])((1, k, 6)), seeds=[0]).shape == (1, 3, 16, 16)


def test_the_likeliest_code_needs_no_seed() -> None:
    logits = Noise(range(5))((5, 12))
    for drawing in (GREEDY, Drawing(top_k=1), Drawing(top_p=1e-6), Drawing(temperature=1e-9)):
        assert torch.equal(drawing(logits, Noise(range(5))), logits.argmax(-1)), drawing


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_codes_are_drawn_from_the_softmax(temperature: float) -> None:
    logits, count = torch.tensor([2.0, 0.0, -1.0, 1.0, -8.0]), 8000
    found = Drawing(temperature)(logits.expand(count, -1), Noise(range(count)))
    share = torch.bincount(found, minlength=5) / count
    wanted = (logits / temperature).softmax(0)
    assert ((share - wanted).abs() < 4 * (wanted * (1 - wanted) / count).sqrt() + 1e-3).all()


def test_what_is_not_likely_enough_is_never_drawn() -> None:
    logits, count = torch.tensor([0.2, 0.4, 0.1, 0.3]).log(), 2000
    noise = Noise(range(count))
    found = {
        name: set(drawing(logits.expand(count, -1), noise).tolist())
        for name, drawing in {
            "all": Drawing(),
            "two": Drawing(top_k=2),
            "more than there are": Drawing(top_k=99),
            "seven tenths": Drawing(top_p=0.69),
            "a little more": Drawing(top_p=0.71),
            "both": Drawing(top_k=3, top_p=0.4),
        }.items()
    }
    assert found["all"] == found["more than there are"] == {0, 1, 2, 3}
    assert found["two"] == found["seven tenths"] == {1, 3}
    assert found["a little more"] == {0, 1, 3}
    assert found["both"] == {1}, "the shares of top_p are those among the top_k: 4/9, above 0.4"


@pytest.mark.parametrize("settings", [{"temperature": -1}, {"temperature": float("inf")}, {"top_k": 0}, {"top_p": 0}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Drawing(**settings)


def test_contexts_and_seeds_must_fit() -> None:
    with pytest.raises(ValueError, match="2 seeds need a context"):
        rarm(PARTS, CONTEXT, seeds=[1, 2])
    with pytest.raises(ValueError, match="expected C of shape"):
        rarm(PARTS, torch.zeros(1, 4, 7), seeds=[1])


@pytest.mark.parametrize("settings", [{"codes": 13}, {"length": 15}])
def test_parts_must_belong_together(settings: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not trained together"):
        tiny_parts(**settings)
    Rarm(**{"codes": 12, "length": 16, "context_width": 6, **settings}).save_pretrained(tmp_path / "rarm")
    PARTS.codec.vq.save_pretrained(tmp_path / "vq")
    with pytest.raises(CheckpointError, match="not trained together"):
        load_rarm(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Both parts, to spoil."""
    PARTS.rarm.save_pretrained(tmp_path / "rarm")
    PARTS.codec.vq.save_pretrained(tmp_path / "vq")
    return tmp_path


def test_saved_and_loaded_parts_make_the_same_pictures(folder: Path) -> None:
    loaded = load_rarm(folder)
    assert not any(weight.requires_grad for weight in loaded.rarm.parameters()) and not loaded.rarm.training
    wanted = rarm(PARTS, CONTEXT, seeds=SEEDS, guidance=2.0)
    torch.testing.assert_close(rarm(loaded, CONTEXT, seeds=SEEDS, guidance=2.0), wanted, rtol=0, atol=0)
    half = load_rarm(folder, torch.bfloat16)
    assert half.rarm.dtype == torch.bfloat16 and half.codec.vq.dtype == torch.float32
    assert bool(rarm(half, CONTEXT, seeds=SEEDS).isfinite().all())


@pytest.mark.parametrize(
    ("part", "changes", "sentence"),
    [
        ("rarm", {"_class_name": "Guide"}, "rarm is of the class 'Guide'; known is Rarm"),
        ("vq", {"_class_name": None}, "vq is of the class None; known is VQModel"),
        ("rarm", {"layers": 10**9}, "describes no Rarm"),
        ("rarm", {"width": "wide"}, "describes no Rarm"),
        ("rarm", {"layers": 3}, "rarm lacks"),
        ("rarm", {"codes": 13}, "in another shape"),
        ("vq", {"block_out_channels": []}, "describes no VQModel"),
        ("vq", {"num_vq_embeddings": 13}, "in another shape"),
    ],
)
def test_spoiled_parts_are_refused(folder: Path, part: str, changes: dict[str, Any], sentence: str) -> None:
    path = folder / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=sentence) as raised:
        load_rarm(folder)
    assert "\n" not in str(raised.value)


def test_missing_parts_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "vq" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="vq has no weights"):
        load_rarm(folder)
    with pytest.raises(CheckpointError, match="there is no folder rarm in nothing; 'sfumato train rarm' makes both"):
        load_rarm(tmp_path / "nothing")
