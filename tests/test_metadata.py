from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from typing import Any

import pytest

from sfumato.from_memory import FromMemory
from sfumato.given import Given
from sfumato.metadata import (
    A1111_CHUNK,
    JSON_CHUNK,
    MetadataError,
    chunks,
    from_a1111,
    from_chunks,
    from_json,
    to_a1111,
    to_json,
    written,
)
from sfumato.recipe import OPTIONAL, Recipe

RECIPE = Recipe(
    prompt='a "red" caf\u00e9, \u732b\nSteps: 3',
    seed=2**64 - 1,
    negative="blurry",
    model="emoji",
    fingerprint="0123456789abcdef",
    steps=25,
    scheduler="dpmpp_2m",
    guidance=7.5,
    guidance_interval=(0.1, 0.9),
    rescale=0.7,
    width=64,
    height=32,
    dtype="bfloat16",
    batch=4,
    threads=2,
    version="0.1.0",
)


FILE = Given("a photo.png", "ab" * 32)
STEERED = replace(
    RECIPE,
    task="inpaint",
    concepts=(("a blue bird", 1.0), ("a tree", -0.5)),
    pag=2.0,
    apg=0.0,
    threshold="dynamic:0.995",
    classifier=(("concept", "rocket", 2.0),),
    clip_guidance=1.5,
    clip_form="estimate",
    experts=((Given("other", "0123"), 0.0, 0.3),),
    langevin=2,
    structure="scene-graph",
    parser="spacy",
    paint=(("a car", FILE, 1.5), ("a bird", (0, 8, 32, 40), 1.0)),
    paint_strength=0.25,
    regions=(("a tree", FILE), ("a house", (32, 0, 64, 64))),
    region_share=0.25,
    excite=("a bird", "a car"),
    recall=FromMemory(Given("openmoji", "cd" * 8), "and", 3, 9, FILE, 0.01, False, "zero", (("0f" * 8, "\u732b"),)),
    like=FILE,
    like_scale=8,
    like_until=0.5,
    start=FILE,
    picture=FILE,
    mask=FILE,
    strength=0.4,
    repaint=10,
    repeats=3,
    paste=True,
    border=(1, 2, 3, 4),
    to_prompt="a dog",
    to_seed=3,
    to_picture=FILE,
    share=0.5,
    cross=0.5,
    self_attention=0.2,
    reweight=(("blue", -2.0),),
    blend=("car",),
    temperature=0.9,
    top_k=50,
    top_p=0.95,
)


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(to_json(RECIPE)), **fields})


def test_json_comes_back_the_same() -> None:
    assert from_json(to_json(RECIPE)) == RECIPE
    assert to_json(RECIPE).isascii()
    assert from_chunks(chunks(RECIPE)).recipe == RECIPE
    assert set(chunks(RECIPE)) == {A1111_CHUNK, JSON_CHUNK}


def test_every_way_of_steering_comes_back_and_what_is_off_is_not_written() -> None:
    assert from_json(to_json(STEERED)) == STEERED
    assert set(written(STEERED)) == {field.name for field in fields(Recipe)}
    assert not OPTIONAL & set(written(RECIPE))
    assert STEERED.given == (FILE,) * 8
    assert "Denoising strength: 0.4" in to_a1111(replace(STEERED, task="redraw"))


def test_a1111_comes_back_as_far_as_it_goes() -> None:
    assert to_a1111(RECIPE).splitlines()[-1] == (
        "Steps: 25, Sampler: DPM++ 2M, CFG scale: 7.5, Seed: 18446744073709551615, Size: 64x32, "
        "Model hash: 0123456789, Model: emoji, Version: sfumato 0.1.0"
    )
    found = from_a1111(to_a1111(RECIPE))
    kept = ("prompt", "negative", "steps", "scheduler", "guidance", "seed", "width", "height", "model")
    assert {name: getattr(found.recipe, name) for name in kept} == {name: getattr(RECIPE, name) for name in kept}
    assert found.ignored == ("Model hash: 0123456789",)
    assert not found.complete


def test_a_picture_made_elsewhere() -> None:
    text = (
        "a cat\nSteps: 20, Sampler: DPM++ SDE Karras, CFG scale: 7, Seed: 1, Size: 512x512, Clip skip: 2, Version: v1.9"
    )
    found = from_chunks({A1111_CHUNK: text})
    assert found.ignored == ("Sampler: DPM++ SDE Karras", "Clip skip: 2")
    assert (found.recipe.seed, found.recipe.guidance, found.recipe.width) == (1, 7.0, 512)
    assert found.recipe.scheduler == "ddim"


def test_the_words_of_another_program_are_listed() -> None:
    text = "a (red:1.3) cat <lora:film:0.8>\nSteps: 20, Sampler: DPM++ 2M Karras, Seed: 1, Version: v1.9"
    found = from_a1111(text)
    assert found.recipe.scheduler == "dpmpp_2m"
    more = " as more than words"
    assert found.ignored == ("Schedule type: Karras", f"(red:1.3){more}", f"<lora:film:0.8>{more}")
    assert not found.ours and from_a1111(to_a1111(RECIPE)).ours


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a cat", "no line begins with"),
        ("a cat\nSteps: 20", "names no seed"),
        ("a cat\nSteps: many, Seed: 1", "Steps cannot be 'many'"),
        ("a cat\nSteps: 20, Seed: -1", "seed must be"),
        ("a cat\nSteps: 20, Seed: 1, CFG scale: nan", "guidance must be"),
        ("a cat\nSteps: 20, Seed: 1, Size: 512", "Size cannot be"),
        ("a cat\nSteps: 20, Seed: 1, Size: 99999x8", "width must be"),
        ("a cat\nSteps: 999999999, Seed: 1", "steps must be"),
        ("a cat\nSteps: 20, Seed: " + "9" * 5000, "Seed cannot be"),
    ],
)
def test_wrong_a1111_text(text: str, reason: str) -> None:
    with pytest.raises(MetadataError, match=reason):
        from_a1111(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no valid JSON"),
        ("[]", "no JSON object"),
        ("1", "no JSON object"),
        ("{}", "format None"),
        ("[" * 60_000, "nested too deeply|no valid JSON"),
        ('{"format": 1, "format": 1}', "occurs twice"),
        ('{"format": 1, "seed": ' + "9" * 5000 + "}", "no valid JSON"),
        (changed(format=2), "format 2, this version of sfumato reads format 1"),
        (changed(format=True), "format True"),
        (changed(format="1"), "format '1'"),
        (changed(evil=1, worse=2), "unknown field in its recipe: 'evil', 'worse'"),
        (json.dumps({"format": 1, "prompt": "x"}), "missing field in its recipe: 'batch', 'dtype'"),
        (changed(prompt=["x"]), "prompt must be a text"),
        (changed(prompt="x" * 10_001), "prompt must be a text of at most 10000"),
        (changed(seed=-1), "seed must be a whole number"),
        (changed(seed=2**64), "seed must be a whole number"),
        (changed(seed=True), "seed must be a whole number"),
        (changed(seed=1.0), "seed must be a whole number"),
        (changed(steps=10**9), "steps must be"),
        (changed(steps=0), "steps must be"),
        (changed(guidance="7"), "guidance must be"),
        (changed(guidance=1e300), "guidance must be"),
        (changed(guidance=True), "guidance must be"),
        (changed().replace("7.5", "NaN"), "NaN is no number"),
        (changed().replace("7.5", "1e999"), "guidance must be"),
        (changed(guidance_interval=[0.9, 0.1]), "guidance_interval must be"),
        (changed(guidance_interval=[0, 1, 2]), "guidance_interval must be"),
        (changed(guidance_interval={"a": 1}), "guidance_interval must be"),
        (changed(rescale=2), "rescale must be"),
        (changed(width=10**6), "width must be"),
        (changed(height="64"), "height must be"),
        (changed(dtype="float64"), "dtype must be"),
        (changed(dtype=["float32"]), "dtype must be"),
        (changed(fingerprint="../x"), "fingerprint must be"),
        (changed(model="x" * 201), "model must be"),
        (changed(batch=0), "batch must be"),
        (changed(threads=10**6), "threads must be"),
        (changed(task="erase"), "task must be generate or redraw"),
        (changed(concepts=[["a", 1]] * 17), "concepts must be at most 16"),
        (changed(concepts=[["a", "1"]]), "concepts must be"),
        (changed(concepts={"a": 1}), "concepts must be"),
        (changed(threshold="dynamic:0"), "threshold must be"),
        (changed(threshold=0.9), "threshold must be"),
        (changed(classifier=[["concept", "rocket"]]), "classifier must be"),
        (changed(experts=[["other", 0, 1]]), "experts must be"),
        (changed(picture="../../etc/passwd"), "picture must be a file's name and digest"),
        (changed(picture={"name": "x", "digest": "../x"}), "picture must be"),
        (changed(picture={"name": "x" * 201, "digest": "ab"}), "picture must be"),
        (changed(picture={"name": 1, "digest": 2}), "picture must be"),
        (changed(border=[1, 2, 3]), "border must be"),
        (changed(paste=1), "paste must be true or false"),
        (changed(repaint=10**6), "repaint must be"),
        (changed(langevin=10**6), "langevin must be"),
        (changed(guidance=10**400), "guidance must be"),
        (changed(structure="tree"), "structure must be nothing or phrases"),
        (changed(parser="../x"), "parser must be"),
        (changed(paint=[["car", [0, 0, 0, 8], 1]]), "paint must be at most 16 of a phrase"),
        (changed(paint=[["car", "left.png", 1]]), "paint must be"),
        (changed(regions=[["car", [0, 0, 8, 8], 1]]), "regions must be"),
        (changed(excite="car"), "excite must be at most 16 of phrases"),
        (changed(excite=[1]), "excite must be"),
        (changed(reweight=[["car", "2"]]), "reweight must be"),
        (changed(cross=2), "cross must be"),
        (changed(task="redraw"), "is of redraw and names no picture"),
        (changed(task="inpaint", picture={"name": "x", "digest": "0"}), "is of inpaint and names no mask"),
    ],
)
def test_hostile_json_is_refused_in_a_sentence(text: str, reason: str) -> None:
    with pytest.raises(MetadataError, match=reason) as caught:
        from_json(text)
    assert len(str(caught.value)) < 400


def test_a_long_chunk_or_none_is_refused() -> None:
    with pytest.raises(MetadataError, match="longer than 1000000"):
        from_chunks({JSON_CHUNK: " " * 1_000_001})
    with pytest.raises(MetadataError, match="carries no recipe"):
        from_chunks({})


def test_whole_numbers_stand_for_numbers() -> None:
    assert from_json(changed(guidance=7, rescale=1, guidance_interval=[0, 1])).guidance_interval == (0.0, 1.0)


def test_every_field_is_checked() -> None:
    for name in asdict(RECIPE):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            Recipe(**{**asdict(RECIPE), name: object()})  # type: ignore[arg-type]
