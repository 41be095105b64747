from pathlib import Path

import pytest
import torch

from sfumato.evaluate.binding import binding_of, binding_shares
from sfumato.evaluate.coloured_pairs import (
    ColouredPair,
    ColouredThing,
    cc500_pairs,
    drawn,
    read_abc6k,
    read_cc500,
    world_pairs,
)
from sfumato.evaluate.judge import Judge
from sfumato.world.colours import dominant_colour
from sfumato.world.splits import is_held_out_pair
from sfumato.world.store import STYLES, World


def test_pairs_of_the_world_are_coloured_and_exchange_their_colours(world: World) -> None:
    seen, unseen = world_pairs(world, 8), world_pairs(world, 8, "unseen pair")
    assert len(seen) == len(unseen) == 8
    assert {pair.unseen for pair in unseen} == {True} and {pair.unseen for pair in seen} == {False}
    for pair in (*seen, *unseen):
        first, second = pair.things
        assert pair.text == f"{first.phrase} and {second.phrase}"
        assert first.colour != second.colour and first.colour in first.phrase and first.noun in first.phrase
        assert [thing.colour for thing in pair.swapped.things] == [second.colour, first.colour]
        assert [thing.concepts for thing in pair.swapped.things] == [first.concepts, second.concepts]
        assert pair.swapped.swapped == pair


def test_pairs_in_colours_that_training_never_shows_on_them(world: World) -> None:
    pairs = world_pairs(world, 8, "unseen colours")
    assert len({pair.text for pair in pairs}) == 8 and not any(pair.unseen for pair in pairs)
    for thing in (thing for pair in pairs for thing in pair.things):
        concept = world.concepts[thing.concepts[0]]
        assert is_held_out_pair(thing.colour, concept.key)
        drawings = [world.picture(concept, style) for style in STYLES if world.has(concept, style)]
        assert thing.colour not in {dominant_colour(drawing) for drawing in drawings}


def test_articles_follow_the_colour() -> None:
    apple = ColouredThing("apple", "red", (1,), "a red apple")
    jeans = ColouredThing("jeans", "orange", (2,), "orange jeans")
    assert ColouredPair((apple, jeans)).swapped.text == "an orange apple and red jeans"


def test_real_pictures_are_bound_and_their_swapped_prompts_are_not(world: World, judge: Judge) -> None:
    images, pairs = drawn(world, world_pairs(world, 24))
    assert len(images) == len(pairs) > 15
    good = binding_shares(binding_of(images, pairs, judge))
    bad = binding_shares(binding_of(images, [pair.swapped for pair in pairs], judge))
    assert good["both things"].value > 0.6 and good["both colours"].value > 0.8
    assert good["both things in their colours"].value > 0.5 and good["both things, colours exchanged"].value < 0.1
    assert bad["both things"] == good["both things"]
    assert bad["both things in their colours"].value < 0.1
    assert bad["both things, colours exchanged"] == good["both things in their colours"]


def test_things_may_stand_in_either_order_beside_or_above(world: World, judge: Judge) -> None:
    images, pairs = drawn(world, world_pairs(world, 12))
    straight = binding_of(images, pairs, judge)
    exchanged = torch.cat([images[..., 32:], images[..., :32]], dim=-1)
    assert sum(each.both for each in binding_of(exchanged, pairs, judge)) == sum(each.both for each in straight)
    nothing = torch.ones_like(images)
    assert not any(each.both or each.colours for each in binding_of(nothing, pairs, judge))


def test_prompts_of_cc500_are_taken_where_the_world_has_their_things(world: World, tmp_path: Path) -> None:
    known = [concept.name for concept in world.core if concept.name.isalpha()][:2]
    lines = [f"a red {known[0]} and a blue {known[1]}", f"a blue {known[0]} and a red {known[1]}"]
    lines += [f"a gold {known[0]} and a blue {known[1]}", "a red zzz and a blue yyy", "two cats under a tree"]
    path = tmp_path / "CC-500.txt"
    path.write_text("\n".join([*lines, *["a lone line"] * 450]), encoding="utf-8")
    assert len(read_cc500(path)) == 446
    first, second = cc500_pairs(world, path)
    assert [first.text, second.text] == lines[:2] and first.swapped.text == second.text
    assert world.concepts[first.things[0].concepts[0]].name == known[0]
    path.write_text("a red car and a blue bird", encoding="utf-8")
    with pytest.raises(ValueError, match="is not CC-500"):
        cc500_pairs(world, path)


def test_pairs_of_abc6k_stay_together(tmp_path: Path) -> None:
    path = tmp_path / "ABC-6K.txt"
    path.write_text("a red car\na blue car\n\na green hat\na pink hat\n", encoding="utf-8")
    assert read_abc6k(path) == [("a red car", "a blue car"), ("a green hat", "a pink hat")]
    path.write_text("a red car\n", encoding="utf-8")
    with pytest.raises(ValueError, match="pairs"):
        read_abc6k(path)


def test_clear_errors(world: World, judge: Judge) -> None:
    with pytest.raises(ValueError, match="needs 2 pictures"):
        binding_of(torch.zeros(3, 3, 64, 64), world_pairs(world, 2), judge)
