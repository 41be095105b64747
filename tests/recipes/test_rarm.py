"""The autoregressive recipe: it learns codes under neighbours, resumes, and leaves a folder that samples."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sfumato.checkpoints.joint import load_joint
from sfumato.checkpoints.neighbours import load_training_vectors
from sfumato.checkpoints.rarm import RarmParts, load_rarm
from sfumato.checkpoints.safety import CheckpointError
from sfumato.core.noise import Noise
from sfumato.encoders.image import picture_tokens
from sfumato.encoders.joint import NeighbourTokens
from sfumato.flows.rarm import Drawing, draw_codes
from sfumato.flows.rarm import rarm as draw
from sfumato.networks.codes import CodeCodec
from sfumato.networks.rarm import log_likelihood
from sfumato.recipes import rarm, vq
from sfumato.retrieval.build import build
from sfumato.retrieval.corpus import open_corpus
from sfumato.retrieval.embed import Maker
from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.memory import EncoderFacts, Memory
from sfumato.retrieval.patches import Whole
from sfumato.train.locked import locked_vq
from sfumato.train.prepare import over
from sfumato.train.scenes import render, to_images
from sfumato.world.scene import SceneConfig
from sfumato.world.sources import open_world
from tests.checkpoints.test_joint import write_clip
from tests.tiny import write_emoji


def tiny_codec() -> CodeCodec:
    """A quantised codec that has learned nothing, its 64 codes taken from what its encoder says of a scene."""
    torch.manual_seed(0)
    model: Any = vq.build(vq.Config(width=8, codes=64)).eval().requires_grad_(False)
    scene = to_images(render(open_world("sample"), 9, 1, SceneConfig()).pictures)
    model.quantize.embedding.weight.copy_(vq.quantised(model, scene)[0].flatten(0, 2))
    return CodeCodec(model)


def build_memory(base: Path, place: Path) -> Memory:
    """The 3d drawings of the sample world, embedded by a base."""
    joint = load_joint(base)
    facts = EncoderFacts(joint.name, joint.fingerprint, joint.width, joint.side)
    build(place, open_corpus("world:sample:3d"), Maker(joint.pictures, facts, Whole()))
    return Memory.open(place)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> rarm.Config:
    """Of a run of 12 steps, on locked parts that have learned nothing."""
    folder = tmp_path_factory.mktemp("base")
    tiny_codec().vq.save_pretrained(folder / "vq")
    base = write_emoji(folder / "base")
    return rarm.Config(
        output_dir=folder / "run",
        base=str(base),
        memory=build_memory(base, folder / "memory").folder,
        vq=folder / "vq",
        max_train_steps=12,
        train_batch_size=4,
        learning_rate=3e-3,
        lr_warmup_steps=2,
        ema_decay=0.5,
        checkpointing_steps=6,
        sample_steps=12,
        logging_steps=2,
        width=32,
        layers=2,
        heads=2,
        neighbours=2,
        stored=3,
        scenes=24,
        held_out=8,
        world="sample",
    )


def made(run: Path, steps: int) -> Path:
    """The checkpoint of a run."""
    return run / f"rarm-{steps:08d}"


@pytest.fixture(scope="module")
def run(settings: rarm.Config) -> Path:
    """The folder of a run of 6 + 6 steps."""
    rarm.main(replace(settings, max_train_steps=6))
    rarm.main(replace(settings, resume_from_checkpoint="latest"))
    return settings.output_dir


def test_it_learns_and_says_what_the_neighbours_tell(run: Path) -> None:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    assert losses[-1] < losses[0] - 0.1
    assert abs(losses[0] - torch.tensor(64.0).log()) < 0.5, "it begins at the logarithm of the codes"
    card = json.loads((made(run, 12) / "training.json").read_text())
    assert "sfumato train rarm" in card["command"] and card["steps"] == 12
    under = [f"nats a code on held-out scenes, under {name} neighbours" for name in ("their own", "another's", "no")]
    assert list(card["scores"]) == under and all(0 < score < 4.5 for score in card["scores"].values())
    assert (run / "samples" / "step-00000012.png").is_file()


def test_what_it_leaves_samples_from_a_memory(run: Path, settings: rarm.Config) -> None:
    folder = made(run, 12)
    parts, encoder, vectors = load_rarm(folder), load_joint(folder / "encoder"), load_training_vectors(folder)
    memory = Memory.open(settings.memory)
    assert encoder.fingerprint == memory.facts.encoder.fingerprint
    assert parts.neighbours == NeighbourTokens(normalised=True, scale=32**0.5 / 2, alone=True)
    assert vectors is not None and vectors.shape == (24, 32), "of those that were learned"
    rows = memory.search(encoder.words(["a red hat", "the cat"]), 3).rows
    pictures = draw(parts, memory.vectors(rows), seeds=[0, 1], guidance=2.0, drawing=Drawing(0.9, top_k=20))
    assert pictures.shape == (2, 3, 64, 64) and -1 <= pictures.min() < pictures.max() <= 1
    codec = locked_vq(settings.vq)
    assert torch.equal(parts.codec.encode(pictures), codec.encode(pictures)), "its codec is that of the training"


def test_codes_and_neighbours_are_computed_once_and_kept(run: Path, settings: rarm.Config) -> None:
    files = [load_file(file) for file in run.glob("retrieved-*.safetensors")]
    found, others = sorted(files, key=lambda file: -len(file["rows"]))
    codec = locked_vq(settings.vq)
    scenes = render(open_world("sample"), settings.seed, 24, settings.scene_config())
    assert torch.equal(found["learned"], over(scenes.pictures, "codes", codec.encode))
    assert found["rows"].shape == (24, 3) and others["rows"].shape == (8, 3)


def test_without_a_memory_nothing_is_told(settings: rarm.Config, tmp_path: Path) -> None:
    """Nothing reaches the weights that read the context; the memory need not be there."""
    nowhere = {"memory": tmp_path / "nowhere", "output_dir": tmp_path / "run"}
    config = replace(settings, **nowhere, neighbours=0, zeros=0.0, max_train_steps=1, weight_decay=0.0)
    rarm.main(config)
    trained = load_rarm(made(tmp_path / "run", 1)).rarm
    still = _still(config, trained)
    assert _of_the_context(trained) <= still and "blocks.0.to_codes.to_q.weight" not in still
    card = json.loads((made(tmp_path / "run", 1) / "training.json").read_text())
    assert list(card["scores"]) == ["nats a code on held-out scenes, under no neighbours"]


def test_the_null_is_learned_as_often_as_it_is_asked_for(settings: rarm.Config, tmp_path: Path) -> None:
    for zeros in (0.0, 1.0):
        config = replace(settings, output_dir=tmp_path / str(zeros), zeros=zeros, max_train_steps=1, weight_decay=0.0)
        rarm.main(config)
        trained = load_rarm(made(config.output_dir, 1)).rarm
        assert (_of_the_context(trained) <= _still(config, trained)) == bool(zeros)


def _of_the_context(network: torch.nn.Module) -> set[str]:
    """The weights that read C."""
    return {name for name in network.state_dict() if "to_context.to_" in name and "to_out" not in name}


def _still(config: rarm.Config, trained: torch.nn.Module) -> set[str]:
    """The weights that are as they were before the training."""
    torch.manual_seed(config.seed)
    before, after = rarm.build(config, locked_vq(config.vq), 32).state_dict(), trained.state_dict()
    return {name for name in before if torch.equal(before[name], after[name])}


def test_a_clip_can_be_the_base(settings: rarm.Config, tmp_path: Path) -> None:
    base = write_clip(tmp_path / "clip")
    (base / "pytorch_model.bin").write_bytes(b"a pickle")
    memory = build_memory(base, tmp_path / "memory").folder
    rarm.main(replace(settings, output_dir=tmp_path / "run", base=str(base), memory=memory, max_train_steps=1))
    kept = made(tmp_path / "run", 1) / "encoder"
    assert load_joint(kept).fingerprint == load_joint(base).fingerprint
    assert not (kept / "pytorch_model.bin").exists()


def test_a_run_that_is_based_on_what_it_keeps_goes_on(settings: rarm.Config, run: Path, tmp_path: Path) -> None:
    folder, own = tmp_path / "run", made(tmp_path / "run", 12)
    shutil.copytree(run, folder)
    again = replace(settings, output_dir=folder, base=str(own / "encoder"), vq=own / "vq", max_train_steps=13)
    rarm.main(replace(again, resume_from_checkpoint="latest"))
    last = made(folder, 13)
    assert load_joint(last / "encoder").fingerprint == load_joint(settings.base).fingerprint
    load_rarm(last)


def test_eight_pictures_can_be_learned_by_heart() -> None:
    """Their likelihood rises to nearly 1, under their own context alone, and the likeliest codes are theirs."""
    codec = tiny_codec()
    scenes = render(open_world("sample"), 0, 8, SceneConfig())
    codes = over(scenes.pictures, "codes", codec.encode)
    assert len(codes.unique(dim=0)) == 8
    context = picture_tokens(torch.nn.functional.normalize(Noise(range(8))((8, 4, 32)), dim=-1))
    torch.manual_seed(0)
    network = rarm.build(rarm.Config(width=64, layers=2, heads=2), codec, 32)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.0)
    seen: list[float] = []
    for _ in range(120):
        loss = -log_likelihood(network, codes, context).mean() / 64
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(loss.detach()))
    assert seen[0] > 3.5 and seen[-1] < 0.05
    network.eval().requires_grad_(False)
    drawn = draw_codes(network, context, Noise(range(8)), 1.0, Drawing(temperature=0))
    assert torch.equal(drawn, codes)
    pictures = draw(RarmParts(network, codec), context, seeds=range(8), drawing=Drawing(temperature=0))
    torch.testing.assert_close(pictures, codec.decode(codes), rtol=0, atol=1e-5)
    figures = list(rarm.measure(network, codes, context, batch=3).values())
    assert figures[0] < 0.1 and figures[1] > 1, "another picture's neighbours lead to another picture"


def test_mistakes_are_refused(settings: rarm.Config, tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [{"zeros": 1.5}, {"held_out": 1}, {"neighbours": 4}]
    for each in wrong:
        with pytest.raises(ValueError, match=next(iter(each))):
            replace(settings, **each)
    with pytest.raises(FileNotFoundError, match="'sfumato train vq' makes it"):
        rarm.main(replace(settings, output_dir=tmp_path, vq=tmp_path / "nothing"))
    with pytest.raises(CheckpointError, match="there is no folder"):
        rarm.main(replace(settings, output_dir=tmp_path, base="nothing"))
    with pytest.raises(RetrievalError, match="learns to copy"):
        rarm.main(replace(settings, output_dir=tmp_path, styles=("flat", "3d")))
    assert not list(tmp_path.iterdir()), "before anything is computed"
