"""English captions of scenes: one canonical form, and variants drawn from the scene's own random stream."""

from __future__ import annotations

from numpy.random import Generator

from sfumato.world.spec import SceneSpec
from sfumato.world.store import World
from sfumato.world.words import counted, phrase, with_article

__all__ = ["caption", "canonical_caption"]

_CANONICAL_SHARE = 0.6
_ALIAS_SHARE = 0.3
_PLAIN = ("{a}", "{bare}", "an emoji of {a}", "a picture of {a}", "a drawing of {a}")
_STYLED = ("{styled}", "{a}, {style} style", "{a} in {style} style", "{a}, {style}", "an emoji of {a}, {style} style")
_JOINED = {
    "and": ("{0} and {1}", "{0} and {1}", "{0} next to {1}", "{0} beside {1}"),
    "left of": ("{0} left of {1}", "{0} to the left of {1}", "{0} on the left of {1}"),
    "above": ("{0} above {1}", "{0} over {1}", "{0} on top of {1}"),
}


def canonical_caption(world: World, spec: SceneSpec) -> str:
    """The first and most frequent caption: "a red car", "a 3d red car", "a red car above a blue bird, 3d style".

    Args:
        world: names the concepts.
        spec: what the scene shows; colour and style are said where the spec says so.
    """
    names = [world.concepts[placed.concept].name for placed in spec.objects]
    return _on_background(_canonical(world, spec, names), spec)


def caption(world: World, spec: SceneSpec, random: Generator) -> str:
    """A caption: canonical in 60 % of the cases, else another template, and now and then an alias of the concept.

    Args:
        world: names the concepts.
        spec: what the scene shows.
        random: the scene's random stream.
    """
    if random.random() < _CANONICAL_SHARE:
        return canonical_caption(world, spec)
    names = [_some_name(world, placed.concept, random) for placed in spec.objects]
    if len(spec.objects) == 1:
        return _on_background(_one(world, spec, names[0], random), spec)
    if spec.kind == "pair":
        joined = _JOINED[spec.relation]
        words = joined[random.integers(len(joined))].format(*_articled(world, spec, names))
        return _on_background(_in_style(words, spec), spec)
    return _on_background(_canonical(world, spec, names), spec)


def _canonical(world: World, spec: SceneSpec, names: list[str]) -> str:
    style = spec.style if spec.style_named else None
    first = spec.objects[0]
    if len(names) == 1:
        return with_article(phrase(names[0], first.colour, style), world.concepts[first.concept])
    if spec.kind == "count":
        return counted(len(names), phrase(names[0], first.colour, style))
    return _in_style(_JOINED[spec.relation][0].format(*_articled(world, spec, names)), spec)


def _one(world: World, spec: SceneSpec, name: str, random: Generator) -> str:
    placed = spec.objects[0]
    concept = world.concepts[placed.concept]
    bare = phrase(name, placed.colour)
    templates = _STYLED if spec.style_named else _PLAIN
    return templates[random.integers(len(templates))].format(
        a=with_article(bare, concept),
        bare=bare,
        styled=with_article(phrase(name, placed.colour, spec.style), concept),
        style=spec.style,
    )


def _articled(world: World, spec: SceneSpec, names: list[str]) -> list[str]:
    return [
        with_article(phrase(name, placed.colour), world.concepts[placed.concept])
        for name, placed in zip(names, spec.objects, strict=True)
    ]


def _in_style(words: str, spec: SceneSpec) -> str:
    return f"{words}, {spec.style} style" if spec.style_named else words


def _on_background(words: str, spec: SceneSpec) -> str:
    if spec.background == "white":
        return words
    body, comma, style = words.partition(", ")
    article = "an" if spec.background == "orange" else "a"
    return f"{body} on {article} {spec.background} background{comma}{style}"


def _some_name(world: World, index: int, random: Generator) -> str:
    names = world.concepts[index].names
    if len(names) > 1 and random.random() < _ALIAS_SHARE:
        return names[int(random.integers(1, len(names)))]
    return world.concepts[index].name
