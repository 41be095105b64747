"""Pictures of a model that draws codes, as `sfumato train rarm` leaves it, from a memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sfumato.checkpoints.neighbours import save_training_vectors
from sfumato.checkpoints.rarm import RarmParts, save_rarm
from sfumato.core.noise import Noise
from sfumato.encoders.joint import NeighbourTokens
from tests.cli.conftest import Typed, pixels, recipe_of
from tests.flows.test_rarm import tiny_parts
from tests.tiny import TEXT_WIDTH, write_emoji


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 16 x 16 pictures whose queries a tiny encoder embeds."""
    folder = tmp_path_factory.mktemp("models") / "twin"
    parts = tiny_parts(context_width=TEXT_WIDTH)
    save_rarm(RarmParts(parts.rarm, parts.codec, NeighbourTokens(scale=3.0, alone=True)), folder)
    save_training_vectors(folder, Noise(range(9))((9, TEXT_WIDTH)))
    write_emoji(folder / "encoder")
    return folder


@pytest.fixture
def memory(sfumato: Typed, twin: Path, tmp_path: Path) -> Path:
    """Four colours as the encoder sees them."""
    (tmp_path / "colours").mkdir()
    for name in ("red", "green", "blue", "white"):
        Image.new("RGB", (40, 30), name).save(tmp_path / "colours" / f"{name}.png")
    told = sfumato("memory", "build", tmp_path / "colours", "-o", tmp_path / "memory", "--encoder", twin / "encoder")
    assert told.code == 0, told.err
    return tmp_path / "memory"


@pytest.fixture
def ask(sfumato: Typed, twin: Path, memory: Path, tmp_path: Path) -> Typed:
    """`sfumato generate` with that model and its memory."""

    def run(*words: object) -> object:
        flags = ("--model", twin, "--memory", memory, "--neighbours", 2, "--dtype", "float32", "--threads", 1)
        return sfumato("generate", *flags, "-o", tmp_path, *words)

    return run  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("mode", ["text", "neighbours", "both"])
def test_a_prompt_is_drawn_and_drawn_again(sfumato: Typed, ask: Typed, twin: Path, tmp_path: Path, mode: str) -> None:
    words = ("a red hat", "--mode", mode, "--seed", 1, "--temperature", 0.9, "--top-k", 9, "--top-p", 0.95)
    told = ask(*words, "--show-neighbours", "--json")
    assert told.code == 0, told.err
    picture = tmp_path / "a-red-hat-0000.png"
    made = recipe_of(picture)
    assert made.size == (16, 16) and (made.temperature, made.top_k, made.top_p) == (0.9, 9, 0.95)
    assert (made.scheduler, made.steps) == ("codes", 16)
    found = made.recall.found if made.recall else ()
    assert len(found) == {"text": 0, "neighbours": 2, "both": 1}[mode]
    assert (tmp_path / "a-red-hat-0000-neighbours-0000.png").is_file() == (mode != "text")
    again = sfumato("again", picture, "--model", twin, "-o", tmp_path)
    assert again.code == 0, again.err
    assert (tmp_path / "a-red-hat-0001.png").read_bytes() == picture.read_bytes()


def test_its_pictures_are_not_drawn_again_by_a_denoiser(sfumato: Typed, ask: Typed, tmp_path: Path) -> None:
    assert ask("a hat").code == 0
    told = sfumato("again", tmp_path / "a-hat-0000.png", "-o", tmp_path, "--model", "emoji")
    assert told.code == 2 and "was drawn code by code; give a model of `sfumato train rarm` by --model" in told.err


def test_more_steps_than_levels_are_for_codes_alone(generate: Typed, sfumato: Typed, sd1: Path, tmp_path: Path) -> None:
    assert generate("a hat").code == 0
    (made,) = tmp_path.rglob("a-hat-0000.png")
    with Image.open(made) as picture:
        recipe = json.loads(picture.info["sfumato"])
    info = PngInfo()
    info.add_text("sfumato", json.dumps({**recipe, "steps": 5000}))
    Image.new("RGB", (16, 16)).save(tmp_path / "long.png", pnginfo=info)
    told = sfumato("again", tmp_path / "long.png", "-o", tmp_path, "--model", sd1)
    assert told.code == 2 and "a recipe of 5000 steps is not followed; at most 1000 are" in told.err


def test_a_picture_or_nobody_may_ask(ask: Typed, tmp_path: Path) -> None:
    assert ask("--like", tmp_path / "colours" / "blue.png", "--mode", "neighbours").code == 0
    asked = recipe_of(tmp_path / "picture-0000.png").recall
    assert asked is not None and asked.found[0][1] == "blue.png"
    assert ask("--unconditional", "--count", 3, "--seed", 0).code == 0
    assert len(list(tmp_path.glob("picture-*.png"))) == 4


def test_scales_and_seeds_belong_to_their_pictures(ask: Typed, tmp_path: Path) -> None:
    assert ask("a hat", "a cat", "--guidance", "1,5", "--seed", 3).code == 0
    assert ask("a cat", "--guidance", 5, "--seed", 4).code == 0
    together, alone = tmp_path / "a-cat-0000.png", tmp_path / "a-cat-0001.png"
    assert torch.equal(pixels(together), pixels(alone))
    assert ask("a dog", "--temperature", 0, "--count", 2).code == 0
    first, second = (pixels(tmp_path / f"a-dog-000{number}.png") for number in range(2))
    assert torch.equal(first, second), "the likeliest codes need no seed"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--steps", 3), "so --steps means nothing to it"),
        (("--scheduler", "heun"), "so --scheduler means nothing"),
        (("--negative", "blurry"), "so --negative means nothing"),
        (("--and", "a cat:1"), "so --and, --not means nothing"),
        (("--structure",), "so --structure means nothing"),
        (("--size", "32x32"), "16x16 alone"),
        (("--mode", "and"), "reads no words"),
        (("--show-attention",), "leave out --show-attention"),
        (("--max-rows", 2), "leave out --show-attention and --max-rows"),
        (("--top-p", 0), "--top-p"),
    ],
)
def test_what_it_does_not_know_is_refused(ask: Typed, tmp_path: Path, words: tuple[object, ...], sentence: str) -> None:
    told = ask("a hat", *words)
    assert told.code == 2 and sentence in told.err and told.err.count("\n") == 1
    assert not list(tmp_path.glob("*.png"))


def test_other_commands_and_models_say_so(
    sfumato: Typed, generate: Typed, twin: Path, photo: Path, tmp_path: Path
) -> None:
    told = sfumato("generate", "a hat", "--model", twin, "-o", tmp_path)
    assert told.code == 2 and "give it some by --memory" in told.err
    told = sfumato("redraw", photo, "a hat", "--model", twin, "-o", tmp_path)
    assert told.code == 2 and "draws codes and denoises nothing" in told.err
    told = sfumato("grid", "a hat", "--x", "steps=1,2", "--model", twin, "-o", tmp_path)
    assert told.code == 1 and "draws codes and denoises nothing" in told.err
    for told in (generate("a hat", "--top-k", 3), sfumato("evaluate", "--top-k", 3, "-o", tmp_path)):
        assert told.code == 2 and "--top-k is for a model of `sfumato train rarm`" in told.err
    told = sfumato("evaluate", "--model", twin, "--cache", "sample", "-o", tmp_path)
    assert told.code == 1 and "draws codes and denoises nothing" in told.err
