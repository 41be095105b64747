from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from PIL import Image

import sfumato as library
from sfumato.core.image import open_picture, to_pictures
from sfumato.metadata import from_chunks
from sfumato.png_text import read_text_chunks
from tests.cli.conftest import Typed, pixels, spawn

KEYWORDS = frozenset({"sfumato", "parameters"})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_pictures_are_those_of_text_to_image(generate: Typed, sd1: Path, tmp_path: Path) -> None:
    told = generate("a red hat", "a blue cat", "--count", 2, "--seed", 7, "--json")
    assert told.code == 0
    order = ["a-red-hat-0000.png", "a-red-hat-0001.png", "a-blue-cat-0000.png", "a-blue-cat-0001.png"]
    assert [Path(facts["path"]).name for facts in told.objects] == order
    assert [facts["seed"] for facts in told.objects] == [7, 8, 9, 10]
    assert names(tmp_path) == sorted(order)
    prompts = ["a red hat"] * 2 + ["a blue cat"] * 2
    images = library.text_to_image(library.load(sd1), prompts, seeds=[7, 8, 9, 10], walk=library.Walk(steps=2))
    for name, picture in zip(order, to_pictures(images), strict=True):
        assert open_picture(tmp_path / name).tobytes() == picture.tobytes()


def test_every_setting_reaches_the_picture_and_its_recipe(generate: Typed, sd1: Path, tmp_path: Path) -> None:
    told = generate(
        *("a cat", "--seed", 3, "--scheduler", "euler_a", "--guidance", 6, "--negative", "blurry", "--size", "48x40"),
        *("--guidance-interval", "0.25:0.75", "--rescale", 0.5, "--steps", 4, "--max-rows", 1, "--json"),
    )
    assert told.code == 0
    images = library.text_to_image(
        library.load(sd1),
        ["a cat"],
        seeds=[3],
        size=(40, 48),
        steer=library.Steering(guidance=6.0, negative="blurry", interval=(0.25, 0.75), rescale=0.5),
        walk=library.Walk(4, "euler_a"),
    )
    made = pixels(tmp_path / "a-cat-0000.png")
    assert made.shape == (1, 3, 40, 48)
    assert (made - images).abs().max() < 0.01
    texts = read_text_chunks(tmp_path / "a-cat-0000.png", KEYWORDS)
    facts = {name: value for name, value in told.objects[0].items() if name not in ("path", "kind", "seconds")}
    assert json.loads(texts["sfumato"]) == {"format": 1, **facts}
    recipe = from_chunks(texts).recipe
    assert (recipe.scheduler, recipe.guidance, recipe.negative, recipe.seed) == ("euler_a", 6.0, "blurry", 3)
    assert (recipe.guidance_interval, recipe.rescale, recipe.steps) == ((0.25, 0.75), 0.5, 4)
    assert (recipe.width, recipe.height, recipe.dtype, recipe.threads) == (48, 40, "float32", 1)
    assert (recipe.model, recipe.version, len(recipe.fingerprint)) == ("sd1", library.__version__, 16)
    assert texts["parameters"].startswith(
        "a cat\nNegative prompt: blurry\nSteps: 4, Sampler: Euler a, CFG scale: 6, Seed: 3"
    )


def test_exact_pictures_are_those_made_alone(generate: Typed, tmp_path: Path) -> None:
    assert generate("a cat", "--count", 3, "--seed", 1, "--exact").code == 0
    assert generate("a cat", "--seed", 3).code == 0
    assert (tmp_path / "a-cat-0002.png").read_bytes() == (tmp_path / "a-cat-0003.png").read_bytes()


def test_batches_change_nothing_but_rounding(generate: Typed, tmp_path: Path) -> None:
    assert generate("a cat", "--count", 3, "--seed", 1, "--batch", 2).code == 0
    assert generate("a cat", "--count", 3, "--seed", 1).code == 0
    recipes = [from_chunks(read_text_chunks(tmp_path / f"a-cat-000{i}.png", KEYWORDS)).recipe for i in range(6)]
    assert [recipe.batch for recipe in recipes] == [2, 2, 1, 3, 3, 3]
    for i in range(3):
        assert (pixels(tmp_path / f"a-cat-000{i}.png") - pixels(tmp_path / f"a-cat-000{i + 3}.png")).abs().max() < 0.02


def test_nothing_is_overwritten_without_force(generate: Typed, tmp_path: Path) -> None:
    for _ in range(2):
        assert generate("a cat", "--seed", 1).code == 0
    assert names(tmp_path) == ["a-cat-0000.png", "a-cat-0001.png"]
    first = (tmp_path / "a-cat-0000.png").read_bytes()
    assert generate("a cat", "--seed", 2, "--force").code == 0
    assert names(tmp_path) == ["a-cat-0000.png", "a-cat-0001.png"]
    assert (tmp_path / "a-cat-0000.png").read_bytes() != first
    assert (tmp_path / "a-cat-0001.png").read_bytes() == first


def test_a_seed_is_drawn_if_none_is_given_and_told(generate: Typed) -> None:
    seeds = [generate("a cat", "--json").objects[0]["seed"] for _ in range(2)]
    assert seeds[0] != seeds[1]


def test_no_metadata_and_grid(generate: Typed, tmp_path: Path) -> None:
    assert generate("a cat", "a dog", "--count", 2, "--grid", "--no-metadata").code == 0
    assert len(names(tmp_path)) == 5
    for name in names(tmp_path):
        assert read_text_chunks(tmp_path / name, KEYWORDS) == {}
    with Image.open(tmp_path / "a-cat-grid-0000.png") as sheet:
        assert sheet.width > 2 * 32 and sheet.height > 2 * 32


def test_people_read_stderr_and_programs_stdout(generate: Typed, tmp_path: Path) -> None:
    told = generate("a cat", "--seed", 5)
    assert told.out == ""
    assert told.err == f"{tmp_path / 'a-cat-0000.png'} (seed 5)\n"
    told = generate("a cat " * 100, "--quiet", "--json")
    assert told.err == ""
    assert len(told.objects) == 1


def test_auto_dtype_and_class_names_of_schedulers(generate: Typed) -> None:
    told = generate("a cat", "--dtype", "auto", "--scheduler", "DDIMScheduler", "--json")
    assert told.code == 0
    assert told.objects[0]["dtype"] in ("float32", "bfloat16")
    told = generate("a cat", "--scheduler", "DDIMSheduler")
    assert told.code == 2
    assert "no scheduler 'DDIMSheduler'; did you mean 'DDIMScheduler'" in told.err


@pytest.mark.parametrize(
    ("flag", "value", "master"),
    [("clip-form", "estimate", "clip-guidance"), ("like-scale", 8, "like"), ("parser", "spacy", "structure")],
)
def test_a_flag_without_effect_is_told(generate: Typed, flag: str, value: object, master: str) -> None:
    told = generate("a cat", f"--{flag}", value)
    assert told.code == 0 and f"note: without --{master} --{flag} does nothing" in told.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--steps", "-3"], "--steps: needs a whole number from 1 to 1000, got '-3'"),
        (["--steps", "0"], "--steps: needs"),
        (["--steps", "2.5"], "--steps: needs"),
        (["--count", "0"], "--count: needs a whole number from 1 to 10000, got '0'"),
        (["--guidance", "nan"], "--guidance: needs a number from 0 to 1000, got 'nan'"),
        (["--guidance", "inf"], "--guidance: needs"),
        (["--guidance", "-1"], "--guidance: needs"),
        (["--guidance-interval", "0.9:0.1"], "--guidance-interval: needs LOW:HIGH"),
        (["--rescale", "2"], "--rescale: needs a number from 0 to 1"),
        (["--seed", "-1"], "--seed: needs"),
        (["--seed", str(2**64)], "--seed: needs"),
        (["--seed", str(2**64 - 1), "--count", "2"], "the last picture's seed would be"),
        (["--size", "0x64"], "--size: needs WIDTHxHEIGHT"),
        (["--scheduler", "eulr"], "--scheduler: no scheduler 'eulr'; did you mean 'euler'"),
        (["--model", "emojy"], "no model or folder 'emojy'"),
        (["--max-rows", "0"], "--max-rows: needs"),
        (["--threads", "0"], "--threads: needs"),
        (["--batch", "0"], "--batch: needs"),
        (["--negative", "x" * 10_001], "a prompt has 10001 characters"),
        (["  "], "a prompt is empty"),
        (["a cat\udcff"], "a prompt holds bytes that are no text in UTF-8"),
        (["--mode", "neighbours"], "--mode speaks of a memory; name its folder by --memory"),
        (["--guidance", "0", "--show-attention"], "--show-attention shows where the prompt looked, and with"),
        (["x" * 10_001], "a prompt has 10001 characters"),
    ],
)
def test_wrong_settings_end_with_code_2(generate: Typed, tmp_path: Path, words: list[str], sentence: str) -> None:
    told = generate("a cat", *words)
    assert told.code == 2
    assert told.err.startswith(f"sfumato: {sentence}")
    assert told.err.count("\n") == 1
    assert names(tmp_path) == []


def test_what_cannot_be_done_ends_with_code_1(generate: Typed, sfumato: Typed, sd1: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, sentence in [
        (["-o", tmp_path / "file"], "is a file, not a folder; choose another --output"),
        (["-o", tmp_path / "file" / "below"], "cannot write into"),
        (["--model", empty], "holds no model: it has no model_index.json"),
    ]:
        told = generate("a cat", *words)
        assert told.code == 1
        assert sentence in told.err
        assert "Traceback" not in told.err


def test_a_broken_model_gets_a_sentence(generate: Typed, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model_index.json").write_text('{"unet": ["diffusers", "Evil"]}')
    told = generate("a cat", "--model", broken)
    assert told.code == 1
    assert told.err.startswith("sfumato: ")
    assert "Traceback" not in told.err


def test_ctrl_c_leaves_finished_pictures_whole(sd1: Path, tmp_path: Path) -> None:
    process = spawn(
        *("generate", "a cat", "--model", sd1, "--count", 5000, "--batch", 1, "--steps", 2, "--json", "-o", tmp_path),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    made = names(tmp_path)
    assert 1 <= len(made) < 5000
    assert told.splitlines()[-1] == f"sfumato: interrupted; {len(made)} of 5000 pictures are finished"
    for name in made:
        assert name.startswith("a-cat-")
        assert pixels(tmp_path / name).shape == (1, 3, 32, 32)
