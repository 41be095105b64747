"""The flags on words reach the picture and its recipe, on every command that makes pictures of prompts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import sfumato as library
from sfumato.attention.maps import MapRecorder, maps_of_words
from sfumato.attention.overlay import overlay
from sfumato.attention.paint_with_words import Painted, PaintWithWords
from sfumato.attention.regions import Region, Regions
from sfumato.attention.structure import Structure
from sfumato.core.image import from_pictures
from sfumato.core.sheet import table
from sfumato.flows.inpaint import Inpaint, extended, inpaint
from sfumato.flows.prompts import EditOfWords
from sfumato.flows.redraw import Redraw, redraw
from sfumato.guidance.attend_and_excite import Excite
from sfumato.language.rules import RuleParser
from sfumato.png_text import read_text_chunks
from sfumato.recipe import Recipe
from tests.cli.conftest import Typed, alike, pixels, recipe_of

PROMPT = "a red hat and a blue cat"
NAME = "a-red-hat-and-a-blue-cat"


def box(left: int, top: int, right: int, bottom: int, size: tuple[int, int] = (32, 32)) -> torch.Tensor:
    mask = torch.zeros(1, 1, *size)
    mask[..., top:bottom, left:right] = 1
    return mask


@dataclass(frozen=True, eq=False)
class Case:
    """Flags, what they are to the library, and what the recipe says."""

    words: tuple[object, ...]
    recipe: dict[str, Any]
    edits: tuple[EditOfWords, ...] = ()
    walk: dict[str, Any] = field(default_factory=dict[str, Any])


LEFT, RIGHT = (0, 0, 16, 32), (16, 0, 32, 32)
HAT = Painted("a red hat", box(*LEFT))
CAT = Region("a blue cat", box(*RIGHT))
PAINT = PaintWithWords((HAT,), Recipe.paint_strength)
CASES = {
    "structure": Case(("--structure",), {"structure": "phrases"}, (Structure(RuleParser().phrases),)),
    "scene graph": Case(
        ("--structure", "scene-graph"), {"structure": "scene-graph"}, (Structure(RuleParser().scene_graph),)
    ),
    "conjunction": Case(
        ("--structure=conjunction", "--parser", "rules"),
        {"structure": "conjunction"},
        (Structure(RuleParser().phrases, "conjunction"),),
    ),
    "paint": Case(
        ("--paint", "a red hat=0,0,16,32", "--paint", "CAT=16,0,32,32:2.5", "--paint-strength", 3),
        {"paint": (("a red hat", LEFT, 1.0), ("CAT", RIGHT, 2.5)), "paint_strength": 3.0},
        (PaintWithWords((HAT, Painted("cat", box(*RIGHT), 2.5)), 3.0),),
    ),
    "region": Case(
        ("--region", "a green dog=0,0,16,32", "--region", "a blue cat=16,0,32,32", "--region-share", 0.6),
        {"regions": (("a green dog", LEFT), ("a blue cat", RIGHT)), "region_share": 0.6},
        (Regions((Region("a green dog", box(*LEFT)), CAT), 0.6),),
    ),
    "excite": Case(
        ("--excite", "hat", "--excite", "cat"),
        {"excite": ("hat", "cat")},
        walk={"excite": Excite(("hat", "cat"))},
    ),
    "all of them": Case(
        (
            *("--paint", "a red hat=0,0,16,32", "--region", "a blue cat=16,0,32,32", "--structure"),
            *("--excite", "cat", "--langevin", 1, "--pag", 1),
        ),
        {"structure": "phrases", "excite": ("cat",), "langevin": 1},
        (Structure(RuleParser().phrases), Regions((CAT,)), PAINT),
        {"excite": Excite(("cat",)), "langevin": 1},
    ),
}


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    return half(tmp_path / "left.png", (32, 32))


def half(path: Path, size: tuple[int, int]) -> Path:
    """White in the left half."""
    picture = Image.new("L", size)
    picture.paste(255, (0, 0, size[0] // 2, size[1]))
    picture.save(path)
    return path


@pytest.mark.parametrize("case", CASES)
def test_a_flag_is_its_setting(generate: Typed, sd1: Path, tmp_path: Path, case: str) -> None:
    asked = CASES[case]
    assert generate(PROMPT, "--seed", 3, *asked.words).code == 0
    made = tmp_path / f"{NAME}-0000.png"
    steer = library.Steering(edits=asked.edits, perturb=1.0 if case == "all of them" else 0.0)
    walk = library.Walk(2, **asked.walk)
    images = library.text_to_image(library.load(sd1), [PROMPT], seeds=[3], steer=steer, walk=walk)
    assert alike(pixels(made), images)
    recipe = recipe_of(made)
    assert {name: getattr(recipe, name) for name in asked.recipe} == asked.recipe
    assert generate(PROMPT, "--seed", 3).code == 0
    assert (pixels(made) - pixels(tmp_path / f"{NAME}-0001.png")).abs().max() > 0


def test_what_is_off_is_not_written_down(generate: Typed, tmp_path: Path) -> None:
    shares = ("--paint-strength", Recipe.paint_strength, "--region-share", Recipe.region_share)
    assert generate(PROMPT, "--seed", 3, "--parser", "rules", *shares).code == 0
    text = read_text_chunks(tmp_path / f"{NAME}-0000.png", frozenset({"sfumato"}))["sfumato"]
    for name in ("structure", "parser", "paint", "region", "excite"):
        assert f'"{name}' not in text


@pytest.mark.parametrize("flag", ["--paint=a red hat=", "--region=a green dog="])
def test_a_mask_is_the_box_that_it_shows(generate: Typed, mask: Path, tmp_path: Path, flag: str) -> None:
    wheres = (mask, half(mask.with_name("large.png"), (128, 128)), "0,0,16,32", "16,0,32,32")
    for where in wheres:
        assert generate(PROMPT, "--seed", 3, "--paint-strength", 3, f"{flag}{where}").code == 0
    file, large, left, right = (pixels(tmp_path / f"{NAME}-000{index}.png") for index in range(4))
    assert torch.equal(file, left)
    assert (large - left).abs().mean() < 0.2 * (right - left).abs().mean()


def test_again_finds_masks_by_their_content(
    sfumato: Typed, generate: Typed, mask: Path, sd1: Path, tmp_path: Path
) -> None:
    right = mask.with_name("right.png")
    Image.open(mask).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(right)
    words = ("--paint", f"hat={mask}:2", "--region", f"a dog={right}", "--region", "a cat=0,0,8,8", "--excite", "cat")
    folder = tmp_path / "made"
    assert generate(PROMPT, "--seed", 3, *words, "--structure", "scene-graph", "-o", folder).code == 0
    made = folder / f"{NAME}-0000.png"
    again = ("again", made, "--model", sd1, "-o", tmp_path / "again")
    for given in ((), ("--given", mask)):
        told = sfumato(*again, *given)
        assert (told.code, told.out) == (2, "")
        name = "right.png" if given else "left.png"
        assert told.err == f"sfumato: the picture was made from the file '{name}'; say where it is by --given\n"
    renamed = right.rename(tmp_path / "renamed.png")
    assert sfumato(*again, "--given", mask, "--given", renamed).code == 0
    assert alike(pixels(made), pixels(tmp_path / "again" / made.name))
    assert recipe_of(tmp_path / "again" / made.name) == recipe_of(made)


def test_redraw_inpaint_and_outpaint_take_them_too(sfumato: Typed, photo: Path, sd1: Path, tmp_path: Path) -> None:
    flags = ("--model", sd1, "--steps", 2, "--threads", 1, "--dtype", "float32", "-o", tmp_path, "--seed", 3)
    words = ("--paint", "a red hat=0,0,16,32", "--structure", *flags)
    mask, parts, image = half(tmp_path / "mask.png", (48, 32)), library.load(sd1), pixels(photo)[..., 8:40]
    for command in (("redraw", photo, PROMPT, "--strength", 1), ("inpaint", photo, mask, PROMPT)):
        assert sfumato(*command, *words).code == 0
    assert sfumato("outpaint", photo, PROMPT, "--border", "0,8,0,0", *words).code == 0
    structure, walk = Structure(RuleParser().phrases), library.Walk(2)
    steer = library.Steering(edits=(structure, PAINT))
    wide = replace(PAINT, painted=(Painted("a red hat", box(*LEFT, (32, 40))),))
    wanted = [
        redraw(parts, Redraw(image, 1.0), [PROMPT], seeds=[3], steer=steer, walk=walk),
        inpaint(parts, Inpaint(image, box(*LEFT)), [PROMPT], seeds=[3], steer=steer, walk=walk),
        inpaint(
            parts,
            Inpaint(*extended(image, 0, 8, 0, 0)),
            [PROMPT],
            seeds=[3],
            steer=replace(steer, edits=(structure, wide)),
            walk=walk,
        ),
    ]
    for index, images in enumerate(wanted):
        assert alike(pixels(tmp_path / f"{NAME}-000{index}.png"), images)


def test_grid_compares_them(sfumato: Typed, generate: Typed, sd1: Path, tmp_path: Path) -> None:
    flags = ("--model", sd1, "--steps", 2, "--threads", 1, "--dtype", "float32", "-o", tmp_path)
    axes = ("--x", "structure=phrases,conjunction", "--y", "paint=hat=0,0,16,32|hat=16,0,32,32:2")
    assert sfumato("grid", PROMPT, *axes, "--paint-strength", 2, *flags).code == 0
    cells = {path.name: path for path in (tmp_path / f"{NAME}-cells").iterdir()}
    assert len(cells) == 4
    words = ("--structure=conjunction", "--paint", "hat=16,0,32,32:2", "--paint-strength", 2)
    assert generate(PROMPT, "--seed", 0, *words).code == 0
    name = "paint-hat-16-0-32-32-2-structure-conjunction.png"
    assert cells[name].read_bytes() == (tmp_path / f"{NAME}-0000.png").read_bytes()
    told = sfumato("grid", PROMPT, *axes, "--show-attention", *flags)
    assert told.code == 2 and "no flag --show-attention (see `sfumato grid --help`)" in told.err


def test_the_phrases_are_said(generate: Typed) -> None:
    told = generate(PROMPT, "a hat", "--structure", "--show-parse", "--json")
    assert told.err.splitlines()[:2] == [
        f"phrases of '{PROMPT}': 'a red hat', 'a blue cat'",
        "phrases of 'a hat': none",
    ]
    assert len(told.pictures) == 2
    told = generate("the red hat on the cat", "--structure", "scene-graph", "--show-parse")
    assert "'the red hat', 'the cat'" in told.err
    assert generate(PROMPT, "--structure", "--show-parse", "--quiet").err == ""


def test_a_sheet_of_attention_for_each_picture(generate: Typed, sd1: Path, tmp_path: Path) -> None:
    told = generate("a red hat", "a cat", "--count", 2, "--seed", 3, "--show-attention", "--batch", 3, "--json")
    assert told.code == 0
    stems = ["a-red-hat-0000", "a-red-hat-0001", "a-cat-0000", "a-cat-0001"]
    assert [Path(facts["path"]).stem for facts in told.pictures] == stems
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted([*(f"{stem}.png" for stem in stems), *(f"{stem}-attention-0000.png" for stem in stems)])
    seen = MapRecorder()
    steer = library.Steering(edits=(lambda _, __: seen,))
    parts = library.load(sd1)
    images = library.text_to_image(parts, ["a red hat"], seeds=[4], steer=steer, walk=library.Walk(2))
    found = maps_of_words(seen.maps(32, 32), parts.text(["a red hat"]))
    assert [word for word, _ in found] == ["a", "red", "hat"]
    shown = torch.cat([images.clamp(-1, 1), *(overlay(images.clamp(-1, 1), each[None]) for _, each in found)])
    wanted = table(shown, ["", "a", "red", "hat"])
    assert alike(pixels(tmp_path / "a-red-hat-0001-attention-0000.png"), from_pictures([wanted]))
    assert f"{tmp_path / 'a-cat-0001-attention-0000.png'} (attention, seed 6)" in told.err


def test_a_prompt_without_words_has_a_sheet_of_the_picture_alone(generate: Typed, tmp_path: Path) -> None:
    assert generate("!", "--seed", 3, "--show-attention").code == 0
    assert pixels(tmp_path / "picture-0000-attention-0000.png").shape[-1] < 2 * 32


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--paint", "hats=0,0,16,32"), 2, "'hats' is not in the text 'a red hat and a blue cat'; nearest are 'hat'"),
        (("--excite", "blu cat"), 2, "'blue cat'"),
        (("--excite", " "), 2, "not in the text"),
        (("--paint", "hat=0,0,16,33"), 2, "the box 0,0,16,33 leaves the picture, which is 32x32"),
        (("--region", "a dog=30,0,40,8"), 2, "the box 30,0,40,8 leaves the picture"),
        (("--paint", "hat=16,0,8,32"), 2, "--paint: a box needs LEFT,TOP,RIGHT,BOTTOM with LEFT < RIGHT"),
        (("--paint", "hat=0,0,8"), 2, "--paint: a box needs LEFT,TOP,RIGHT,BOTTOM"),
        (("--paint", "hat=nowhere.png"), 2, "--paint: there is no file 'nowhere.png'; give a mask's file or LEFT"),
        (("--paint", "hat=wide.png"), 2, "the mask 'wide.png' is 64x32 and the picture 32x32"),
        (("--region", "a dog=wide.png"), 2, "the mask 'wide.png' is 64x32 and the picture 32x32"),
        (("--paint", "hat=notes.txt"), 1, "not a PNG, JPEG or WebP picture"),
        (("--paint", "hat"), 2, "--paint: needs PHRASE=MASK or PHRASE=LEFT,TOP,RIGHT,BOTTOM"),
        (("--structure", "phrase"), 2, "--structure: no value 'phrase'; did you mean 'phrases'"),
        (("--structure", "--parser", "spacey"), 2, "--parser: no value 'spacey'; did you mean 'spacy'"),
        (("--structure", "conjunction", "--region", "a dog=0,0,8,8"), 2, "conjunction and --region each add texts"),
        (
            ("--excite", "hat", "--scheduler", "PNDMScheduler"),
            2,
            "on from an x of its own, which words to",
        ),
    ],
)
def test_wrong_input_gets_a_sentence(
    generate: Typed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[object, ...],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    half(tmp_path / "wide.png", (64, 32))
    (tmp_path / "notes.txt").write_text("no picture")
    told = generate(PROMPT, "--seed", 3, *words)
    assert sentence in told.err
    assert told.code == code
    assert told.err.count("\n") == 1 and "Traceback" not in told.err
    assert list(tmp_path.glob("*-0000.png")) == []


@pytest.mark.skipif(find_spec("stanza") is not None, reason="stanza is installed")
def test_a_parser_that_is_not_installed_is_named_with_its_remedy(generate: Typed, tmp_path: Path) -> None:
    for words in (("--structure",), ("--show-parse",)):
        told = generate(PROMPT, "--parser", "stanza", *words)
        assert told.code == 2
        assert "stanza" in told.err and "install" in told.err
        assert told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_made_is_not_lost_where_a_later_prompt_fails(generate: Typed, tmp_path: Path) -> None:
    told = generate(PROMPT, "a dog", "--paint", "hat=0,0,16,32", "--batch", 1, "--json")
    assert told.code == 2
    assert "'hat'" in told.err.splitlines()[-1] and "'a dog'" in told.err.splitlines()[-1]
    assert [Path(facts["path"]).name for facts in told.pictures] == [f"{NAME}-0000.png"]
    assert pixels(tmp_path / f"{NAME}-0000.png").shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    "words",
    [("--structure",), ("--show-parse",), ("--paint", "cat=0,0,8,8"), ("--region", "a=0,0,8,8"), ("--excite", "cat")],
)
def test_a_morph_has_no_words_to_edit(sfumato: Typed, sd1: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    told = sfumato("morph", "a cat", "a dog", "--model", sd1, "-o", tmp_path, *words)
    assert told.code == 2
    assert told.err.startswith("sfumato: between two prompts there are no words whose attention could be edited")
    assert list(tmp_path.iterdir()) == []
