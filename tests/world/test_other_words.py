"""Prompts in other words: what they may mean exists, and what they say is no concept's name."""

from sfumato.world.other_words import other_words
from sfumato.world.store import World


def test_every_prompt_means_something_and_names_nothing(world: World):
    names = {name for concept in world.concepts for name in concept.names}
    found = other_words(world)
    assert len(found) >= 5 and len({prompt.text for prompt in found}) == len(found)
    for prompt in found:
        assert prompt.concepts and all(world.concepts[index].core for index in prompt.concepts)
        assert prompt.text.removeprefix("an ").removeprefix("a ") not in names


def test_a_puppy_is_a_dog(world: World):
    meant = {prompt.text: {world.concepts[index].name for index in prompt.concepts} for prompt in other_words(world)}
    assert "dog face" in meant["a puppy"] or "dog" in meant["a puppy"]
