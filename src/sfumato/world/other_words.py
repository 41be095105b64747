"""Prompts whose nouns no concept is called by: a test of what the text encoder knows and the training never said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sfumato.world.store import World

__all__ = ["OtherWords", "other_words"]

_MEANT: Mapping[str, str] = {
    "a puppy": "dog, dog face, poodle",
    "a kitten": "cat, cat face",
    "a kitty": "cat, cat face",
    "a bunny": "rabbit, rabbit face",
    "a stallion": "horse, horse face",
    "a pony": "horse, horse face",
    "a piglet": "pig, pig face",
    "a lamb": "sheep, ram",
    "a bull": "ox, water buffalo, cow, bison",
    "a hen": "chicken, rooster",
    "a duckling": "duck, baby chick",
    "an alligator": "crocodile",
    "a serpent": "snake",
    "a tortoise": "turtle",
    "a toad": "frog",
    "a bumblebee": "bee",
    "a moth": "butterfly",
    "a grizzly": "bear",
    "an orca": "whale, dolphin, shark",
    "a goldfish": "fish, tropical fish",
    "a toadstool": "mushroom",
    "a fir": "evergreen tree, christmas tree",
    "an oak": "deciduous tree",
    "a scarlet rose": "rose",
    "a daisy": "blossom, white flower, sunflower",
    "a maize cob": "ear of corn",
    "a cheeseburger": "burger",
    "an omelette": "egg, fried egg",
    "a toast": "bread",
    "noodles": "bowl of ramen, spaghetti",
    "a brownie": "cake, chocolate bar, cookie",
    "a biscuit": "cookie",
    "an espresso": "cup of coffee",
    "lager": "beer mug, clinking beer mugs",
    "a goblet": "wine glass",
    "a cottage": "house, house with garden, hut",
    "a skyscraper": "office building, cityscape, hotel",
    "a fortress": "castle, japanese castle",
    "a chapel": "church",
    "a cab": "taxi, oncoming taxi",
    "a lorry": "truck, semi truck",
    "a motorbike": "motorcycle, scooter",
    "a cruiser": "passenger ship, ship, police car, motor boat",
    "a yacht": "sailboat, speedboat, motor boat",
    "a plane": "airplane, small airplane",
    "a spaceship": "rocket, flying saucer",
    "a ufo": "flying saucer",
    "a wristwatch": "watch",
    "a parasol": "umbrella, umbrella on ground, beach with umbrella",
    "a lamp": "light bulb, couch and lamp, flashlight",
    "a sofa": "couch and lamp, chair",
    "a stool": "chair",
    "a television set": "television",
    "a smartphone": "mobile phone",
    "a fiddle": "violin",
    "a hatchet": "axe",
    "a blade": "dagger, kitchen knife, crossed swords",
    "a padlock": "lock, lock with key, open lock",
    "a gown": "dress",
    "a sneaker": "running shoe",
    "a jewel": "gem, ring",
    "a gift box": "gift",
    "a novel": "closed book, open book, books",
    "an automobile tyre": "wheel",
}


@dataclass(frozen=True)
class OtherWords:
    """A prompt whose noun is no concept's name.

    Args:
        text: the prompt.
        concepts: indices of the concepts that would do, one or more.
    """

    text: str
    concepts: tuple[int, ...]


def other_words(world: World) -> tuple[OtherWords, ...]:
    """The fixed prompts, each with the core concepts that it may mean.

    Args:
        world: prompts that mean nothing in it are left out.

    Returns:
        Prompts whose noun, with its colour word if there is one, is no name of any concept of the world.
    """
    names = {name for concept in world.concepts for name in concept.names}
    number = {concept.name: concept.index for concept in world.core}
    found: list[OtherWords] = []
    for text, meant in _MEANT.items():
        known = tuple(number[name] for name in meant.split(", ") if name in number)
        noun = re.sub(r"^(?:an?|the) ", "", text)
        if known and noun not in names:
            found.append(OtherWords(text, known))
    return tuple(found)
