from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sfumato.world.captions import canonical_caption, caption
from sfumato.world.spec import Placed, SceneSpec, above, beside, row_of, single
from sfumato.world.store import World


def _spec(world: World, name: str, colour: str | None = None, **other: object) -> SceneSpec:
    return SceneSpec(single(world.find(name).index, colour), **other)  # pyright: ignore


@pytest.mark.parametrize(
    ("name", "colour", "other", "expected"),
    [
        ("car", "red", {}, "a red car"),
        ("car", "red", {"style": "3d", "style_named": True}, "a 3d red car"),
        ("red apple", None, {}, "a red apple"),
        ("red apple", "blue", {}, "a blue apple"),
        ("umbrella", None, {"background": "orange"}, "an umbrella on an orange background"),
        ("jeans", "green", {}, "green jeans"),
    ],
)
def test_canonical_captions(
    world: World, name: str, colour: str | None, other: dict[str, object], expected: str
) -> None:
    assert canonical_caption(world, _spec(world, name, colour, **other)) == expected


def test_style_and_background_of_pairs(world: World) -> None:
    things = Placed(world.find("cat").index), Placed(world.find("rose").index, "blue")
    spec = SceneSpec(above(*things), "flat", "pink", "pair", "above", style_named=True)
    assert canonical_caption(world, spec) == "a cat above a blue rose on a pink background, flat style"


def test_counts_with_style(world: World) -> None:
    spec = SceneSpec(row_of(3, world.find("mouse").index, "blue"), "glossy", kind="count", style_named=True)
    assert canonical_caption(world, spec) == "three glossy blue mice"


def test_the_canonical_caption_is_the_most_frequent_one(world: World) -> None:
    random = np.random.default_rng(0)
    spec = _spec(world, "car", "red")
    said = Counter(caption(world, spec, random) for _ in range(400))
    (first, times), *others = said.most_common()
    assert first == "a red car" and times > 200
    assert {"red car", "an emoji of a red car"} <= {words for words, _ in others}
    assert any("automobile" in words for words in said)


def test_every_caption_says_what_the_spec_says(world: World) -> None:
    random = np.random.default_rng(1)
    things = Placed(world.find("cat").index, "blue"), Placed(world.find("rose").index, "yellow")
    spec = SceneSpec(beside(*things), "flat", "black", "pair", "left of", style_named=True)
    for _ in range(100):
        words = caption(world, spec, random)
        assert words.index("blue") < words.index("cat") < words.index("left") < words.index("yellow")
        assert words.endswith("on a black background, flat style")


def test_a_style_is_said_only_when_it_is_to_be(world: World) -> None:
    random = np.random.default_rng(2)
    said = [caption(world, _spec(world, "car", style="glossy"), random) for _ in range(100)]
    named = [caption(world, _spec(world, "car", style="glossy", style_named=True), random) for _ in range(100)]
    assert not any("glossy" in words for words in said)
    assert all("glossy" in words for words in named)
