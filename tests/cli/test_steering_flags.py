"""The flags of steering reach the picture and its recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato as library
from sfumato.flows.steering import Concept, Expert
from sfumato.metadata import from_chunks
from sfumato.png_text import read_text_chunks
from tests.cli.conftest import Typed, pixels

CASES: dict[str, tuple[tuple[object, ...], dict[str, Any], dict[str, Any]]] = {
    "and": (
        ("--and", "a blue bird:1.5", "--not", "a car", "--and", "a 2:1 photo"),
        {"concepts": (Concept("a blue bird", 1.5), Concept("a car", -1.0), Concept("a 2:1 photo"))},
        {},
    ),
    "pag": (("--pag", 2), {"perturb": 2.0}, {}),
    "apg": (("--apg", 0), {"project": 0.0}, {}),
    "langevin": (("--langevin", 2), {}, {"langevin": 2}),
    "guidance": (("--guidance", 7), {"guidance": 7.0}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_flag_is_its_setting(generate: Typed, sd1: Path, tmp_path: Path, case: str) -> None:
    words, steer, walk = CASES[case]
    assert generate("a cat", "--seed", 3, *words).code == 0
    images = library.text_to_image(
        library.load(sd1),
        ["a cat"],
        seeds=[3],
        steer=library.Steering(**steer),
        walk=library.Walk(2, **walk),
    )
    assert (pixels(tmp_path / "a-cat-0000.png") - images).abs().max() < 0.01


def test_one_guidance_scale_a_picture(generate: Typed, tmp_path: Path) -> None:
    told = generate("a cat", "--seed", 3, "--count", 3, "--guidance", "1,3,6", "--json")
    assert told.code == 0
    assert [facts["guidance"] for facts in told.objects] == [1, 3, 6]
    assert generate("a cat", "--seed", 5, "--guidance", 6).code == 0
    assert (pixels(tmp_path / "a-cat-0002.png") - pixels(tmp_path / "a-cat-0003.png")).abs().max() < 0.02


def test_another_model_for_a_share_of_the_path(sfumato: Typed, generate: Typed, sd1: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    parts = library.load(sd1)
    with torch.no_grad():
        for weight in parts.network.unet.parameters():
            weight.mul_(0.9)
    from sfumato.checkpoints.save import save

    save(parts, other)
    assert generate("a cat", "--seed", 3, "--expert", f"{other}@0.0-0.5").code == 0
    steer = library.Steering(experts=(Expert(library.load(other).model, 0.0, 0.5),))
    images = library.text_to_image(library.load(sd1), ["a cat"], seeds=[3], steer=steer, walk=library.Walk(2))
    made = tmp_path / "a-cat-0000.png"
    assert (pixels(made) - images).abs().max() < 0.01
    again = ("again", made, "--model", sd1, "-o", tmp_path / "again")
    told = sfumato(*again)
    assert told.code == 2 and "was made with the expert 'other'" in told.err
    assert sfumato(*again, "--given", other).code == 0
    assert (pixels(tmp_path / "again" / made.name) - pixels(made)).abs().max() < 0.01


def test_what_is_off_is_not_written_down(generate: Typed, tmp_path: Path) -> None:
    assert generate("a cat", "--seed", 3).code == 0
    assert generate("a cat", "--seed", 3, "--pag", 1).code == 0
    texts = [read_text_chunks(tmp_path / f"a-cat-000{i}.png", frozenset({"sfumato"})) for i in range(2)]
    assert "pag" not in texts[0]["sfumato"] and '"pag": 1.0' in texts[1]["sfumato"]
    plain, steered = (from_chunks(text).recipe for text in texts)
    assert replace(plain, pag=1.0) == steered
