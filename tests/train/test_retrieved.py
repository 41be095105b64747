"""Training with a memory: what is in the contexts, what is refused, and a run from memory to sampling."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import sfumato
from sfumato.checkpoints.joint import load_joint
from sfumato.checkpoints.neighbours import load_training_vectors
from sfumato.core.noise import Noise
from sfumato.encoders.joint import NeighbourTokens
from sfumato.flows.prompts import Neighbours
from sfumato.recipes import retrieval
from sfumato.retrieval.build import build
from sfumato.retrieval.corpus import open_corpus
from sfumato.retrieval.embed import Maker
from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.memory import EncoderFacts, Memory
from sfumato.retrieval.patches import Whole
from sfumato.retrieval.world_pictures import drawings
from sfumato.train.embedded import build_unet
from sfumato.train.retrieved import Retrieved, open_memory, prepare_retrieved
from sfumato.train.scenes import SceneStream, to_images
from sfumato.world.scene import SceneConfig
from sfumato.world.sources import open_world

TOKENS = NeighbourTokens(scale=2.0, alone=True)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def data() -> Retrieved:
    rows = torch.randint(0, 30, (12, 6), generator=torch.Generator().manual_seed(1))
    return Retrieved(random(12, 4, 2, 2).half(), random(12, 8), rows, random(30, 8), "key")


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    """The 3d drawings of the sample world, embedded by the embedded model."""
    joint, place = load_joint("emoji"), tmp_path_factory.mktemp("memory") / "d3"

    def encode(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return joint.pictures(images)

    facts = EncoderFacts(joint.name, joint.fingerprint, joint.width, joint.side)
    build(place, open_corpus("world:sample:3d"), Maker(encode, facts, Whole()))
    return Memory.open(place)


def config(memory: Memory, place: Path, **fields: Any) -> retrieval.Config:
    """A run of two steps on the sample world."""
    return retrieval.Config(
        **{
            **{"output_dir": place, "memory": memory.folder, "world": "sample", "scenes": 8, "max_train_steps": 2},
            **{
                "held_out": 6,
                "train_batch_size": 4,
                "stored": 6,
                "neighbours": 3,
                "sample_steps": 2,
                "checkpointing_steps": 1,
            },
            **fields,
        }
    )


def test_contexts_are_the_nearest_entries(data: Retrieved) -> None:
    indices = torch.tensor([3, 0, 3])
    context = data.tokens(indices, 4, TOKENS, 0.0, Noise([0, 1, 2]))
    assert torch.equal(context, TOKENS(data.entries[data.rows[indices, :4]]))


def test_some_contexts_are_zeros_each_by_its_own_draw(data: Retrieved) -> None:
    indices = torch.arange(300) % 12
    context = data.tokens(indices, 4, TOKENS, 0.25, Noise(range(300)))
    empty = ~context.flatten(1).any(1)
    assert 0.15 < float(empty.float().mean()) < 0.35
    alone = data.tokens(indices[7:8], 4, TOKENS, 0.25, Noise([7]))
    assert torch.equal(alone[0], context[7])


def test_without_a_memory_the_context_is_a_zero(data: Retrieved) -> None:
    context = data.tokens(torch.arange(5), 0, TOKENS, 0.0, Noise(range(5)))
    assert context.shape == (5, 1, 8) and not context.any()


def test_a_style_that_is_in_both_is_refused(memory: Memory) -> None:
    world = open_world("sample")
    assert open_memory(memory.folder, world, ("glossy", "flat")).fingerprint == memory.fingerprint
    with pytest.raises(RetrievalError, match="holds 3d pictures, and so does the training set"):
        open_memory(memory.folder, world, ("glossy", "3d"))
    with pytest.raises(RetrievalError, match="holds no memory"):
        open_memory(memory.folder / "parts", world, ("glossy",))


def test_a_training_picture_is_found_in_a_memory_of_files(memory: Memory, tmp_path: Path) -> None:
    world = open_world("sample")
    heart = next(drawings(world, ("flat",)))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "mine.png").write_bytes(heart.content)
    build(tmp_path / "own", open_corpus(str(tmp_path / "files")), Maker.by(load_joint("emoji"), Whole()))
    open_memory(tmp_path / "own", world, ("glossy",))
    with pytest.raises(RetrievalError, match="1 of the .* training pictures are in the memory"):
        open_memory(tmp_path / "own", world, ("glossy", "flat"))


def prepared(memory: Memory | None, scenes: SceneStream, place: Path, digest: str = "a") -> Retrieved:
    """Of each picture, its mean colour is learned."""

    def learned(images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))

    encoder = load_joint("emoji")
    return prepare_retrieved(scenes, learned, encoder, memory, digest=digest, stored=5, folder=place)


def test_what_is_learned_is_computed_once_and_again_when_its_maker_changes(memory: Memory, tmp_path: Path) -> None:
    scenes = SceneStream(open_world("sample"), 0, 6, SceneConfig(styles=("flat",), pairs=0))
    found = prepared(memory, scenes, tmp_path)
    assert torch.equal(found.learned, to_images(scenes.render().pictures).mean((2, 3)))
    assert torch.equal(found.rows, memory.search(found.vectors, 5).rows)
    torch.testing.assert_close(found.context(torch.tensor([4]), 2)[0], memory.vectors(found.rows[4, :2]))
    assert prepared(memory, scenes, tmp_path).key == found.key
    assert len(list(tmp_path.glob("retrieved-*"))) == 1
    others = [prepared(memory, scenes, tmp_path, digest="b"), prepared(None, scenes, tmp_path)]
    assert len({found.key, *(other.key for other in others)}) == 3
    assert others[1].rows.shape == (6, 0) and len(list(tmp_path.glob("retrieved-*"))) == 3


def test_a_memory_of_another_encoder_is_refused(memory: Memory, tmp_path: Path) -> None:
    encoder, scenes = (
        replace(memory.facts.encoder, fingerprint="0" * 16),
        SceneStream(open_world("sample"), 0, 2, SceneConfig()),
    )
    other = replace(memory, facts=replace(memory.facts, encoder=encoder))
    with pytest.raises(RetrievalError, match="made with the encoder"):
        prepared(other, scenes, tmp_path)


def test_settings_that_cannot_be() -> None:
    wrong = (({"neighbours": 30}, "stored"), ({"zeros": 1.0}, "zeros"), ({"neighbours": -1}, "stored"))
    for fields, sentence in (*wrong, ({"width": 36}, "multiple of 8"), ({"width": 0}, "multiple of 8")):
        with pytest.raises(ValueError, match=sentence):
            retrieval.Config(**fields)


@pytest.mark.parametrize(("width", "heads"), [(16, [1, 1, 3]), (32, [1, 3, 6]), (48, [1, 4, 9]), (80, [2, 6, 15])])
def test_heads_divide_the_channels(width: int, heads: list[int]) -> None:
    unet: Any = build_unet(width, 4, 8)
    assert list(unet.config["attention_head_dim"]) == heads


@pytest.mark.parametrize("neighbours", [3, 0])
def test_a_run_ends_with_a_checkpoint_that_samples(memory: Memory, tmp_path: Path, neighbours: int) -> None:
    retrieval.main(config(memory, tmp_path, neighbours=neighbours, zeros=0.1))
    folder = tmp_path / "retrieval-00000002"
    parts, encoder = sfumato.load(folder), load_joint(folder)
    assert parts.neighbours is not None and parts.neighbours.alone
    assert encoder.fingerprint == memory.facts.encoder.fingerprint
    vectors = load_training_vectors(folder)
    assert vectors is not None and vectors.shape == (8, encoder.width)
    context = Neighbours(memory.vectors(memory.search(encoder.words(["a car", "a tree"]), 3).rows))
    steer, walk = sfumato.Steering(guidance=2.0, neighbours=context), sfumato.Walk(steps=2)
    images = sfumato.text_to_image(parts, ["", ""], seeds=[0, 1], steer=steer, walk=walk)
    assert images.shape == (2, 3, 64, 64) and images.isfinite().all()
    assert (tmp_path / "samples" / "step-00000002.png").is_file()
    told = ("their own neighbours", "another's neighbours", "no neighbours")[0 if neighbours else 2 :]
    card = json.loads((folder / "training.json").read_text())
    assert list(card["scores"]) == [f"loss on held-out scenes, under {name}" for name in told]
    assert all(re.fullmatch(r"[0-9.]+ \[[0-9.]+, [0-9.]+\]", figure) for figure in card["scores"].values())


def test_a_memory_of_the_training_styles_stops_the_run(memory: Memory, tmp_path: Path) -> None:
    with pytest.raises(RetrievalError, match="learns to copy"):
        retrieval.main(config(memory, tmp_path, styles=("flat", "3d")))


def test_a_resumed_run_goes_on_with_what_was_prepared(memory: Memory, tmp_path: Path) -> None:
    settings = config(memory, tmp_path, max_train_steps=1)
    retrieval.main(settings)
    prepared = sorted(tmp_path.glob("retrieved-*.safetensors"))
    retrieval.main(replace(settings, max_train_steps=2, resume_from_checkpoint="latest"))
    assert sorted(tmp_path.glob("retrieved-*.safetensors")) == prepared
    sizes = sorted(len(load_file(file)["vectors"]) for file in prepared)
    assert sizes == [6, 8], "held-out scenes and training scenes"
