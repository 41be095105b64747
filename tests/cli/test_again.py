from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.cli.conftest import Typed


@pytest.fixture
def made(sfumato: Typed, sd1: Path, tmp_path: Path) -> Path:
    """A picture of the tiny model."""
    words = ("--seed", 11, "--steps", 3, "--scheduler", "dpmpp_2m", "--guidance", 5, "--negative", "blurry")
    told = sfumato("generate", "a red hat", *words, "--rescale", 0.3, "--model", sd1, "--threads", 1, "-o", tmp_path)
    assert told.code == 0
    return tmp_path / "a-red-hat-0000.png"


def recipe_of(path: Path) -> dict[str, Any]:
    with Image.open(path) as picture:
        return json.loads(picture.info["sfumato"])


def picture(path: Path, **texts: str) -> Path:
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text)
    Image.new("RGB", (2, 2)).save(path, pnginfo=info)
    return path


def test_the_same_picture_bit_for_bit(sfumato: Typed, made: Path, sd1: Path, tmp_path: Path) -> None:
    told = sfumato("again", made, "--model", sd1, "-o", tmp_path / "again")
    assert told.code == 0
    assert "note" not in told.err
    assert (tmp_path / "again" / made.name).read_bytes() == made.read_bytes()


def test_beside_the_first_it_takes_the_next_number(sfumato: Typed, made: Path, sd1: Path, tmp_path: Path) -> None:
    before = made.read_bytes()
    told = sfumato("again", made, "--model", sd1, "-o", tmp_path, "--json", "--quiet")
    assert told.code == 0 and told.err == ""
    assert Path(told.objects[0]["path"]).name == "a-red-hat-0001.png"
    assert made.read_bytes() == before


def test_what_may_differ_is_said(sfumato: Typed, made: Path, sd1: Path, emoji: Path, tmp_path: Path) -> None:
    told = sfumato("again", made, "--model", emoji, "-o", tmp_path / "a", "--threads", 1)
    assert told.code == 0
    assert "it was made with the model 'sd1'" in told.err
    other = "float32" if recipe_of(made)["dtype"] == "bfloat16" else "bfloat16"
    told = sfumato("again", made, "--model", sd1, "-o", tmp_path / "b", "--dtype", other)
    assert f"note: it was made with dtype {recipe_of(made)['dtype']}, now {other}" in told.err
    batch = picture(tmp_path / "batch.png", sfumato=json.dumps({**recipe_of(made), "batch": 4}))
    told = sfumato("again", batch, "--model", sd1, "-o", tmp_path / "c")
    assert "note: it was made in a batch of 4" in told.err


def test_a_copied_model_is_the_same_model(sfumato: Typed, made: Path, sd1: Path, tmp_path: Path) -> None:
    shutil.copytree(sd1, tmp_path / "copy" / "sd1")
    told = sfumato("again", made, "--model", tmp_path / "copy" / "sd1", "-o", tmp_path / "again")
    assert told.code == 0
    assert "note" not in told.err


def test_a_model_that_is_not_here_is_asked_for(sfumato: Typed, made: Path) -> None:
    told = sfumato("again", made)
    assert told.code == 2
    assert told.err == "sfumato: the picture was made with the model 'sd1'; say where its folder is by --model\n"


def test_a_picture_made_elsewhere(sfumato: Typed, sd1: Path, tmp_path: Path) -> None:
    settings = "Steps: 2, Sampler: Euler, CFG scale: 3, Seed: 9, Size: 48x32, Clip skip: 2, Model: v1"
    text = f"a cat\nNegative prompt: dog\n{settings}"
    path = picture(tmp_path / "theirs.png", parameters=text)
    told = sfumato("again", path, "--model", sd1, "-o", tmp_path, "--threads", 1, "--json")
    assert told.code == 0
    assert "the picture will differ; ignored: Model: v1; Clip skip: 2" in told.err
    facts = told.objects[0]
    assert (facts["prompt"], facts["negative"], facts["scheduler"]) == ("a cat", "dog", "euler")
    assert (facts["seed"], facts["steps"], facts["guidance"]) == (9, 2, 3.0)
    assert (facts["width"], facts["height"]) == (48, 32)


def test_what_is_no_picture_or_has_no_recipe(sfumato: Typed, tmp_path: Path) -> None:
    text = tmp_path / "notes.png"
    text.write_text("not a picture")
    told = sfumato("again", text)
    assert (told.code, told.err) == (1, f"sfumato: {text}: not a PNG picture\n")
    plain = picture(tmp_path / "plain.png")
    told = sfumato("again", plain)
    assert told.code == 1
    assert f"{plain}: it carries no recipe" in told.err
    told = sfumato("again", tmp_path / "none.png")
    assert (told.code, told.err) == (2, f"sfumato: there is no picture {tmp_path / 'none.png'}\n")
    assert sfumato("again", tmp_path).code == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"steps": 10**9}, "steps must be a whole number from 1 to 65536"),
        ({"seed": "7"}, "seed must be a whole number"),
        ({"__class__": "os.system"}, "unknown field in its recipe: '__class__'"),
        ({"format": 99}, "format 99, this version of sfumato reads format 1"),
        ({"model": "\x1b[2J" * 60}, "model must be a text"),
        ({"width": 100_000}, "width must be"),
        ({"scheduler": "os"}, "no scheduler 'os'"),
        ({"scheduler": "KarrasVeScheduler\x1b[31m"}, "no scheduler"),
    ],
)
def test_hostile_recipes_get_one_sentence(
    sfumato: Typed, made: Path, sd1: Path, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    path = picture(tmp_path / "hostile.png", sfumato=json.dumps({**recipe_of(made), **change}))
    told = sfumato("again", path, "--model", sd1, "-o", tmp_path / "out")
    assert told.code == 1
    assert sentence in told.err
    assert told.err.startswith("sfumato: ")
    assert "Traceback" not in told.err and "\x1b" not in told.err


def test_a_path_as_the_name_of_a_model_is_never_opened(sfumato: Typed, made: Path, sd1: Path, tmp_path: Path) -> None:
    path = picture(tmp_path / "hostile.png", sfumato=json.dumps({**recipe_of(made), "model": str(sd1)}))
    told = sfumato("again", path, "-o", tmp_path / "out")
    assert told.code == 2
    assert "say where its folder is by --model" in told.err
    assert not (tmp_path / "out").exists()


def test_a_file_that_holds_something_else_by_now(sfumato: Typed, photo: Path, sd1: Path, tmp_path: Path) -> None:
    words = ("--model", sd1, "--steps", 2, "--size", 32, "-o", tmp_path / "out")
    assert sfumato("redraw", photo, "a hat", *words).code == 0
    Image.new("RGB", (32, 32)).save(photo)
    again = ("again", tmp_path / "out" / "a-hat-0000.png", "--model", sd1, "-o", tmp_path / "again")
    told = sfumato(*again, "--given", photo)
    assert told.code == 2 and f"{photo} holds something else by now" in told.err


def test_our_own_short_form_is_not_called_anothers(sfumato: Typed, made: Path, sd1: Path, tmp_path: Path) -> None:
    with Image.open(made) as image:
        short = picture(tmp_path / "short.png", parameters=image.info["parameters"])
    told = sfumato("again", short, "--model", sd1, "-o", tmp_path / "again")
    assert told.code == 0 and "only the short form of the recipe is left, the picture may differ" in told.err
