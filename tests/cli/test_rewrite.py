"""``sfumato rewrite``: pictures of a prompt and of its rewrites, their sheet, and ``again`` of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import sfumato as library
from sfumato.attention.paint_with_words import Painted, PaintWithWords
from sfumato.attention.structure import Structure
from sfumato.core.image import from_pictures
from sfumato.core.sheet import table
from sfumato.flows.invert import Inverting, invert
from sfumato.flows.rewrite import Blend, Rewrite, rewrite
from sfumato.guidance.attend_and_excite import Excite
from sfumato.language.rules import RuleParser
from sfumato.recipe import Recipe
from tests.cli.conftest import Told, Typed, alike, pixels, recipe_of

SOURCE, BLUE, LONGER = "a red hat", "a blue hat", "a red hat on a cat"
SLUGS = ("a-red-hat", "a-blue-hat", "a-red-hat-on-a-cat")


@pytest.fixture
def rewritten(sfumato: Typed, sd1: Path, tmp_path: Path) -> Typed:
    """``sfumato rewrite`` with the tiny model, three steps, seed 3 and one thread."""

    def run(*words: object) -> Any:
        flags = ["--model", sd1, "--steps", 3, "--threads", 1, "--dtype", "float32", "--seed", 3, "-o", tmp_path]
        return sfumato("rewrite", *flags, *words)

    return run


def made(told: Told) -> torch.Tensor:
    """The pictures that a command told of as JSON, in its order."""
    assert told.code == 0, told.err
    return torch.cat([pixels(Path(facts["path"])) for facts in told.pictures])


def flow(
    folder: Path,
    *given: Rewrite,
    seeds: Sequence[int] = (3,),
    steer: library.Steering | None = None,
    **walk: Any,
) -> torch.Tensor:
    """What the library makes in three steps."""
    walked = library.Walk(3, **walk)
    return rewrite(library.load(folder), given, seeds=seeds, steer=steer or library.Steering(), walk=walked)


def test_the_pictures_are_those_of_the_flow(rewritten: Typed, sd1: Path, tmp_path: Path) -> None:
    settings = ("--cross", 0.5, "--self", 0.9, "--guidance", "3,6", "--count", 2)
    told = rewritten(SOURCE, BLUE, LONGER, *settings, "--json")
    images = made(told)
    assert [Path(facts["path"]).name for facts in told.pictures] == [f"{s}-000{i}.png" for i in (0, 1) for s in SLUGS]
    assert [facts["seed"] for facts in told.pictures] == [3, 3, 3, 4, 4, 4]
    given = Rewrite(SOURCE, (BLUE, LONGER), cross=0.5, self_attention=0.9)
    steer = library.Steering(guidance=(3.0,) * 3 + (6.0,) * 3)
    assert alike(images, flow(sd1, given, given, seeds=(3, 4), steer=steer))
    plain = library.text_to_image(library.load(sd1), [BLUE], seeds=[3], walk=library.Walk(3))
    assert not alike(images[1:2], plain)
    sheet = table(images, [SOURCE, BLUE, LONGER], ["seed 3", "seed 4"])
    assert alike(pixels(tmp_path / "a-red-hat-rewrite-0000.png"), from_pictures([sheet]))
    assert told.err.splitlines()[-1] == f"{tmp_path / 'a-red-hat-rewrite-0000.png'} (side by side)"


def test_the_recipe_of_each_picture(rewritten: Typed, tmp_path: Path) -> None:
    words = ("--cross", 0.5, "--self", 0.2, "--weight", "blue:2", "--weight", "a hat:-1", "--blend", "hat")
    assert rewritten("a red hat and a hat", "a blue hat and a hat", *words).code == 0
    source = recipe_of(tmp_path / "a-red-hat-and-a-hat-0000.png")
    assert (source.task, source.to_prompt, source.reweight, source.blend) == ("rewrite", source.prompt, (), ())
    target = recipe_of(tmp_path / "a-blue-hat-and-a-hat-0000.png")
    assert (target.prompt, target.to_prompt) == ("a red hat and a hat", "a blue hat and a hat")
    assert (target.shows, target.seed, target.cross, target.self_attention) == (target.to_prompt, 3, 0.5, 0.2)
    assert (target.reweight, target.blend) == ((("blue", 2.0), ("a hat", -1.0)), ("hat",))


def test_the_sources_picture_is_that_of_generate(rewritten: Typed, sfumato: Typed, sd1: Path, tmp_path: Path) -> None:
    words = ("--guidance", "3,6", "--count", 2, "--json")
    images = made(rewritten(SOURCE, BLUE, *words, "--weight", "blue:3", "--blend", "hat"))
    flags = ("--model", sd1, "--steps", 3, "--seed", 3, "--dtype", "float32", "--threads", 1, "-o", tmp_path)
    assert alike(images[::2], made(sfumato("generate", SOURCE, *words, *flags)))


def test_batches_change_nothing_but_rounding(rewritten: Typed) -> None:
    words = (SOURCE, BLUE, LONGER, "--count", 2, "--guidance", "2,5", "--blend", "hat", "--json")
    one, eight, exact = (rewritten(*words, *more) for more in (("--batch", 1), ("--batch", 8), ("--exact",)))
    assert alike(made(one), made(eight))
    assert alike(made(exact), made(eight))
    batches = [[facts["batch"] for facts in told.pictures] for told in (one, eight, exact)]
    assert batches == [[3] * 6, [6] * 6, [1] * 6]


def test_exact_pictures_are_those_that_again_makes(rewritten: Typed, sfumato: Typed, sd1: Path, tmp_path: Path) -> None:
    told = rewritten(SOURCE, BLUE, LONGER, "--exact", "--weight", "hat:2", "--json")
    for facts in told.pictures:
        path = Path(facts["path"])
        second = sfumato("again", path, "--model", sd1, "-o", tmp_path / "again")
        assert second.code == 0 and "note" not in second.err
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_again_of_what_was_made_together(rewritten: Typed, sfumato: Typed, sd1: Path, tmp_path: Path) -> None:
    told = rewritten(SOURCE, BLUE, LONGER, "--blend", "hat", "--structure", "--json")
    images = made(told)
    for index, facts in enumerate(told.pictures):
        second = sfumato("again", facts["path"], "--model", sd1, "-o", tmp_path / "again", "--json")
        assert "it was made in a batch of 3" in second.err
        assert alike(images[index : index + 1], made(second))


def test_words_of_another_weight_in_the_same_prompt(rewritten: Typed, sd1: Path) -> None:
    told = rewritten(SOURCE, SOURCE, "--weight", "red:4", "--json")
    images = made(told)
    assert [Path(facts["path"]).name for facts in told.pictures] == ["a-red-hat-0000.png", "a-red-hat-0001.png"]
    assert alike(images, flow(sd1, Rewrite(SOURCE, (SOURCE,), weights={"red": 4.0})))
    assert not alike(images[:1], images[1:])


def test_blend_keeps_what_is_outside_the_words(rewritten: Typed, sd1: Path) -> None:
    images = made(rewritten(SOURCE, BLUE, "--blend", "red", "--blend", "blue hat", "--json"))
    assert alike(images, flow(sd1, Rewrite(SOURCE, (BLUE,), blend=Blend(("red", "blue hat")))))


def test_a_prompt_that_is_its_own_rewrite_is_made_once(rewritten: Typed) -> None:
    told = rewritten(SOURCE, SOURCE, BLUE, "--blend", "hat", "--json")
    assert told.code == 0 and len(made(told)) == 2


def test_the_flags_on_words_and_walks_go_with_it(rewritten: Typed, sd1: Path) -> None:
    words = ("--structure", "--paint", "hat=0,0,16,32:2", "--excite", "hat", "--langevin", 1, "--negative", "a dog")
    images = made(rewritten(SOURCE, BLUE, *words, "--json"))
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    edits = (Structure(RuleParser().phrases), PaintWithWords((Painted("hat", mask, 2.0),), Recipe.paint_strength))
    steer = library.Steering(edits=edits, negative="a dog")
    assert alike(images, flow(sd1, Rewrite(SOURCE, (BLUE,)), steer=steer, langevin=1, excite=Excite(("hat",))))


@pytest.mark.parametrize("guidance", [1, 3])
def test_a_given_picture_is_inverted_and_rewritten(
    rewritten: Typed, sfumato: Typed, photo: Path, sd1: Path, tmp_path: Path, guidance: int
) -> None:
    told = rewritten(SOURCE, BLUE, "--image", photo, "--guidance", guidance, "--cross", 1, "--json", "--exact")
    images = made(told)
    assert "note: the picture is inverted first" in told.err
    parts, image, walk = library.load(sd1), pixels(photo)[..., 8:40], library.Walk(3)
    tuned = None if guidance == 1 else float(guidance)
    start = invert(parts, image, [SOURCE], walk=walk, how=Inverting(null_text=tuned))
    steer = library.Steering(guidance=float(guidance), nulls=start.nulls)
    wanted = flow(sd1, Rewrite(SOURCE, (BLUE,), cross=1.0), steer=steer, start=start.start)
    assert alike(images, wanted)
    sheet = table(images, [SOURCE, BLUE])
    assert alike(pixels(tmp_path / "a-red-hat-rewrite-0000.png"), from_pictures([sheet]))
    again = ("again", told.objects[1]["path"], "--model", sd1, "-o", tmp_path / "again", "--json")
    assert alike(made(sfumato(*again, "--given", photo)), images[1:])
    photo.unlink()
    second = sfumato(*again)
    assert second.code == 2 and "was made from the file 'photo.png'" in second.err


def test_a_sheet_of_attention_for_each_picture(rewritten: Typed, tmp_path: Path) -> None:
    words = (SOURCE, BLUE, LONGER, "--show-attention", "--json")
    together, alone = (rewritten(*words, *more) for more in ((), ("--exact",)))
    for first, second in zip(together.pictures, alone.pictures, strict=True):
        sheets = [tmp_path / f"{Path(facts['path']).stem}-attention-0000.png" for facts in (first, second)]
        one, other = map(pixels, sheets)
        assert one.shape == other.shape and (one - other).abs().mean() < 0.01
    wide = tmp_path / "a-red-hat-on-a-cat-0000-attention-0000.png"
    assert pixels(wide).shape[-1] > pixels(tmp_path / "a-red-hat-0000-attention-0000.png").shape[-1]
    assert len(list(tmp_path.glob("*.png"))) == 2 * (3 + 3 + 1)


def test_names_metadata_force_and_quiet(rewritten: Typed, tmp_path: Path) -> None:
    told = rewritten(SOURCE, BLUE, BLUE, "--no-metadata", "--grid", "--quiet")
    assert (told.code, told.out, told.err) == (0, "", "")
    names = {"a-red-hat-0000.png", "a-blue-hat-0000.png", "a-red-hat-rewrite-0000.png", "a-red-hat-grid-0000.png"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for name in names:
        with Image.open(tmp_path / name) as picture:
            assert picture.info == {}
    assert rewritten(SOURCE, BLUE, "--force", "--size", "48x32").code == 0
    assert {path.name for path in tmp_path.iterdir()} == names
    assert pixels(tmp_path / "a-blue-hat-0000.png").shape == (1, 3, 32, 48)


def test_the_phrases_of_all_prompts_are_said(rewritten: Typed) -> None:
    told = rewritten(SOURCE, LONGER, "--structure", "--show-parse")
    assert told.err.splitlines()[:2] == [f"phrases of '{SOURCE}': none", f"phrases of '{LONGER}': 'a red hat', 'a cat'"]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ((SOURCE,), 2, "something is missing: REWRITTEN"),
        ((SOURCE, " "), 2, "a prompt is empty"),
        (("", BLUE), 2, "a prompt is empty"),
        ((SOURCE, "x" * 10_001), 2, "a prompt has 10001 characters"),
        ((SOURCE, BLUE, "--weight", "blue"), 2, "--weight: needs PHRASE:FACTOR, such as blue:2, got 'blue'"),
        ((SOURCE, BLUE, "--weight", "blue:much"), 2, "--weight: needs PHRASE:FACTOR"),
        ((SOURCE, BLUE, "--weight", "hats:2"), 2, "'hats' is not in the text 'a blue hat'; nearest are 'hat'"),
        ((SOURCE, BLUE, "--weight", "hat:2", "--cross", 0), 2, "weights act while a window of their words lasts"),
        ((SOURCE, BLUE, "--blend", "dog"), 2, "'dog' is not in the text 'a red hat'; nearest are"),
        ((SOURCE, BLUE, "--blend", ""), 2, "is not in the text"),
        ((SOURCE, BLUE, "--excite", "red"), 2, "'red' is not in the text 'a blue hat'; nearest are 'a', 'blue', 'hat'"),
        ((SOURCE, BLUE, "--cross", 1.5), 2, "--cross: needs a number from 0 to 1"),
        ((SOURCE, BLUE, "--self", "long"), 2, "--self: needs a number from 0 to 1"),
        ((SOURCE, BLUE, "--guidance", "1,2"), 2, "--guidance has 2 scales for 1 pictures"),
        ((SOURCE, BLUE, "--image", "nowhere.png"), 2, "--image: there is no file 'nowhere.png'"),
        ((SOURCE, BLUE, "--image", "NOTES"), 1, "not a PNG, JPEG or WebP picture"),
        ((SOURCE, BLUE, "--image", "PHOTO", "--count", 2), 2, "whatever the seed; leave out --count"),
        ((SOURCE, BLUE, "--image", "PHOTO", "--negative", "a dog"), 2, "leave out --negative and --guidance-interval"),
        ((SOURCE, BLUE, "--image", "PHOTO", "--scheduler", "euler"), 2, "leave out --scheduler and --langevin"),
        ((SOURCE, BLUE, "--wieght", "blue:2"), 2, "no flag --wieght; did you mean '--weight'"),
    ],
)
def test_wrong_input_gets_a_sentence(
    rewritten: Typed, photo: Path, tmp_path: Path, words: tuple[object, ...], code: int, sentence: str
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    places: dict[object, Path] = {"PHOTO": photo, "NOTES": tmp_path / "notes.txt"}
    told = rewritten(*(places.get(word, word) for word in words))
    assert sentence in told.err
    assert told.code == code
    assert "Traceback" not in told.err
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "photo.png"}
