"""redraw, inpaint, outpaint, invert and morph as typed, and ``again`` of what they made."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import sfumato as library
from sfumato.core.image import from_pictures
from sfumato.flows.inpaint import Inpaint, inpaint
from sfumato.flows.redraw import Redraw, redraw
from tests.cli.conftest import Typed, pixels, recipe_of


@pytest.fixture
def edit(sfumato: Typed, sd1: Path, tmp_path: Path) -> Typed:
    """An editing command with the tiny model, three steps and one thread."""

    def run(command: str, *words: object) -> Any:
        flags = ["--model", sd1, "--steps", 3, "--threads", 1, "--dtype", "float32"]
        return sfumato(command, *words, *flags, *([] if command == "invert" else ["-o", tmp_path / "out"]))

    return run


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    picture = Image.new("RGB", (48, 32))
    picture.paste("white", (24, 0, 48, 32))
    picture.save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def middle(path: Path) -> torch.Tensor:
    """The 32 x 32 pixels in the middle of a 48 x 32 picture."""
    return pixels(path)[..., 8:40]


def test_redraw_is_the_flow_on_the_middle_of_the_picture(edit: Typed, photo: Path, sd1: Path, tmp_path: Path) -> None:
    told = edit("redraw", photo, "a red hat", "--strength", 0.7, "--seed", 5, "--guidance", 3)
    assert told.code == 0
    made = tmp_path / "out" / "a-red-hat-0000.png"
    steer, walk = library.Steering(guidance=3.0), library.Walk(3)
    wanted = redraw(library.load(sd1), Redraw(middle(photo), 0.7), ["a red hat"], seeds=[5], steer=steer, walk=walk)
    assert (pixels(made) - wanted).abs().max() < 0.01
    recipe = recipe_of(made)
    assert (recipe.task, recipe.strength, recipe.mask) == ("redraw", 0.7, None)
    assert recipe.picture is not None and recipe.picture.name == "photo.png"


def test_what_is_transparent_in_a_mask_is_kept(edit: Typed, photo: Path, mask: Path, tmp_path: Path) -> None:
    layer = Image.new("RGBA", (48, 32))
    layer.paste("white", (24, 0, 48, 32))
    layer.save(tmp_path / "layer.png")
    for name in ("mask", "layer"):
        assert edit("inpaint", photo, tmp_path / f"{name}.png", "a red hat", "--seed", 5, "--paste").code == 0
    one, other = (pixels(path) for path in sorted((tmp_path / "out").glob("*.png")))
    assert torch.equal(one, other)


def test_what_a_picture_is_made_from_never_gives_way(edit: Typed, photo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    source = photo.rename(folder / "a-hat-0000.png")
    before = source.read_bytes()
    assert edit("redraw", source, "a hat", "--force").code == 0
    assert source.read_bytes() == before
    assert [path.name for path in sorted(folder.glob("*.png"))] == ["a-hat-0000.png", "a-hat-0001.png"]
    told = edit("invert", source, "a hat", "-o", source, "--force")
    assert told.code == 2 and "is the picture itself" in told.err
    told = edit("invert", source, " ", "-o", tmp_path / "start.safetensors")
    assert told.code == 2 and "the prompt is empty" in told.err


def test_inpaint_is_the_flow(edit: Typed, photo: Path, mask: Path, sd1: Path, tmp_path: Path) -> None:
    told = edit("inpaint", photo, mask, "a red hat", "--seed", 5, "--repaint", 2, "--paste")
    assert told.code == 0
    given = Inpaint(middle(photo), (pixels(mask)[:, :1, :, 8:40] + 1) / 2, 2, 2, True)
    wanted = inpaint(library.load(sd1), given, ["a red hat"], seeds=[5], walk=library.Walk(3))
    made = pixels(tmp_path / "out" / "a-red-hat-0000.png")
    assert (made - wanted).abs().max() < 0.01
    assert torch.equal(made[..., :16], middle(photo)[..., :16])


def test_redraw_repeats_and_says_so(edit: Typed, photo: Path, sd1: Path, tmp_path: Path) -> None:
    told = edit("redraw", photo, "a red hat", "--seed", 5, "--repeats", 2, "--json")
    assert told.code == 0 and told.objects[0]["repeats"] == 2
    wanted = redraw(library.load(sd1), Redraw(middle(photo), repeats=2), ["a red hat"], seeds=[5], walk=library.Walk(3))
    assert (pixels(tmp_path / "out" / "a-red-hat-0000.png") - wanted).abs().max() < 0.01


def test_outpaint_adds_a_border(edit: Typed, photo: Path, tmp_path: Path) -> None:
    told = edit("outpaint", photo, "a red hat", "--size", "16x16", "--border", "8,0,4,4", "--seed", 1, "--json")
    assert told.code == 0
    assert pixels(tmp_path / "out" / "a-red-hat-0000.png").shape == (1, 3, 24, 24)
    assert told.objects[0]["border"] == [8, 0, 4, 4]


@pytest.mark.parametrize(
    "words",
    [
        ("redraw", "photo.png", "a hat", "--mask", "mask.png", "--pag", 1),
        ("inpaint", "photo.png", "mask.png", "a hat", "--repaint", 2),
        ("outpaint", "photo.png", "a hat", "--border", 8),
        ("generate", "a hat", "--like", "photo.png", "--like-scale", 8, "--langevin", 1),
        ("morph", "photo.png", "a hat", "--frames", 2, "--as", "frames"),
    ],
)
def test_again_finds_the_given_files_by_their_content(
    sfumato: Typed, edit: Typed, photo: Path, mask: Path, sd1: Path, tmp_path: Path, words: tuple[object, ...]
) -> None:
    here = [tmp_path / word if word in ("photo.png", "mask.png") else word for word in words]
    assert edit(*here, "--seed", 3).code == 0
    made = sorted((tmp_path / "out").glob("*.png"))[0]
    told = sfumato("again", made, "--model", sd1, "-o", tmp_path / "again", "--force")
    assert told.code == 2
    assert "was made from the file" in told.err and "--given" in told.err
    given = [word for name in (photo, mask) for word in ("--given", name)]
    told = sfumato("again", made, "--model", sd1, "-o", tmp_path / "again", *given)
    assert told.code == 0
    assert (pixels(made) - pixels(next((tmp_path / "again").glob("*.png")))).abs().max() < 0.02
    photo.rename(made.parent / photo.name)
    mask.rename(made.parent / mask.name)
    assert sfumato("again", made, "--model", sd1, "-o", tmp_path / "again").code == 0
    Image.new("RGB", (48, 32)).save(made.parent / photo.name)
    assert sfumato("again", made, "--model", sd1, "-o", tmp_path / "again").code == 2


def test_the_way_back_from_an_inversion_is_told_and_works(
    sfumato: Typed, edit: Typed, photo: Path, sd1: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start.safetensors"
    told = edit("invert", photo, "a red hat", "-o", start, "--size", "48x32", "--json")
    assert told.code == 0
    command = told.objects[0]["command"]
    assert shlex.join(command) in told.err and "note:" not in told.err
    back = sfumato(*command[1:], "-o", tmp_path)
    assert back.code == 0
    made = next(tmp_path.glob("a-red-hat-*.png"))
    parts = library.load(sd1)
    with torch.no_grad():
        codec = parts.codec.decode(parts.codec.encode(pixels(photo)))
    away = (pixels(made) - codec).square().mean().sqrt()
    assert away == pytest.approx(told.objects[0]["away"], abs=0.005)
    told = edit("invert", photo, "a red hat", "-o", start)
    assert told.code == 2 and "exists; choose another --output, or --force" in told.err


def test_a_start_is_of_its_steps_and_of_one_picture(
    sfumato: Typed, edit: Typed, photo: Path, sd1: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start.safetensors"
    assert edit("invert", photo, "a hat", "-o", start, "--variant", "plain").code == 0
    words = ("a hat", "--start", start, "--guidance", 1)
    assert "comes back less exactly" not in edit("generate", *words).err
    for more in (("--steps", 4), ("--scheduler", "heun")):
        told = sfumato("generate", *words, "--model", sd1, "-o", tmp_path / "out", "--steps", 3, *more)
        assert told.code == 0 and "the start is of 3 steps of 'ddim'" in told.err
    assert "'ddim' draws none, so --seed does nothing" in edit("generate", *words, "--seed", 3).err
    told = edit("generate", *words, "--count", 3)
    assert told.code == 2 and "makes the same picture whatever the seed; leave out --count" in told.err
    assert edit("generate", *words, "--count", 2, "--scheduler", "euler_a").code == 0
    told = edit("invert", photo, "a hat", "-o", start, "--force", "--variant", "plain", "--iterations", 3)
    assert "without --variant fixed_point --iterations does nothing" in told.err


def test_tuned_nulls_travel_in_the_file(edit: Typed, sfumato: Typed, photo: Path, sd1: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    assert edit("invert", photo, "a hat", "-o", start, "--null-text", 3, "--iterations", 2).code == 0
    words = ("generate", "a hat", "--start", start, "--guidance", 3, "--model", sd1, "-o", tmp_path)
    assert sfumato(*words, "--steps", 3).code == 0
    told = sfumato(*words, "--steps", 5)
    assert told.code == 2 and "the path has 5 steps and there are nulls for 3" in told.err


def test_morph_writes_frames_and_an_animation(edit: Typed, tmp_path: Path) -> None:
    told = edit("morph", "a cat", "a red hat", "--frames", 5, "--seed", 2, "--batch", 2, "--fps", 10)
    assert told.code == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a-cat-to-a-red-hat-0000.gif", *(f"a-cat-to-a-red-hat-000{i}.png" for i in range(5))]
    with Image.open(tmp_path / "out" / names[0]) as animation:
        assert (animation.n_frames, animation.info["duration"], animation.size) == (5, 100, (32, 32))
    assert [recipe_of(tmp_path / "out" / name).share for name in names[1:]] == [0, 0.25, 0.5, 0.75, 1]
    assert edit("generate", "a red hat", "--seed", 2).code == 0
    alone = pixels(tmp_path / "out" / "a-red-hat-0000.png")
    assert (alone - pixels(tmp_path / "out" / names[-1])).abs().max() < 0.02


@pytest.mark.parametrize("scheduler", ["euler_a", "lcm"])
def test_a_morph_begins_and_ends_with_what_its_ends_make_alone(edit: Typed, tmp_path: Path, scheduler: str) -> None:
    words = ("--seed", 2, "--scheduler", scheduler)
    assert edit("morph", "a cat", "a red hat", "--frames", 2, "--as", "frames", *words).code == 0
    for prompt, frame in (("a-cat", 0), ("a-red-hat", 1)):
        assert edit("generate", prompt.replace("-", " "), *words).code == 0
        alone = pixels(tmp_path / "out" / f"{prompt}-0000.png")
        assert (alone - pixels(tmp_path / "out" / f"a-cat-to-a-red-hat-000{frame}.png")).abs().max() < 0.02


def test_a_picture_with_a_prompt_is_told_that_guidance_leads_away_from_it(edit: Typed, photo: Path) -> None:
    words = ("morph", photo, photo, "--size", "32x32", "--prompts", "a hat", "a cat", "--frames", 2, "--as", "frames")
    assert "guidance leads away from a given picture" in edit(*words).err
    assert "leads away" not in edit(*words, "--guidance", 1).err


def test_morph_as_a_film(edit: Typed, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    assert edit("morph", "a cat", "a red hat", "--frames", 4, "--seed", 2, "--as", "mp4", "--fps", 8).code == 0
    with av.open(tmp_path / "out" / "a-cat-to-a-red-hat-0000.mp4") as film:
        frames = [frame.to_image() for frame in film.decode(video=0)]
        assert film.streams.video[0].average_rate == 8
    assert len(frames) == 4
    away = from_pictures(frames[:1]) - pixels(tmp_path / "out" / "a-cat-to-a-red-hat-0000.png")
    assert away.square().mean().sqrt() < 0.2


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("redraw", "missing.png", "a hat"), 2, "there is no file 'missing.png'"),
        (("redraw", "NOTES", "a hat"), 1, "not a PNG, JPEG or WebP picture"),
        (("redraw", "PHOTO", "a hat", "--strength", "0"), 2, "--strength: needs a number"),
        (("redraw", "PHOTO", "a hat", "--mask", "NOTES"), 1, "not a PNG, JPEG or WebP picture"),
        (("redraw", "PHOTO", "a hat", "--guidance", "1,2,3"), 2, "--guidance has 3 scales for 1 pictures"),
        (("inpaint", "PHOTO", "SQUARE", "a hat"), 2, "the mask is 32x32 and the picture 48x32"),
        (("outpaint", "PHOTO", "a hat"), 2, "something is missing: --border"),
        (("outpaint", "PHOTO", "a hat", "--border", "0"), 2, "--border: needs PX or LEFT,RIGHT,ABOVE,BELOW"),
        (("generate", "a hat", "--start", "NOTES"), 1, "notes.txt claims a header of"),
        (("generate", "a hat", "--threshold", "dynamic"), 2, "use rescale for strong guidance"),
        (("generate", "a hat", "--threshold", "soft"), 2, "--threshold: needs static or dynamic:QUANTILE"),
        (("generate", "a hat", "--classifier", "rocket"), 2, "--classifier: needs HEAD=WORD:SCALE"),
        (("generate", "a hat", "--classifier", "concept=cat"), 2, "has no guide"),
        (("generate", "a hat", "--clip-guidance", "1", "--clip-form", "estimate"), 2, "has no picture encoder"),
        (("generate", "a hat", "--expert", "nowhere@0-1"), 2, "no model or folder 'nowhere'"),
        (("generate", "a hat", "--expert", "emoji@1-0"), 2, "--expert: needs MODEL@START-STOP"),
        (("generate", "a hat", "--rescale", "0.5", "--apg", "0"), 2, "choose one of them"),
        (("generate", "a hat", "--and", ":1"), 2, "--and: needs PROMPT:WEIGHT"),
        (("morph", "a hat", " "), 2, "a prompt is empty"),
        (("morph", "NOTES", "a hat"), 1, "not a PNG, JPEG or WebP picture"),
        (("morph", "cat.png", "a cat"), 2, "there is no picture 'cat.png'; without its ending it is words"),
        (("morph", "a hat", "a cat", "--clip-guidance", "1"), 2, "a morph lies between two; leave them out"),
        (("morph", "a hat", "a cat", "--prompts", "a", "b"), 2, "both ends are prompts already; leave it out"),
        (("redraw", "PHOTO", "a hat", "--paste"), 2, "there is no --mask: all of the picture is redrawn"),
        (("redraw", "PHOTO", "a hat", "--strength", "0.3", "--like", "PHOTO"), 2, "choose a higher strength"),
    ],
)
def test_wrong_input_gets_a_sentence(
    edit: Typed, photo: Path, tmp_path: Path, words: tuple[str, ...], code: int, sentence: str
) -> None:
    (tmp_path / "notes.txt").write_text("no picture, no tensor")
    Image.new("RGB", (32, 32)).save(tmp_path / "square.png")
    places = {"PHOTO": photo, "NOTES": tmp_path / "notes.txt", "SQUARE": tmp_path / "square.png"}
    told = edit(words[0], *(places.get(word, word) for word in words[1:]))
    assert sentence in told.err
    assert told.code == code
    assert "Traceback" not in told.err
