from __future__ import annotations

from collections import Counter

import pytest

from sfumato.world.colours import dominant_colour
from sfumato.world.scene import compose
from sfumato.world.splits import evaluation_prompts, is_held_out_pair, is_held_out_together
from sfumato.world.store import World, subset


def test_prompts_are_fixed_different_and_drawable(world: World) -> None:
    prompts = evaluation_prompts(world, 60)
    assert prompts == evaluation_prompts(world, 60)
    assert evaluation_prompts(world, 20) == prompts[:20]
    assert len({prompt.text for prompt in prompts}) == 60
    for prompt in prompts:
        assert compose(world, prompt.spec).caption == prompt.text


def test_the_mix_is_as_promised(world: World) -> None:
    parts = Counter(prompt.part for prompt in evaluation_prompts(world, 40))
    assert parts == {
        "plain": 12, "styled": 8, "seen colour": 8, "unseen colour": 4, "seen pair": 4, "unseen pair": 4,
    }  # fmt: skip


def test_unseen_parts_are_held_out_and_seen_parts_are_not(world: World) -> None:
    for prompt in evaluation_prompts(world, 60):
        things = [(world.concepts[placed.concept], placed.colour) for placed in prompt.spec.objects]
        for concept, colour in things:
            unseen = colour is not None and is_held_out_pair(colour, concept.key)
            assert unseen == (prompt.part == "unseen colour")
            if unseen:
                assert dominant_colour(world.picture(concept, prompt.spec.style)) != colour
        if len(things) == 2:
            together = is_held_out_together(things[0][0].key, things[1][0].key)
            assert together == (prompt.part == "unseen pair")
            assert things[0][1] != things[1][1]


def test_styled_prompts_name_their_style(world: World) -> None:
    for prompt in evaluation_prompts(world, 40):
        assert (prompt.spec.style in prompt.text.split()) == (prompt.part == "styled")


def test_a_world_too_small_says_so(world: World) -> None:
    with pytest.raises(ValueError, match="too small for .* different prompts"):
        evaluation_prompts(subset(world, ["car", "rocket"]), 40)
