"""Fits the judge to real scenes of the world and measures it on scenes that it has not seen.

    python -m sfumato.evaluate.train_judge

One pass over the scenes extracts features; the two discriminants then follow in closed form. Minutes on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sfumato.evaluate.discriminant import Discriminant, fit_discriminant
from sfumato.evaluate.features import POOLED, FeatureFunction, imagenet_features
from sfumato.evaluate.intervals import Interval, wilson
from sfumato.evaluate.judge import Judge, load_judge, save_judge
from sfumato.evaluate.lessons import LAYOUTS, lessons
from sfumato.evaluate.observe import Observations, Thing, observe
from sfumato.machine import best_dtype
from sfumato.world.store import STYLES, World, cache_path, open_world

__all__ = ["JudgeConfig", "judge_folder", "judge_of_world", "main", "measure_judge", "train_judge"]

_FORMAT = 2


@dataclass(frozen=True)
class JudgeConfig:
    """How the judge is fitted.

    Args:
        rounds: how often each drawing is shown alone, >= 1.
        size: side in pixels that windows are scaled to, a multiple of 32.
        shrinkage: of the discriminants, in [0, 1].
        components: principal axes of the space for distances, >= 1.
        seed: of the lessons; held-out lessons take the next one.

    Raises:
        ValueError: rounds, components or seed out of range.
    """

    rounds: int = 8
    size: int = 128
    shrinkage: float = 0.2
    components: int = 64
    seed: int = 1

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.components < 1 or self.seed < 0:
            raise ValueError("rounds and components must be at least 1 and the seed not negative")


def train_judge(
    world: World,
    features: FeatureFunction,
    config: JudgeConfig = JudgeConfig(),
    say: Callable[[str], None] = lambda _: None,
) -> Judge:
    """Fits a judge to real scenes of the core concepts, and measures it on held-out ones.

    Args:
        world: where the pictures come from.
        features: pictures (B, 3, H, W) in [-1, 1] -> (B, D); the first 1280 span the space for distances.
        config: amounts and seeds.
        say: is told each step in a few words.

    Returns:
        The judge, with its accuracies.

    Raises:
        ValueError: the world has fewer than two core concepts.
    """
    concepts = tuple(concept.index for concept in world.core)
    if len(concepts) < 2:
        raise ValueError("a judge needs a world with at least two core concepts")
    say(
        f"drawing {config.rounds} rounds of {len(concepts)} concepts in {len(STYLES)} styles and reading their features"
    )
    seen = observe(world, lessons(world, config.seed, config.rounds, concepts), features, colours=False)
    say(f"fitting discriminants to {len(seen.windows)} windows and {len(seen.whole)} pictures")
    mean, axes = _principal_axes(seen.whole[:, :POOLED], config.components)
    settings = _settings(world, config) | {"windows": len(seen.windows), "pictures": len(seen.whole)}
    judge = Judge(
        features=features,
        concepts=concepts,
        drawing=_drawings(seen, concepts, config.shrinkage),
        layout=_layouts(seen, config.shrinkage),
        mean=mean,
        axes=axes,
        accuracy={},
        settings=settings,
    )
    say("measuring on held-out scenes")
    held_out = observe(world, lessons(world, config.seed + 1, 1, concepts), features, colours=True)
    return replace(judge, accuracy=measure_judge(judge, held_out))


def _drawings(seen: Observations, concepts: Sequence[int], shrinkage: float) -> Discriminant:
    rows = {concept: row for row, concept in enumerate(concepts)}
    labels = [rows[thing.concept] * len(STYLES) + STYLES.index(thing.style) for thing in seen.things]
    return fit_discriminant(seen.windows, torch.tensor(labels), len(concepts) * len(STYLES), shrinkage)


def _layouts(seen: Observations, shrinkage: float) -> Discriminant:
    labels = [LAYOUTS.index(layout) for layout in seen.layouts]
    return fit_discriminant(seen.whole, torch.tensor(labels), len(LAYOUTS), shrinkage)


def _principal_axes(features: Tensor, components: int) -> tuple[Tensor, Tensor]:
    values = features.float()
    mean = values.mean(0)
    _, vectors = torch.linalg.eigh((values - mean).T.cov().double())
    axes = vectors.flip(1)[:, :components]
    # The sign of an eigenvector is arbitrary; fixing it makes the same judge on every machine.
    signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return mean, (axes * signs).float()


@dataclass(frozen=True)
class _Judged:
    """What is known of one thing, and whether the judge is right about it.

    Args:
        thing: in its window.
        top1: its concept is the likeliest.
        top5: it is among the five likeliest.
        style: its style is.
    """

    thing: Thing
    top1: bool
    top5: bool
    style: bool

    @property
    def colour(self) -> bool | None:
        """Whether the measured colour is its own; None if it has no single one."""
        return None if self.thing.colour is None else self.thing.shown == self.thing.colour

    @property
    def alone(self) -> bool:
        """Whether it is by itself in its picture, and not one of a pair."""
        return self.thing.place == "whole"


def measure_judge(judge: Judge, seen: Observations) -> dict[str, Interval]:
    """The judge's accuracy on labelled observations.

    Args:
        judge: what is measured.
        seen: scenes that it was not fitted to, with measured colours.

    Returns:
        Measure -> share that is right, with its interval.
    """
    judged = _judged(judge, seen)
    single = [each for each in judged if each.alone and not each.thing.worn]
    worn = [each for each in judged if each.alone and each.thing.worn]
    half = [each for each in judged if not each.alone and not each.thing.worn]
    layouts = judge.layouts(seen.whole.float())
    measures: dict[str, list[bool | None]] = {
        "concept top-1": [each.top1 for each in single],
        "concept top-5": [each.top5 for each in single],
        "concept top-1, worn picture": [each.top1 for each in worn],
        "concept top-5, worn picture": [each.top5 for each in worn],
        "concept of a pair's half top-1": [each.top1 for each in half],
        "concept of a pair's half top-5": [each.top5 for each in half],
        "both concepts of a pair": [*_both(half)],
        "style": [each.style for each in single],
        "colour": [each.colour for each in single],
        "colour, worn picture": [each.colour for each in worn],
        "colour of a pair's half": [each.colour for each in half],
        "layout": [found == true for found, true in zip(layouts, seen.layouts, strict=True)],
    }
    for word in STYLES:
        measures[f"concept top-1, {word}"] = [each.top1 for each in single if each.thing.style == word]
        measures[f"concept top-5, {word}"] = [each.top5 for each in single if each.thing.style == word]
    known = {name: [value for value in values if value is not None] for name, values in measures.items()}
    return {name: wilson(sum(values), len(values)) for name, values in known.items() if values}


def _judged(judge: Judge, seen: Observations) -> list[_Judged]:
    """What the judge says of each thing."""
    features = seen.windows.float()
    truth = torch.tensor([thing.concept for thing in seen.things])
    hits = (judge.ranked(features, min(5, len(judge.concepts))) == truth[:, None]).tolist()
    return [
        _Judged(thing, top1=hit[0], top5=any(hit), style=style == thing.style)
        for thing, hit, style in zip(seen.things, hits, judge.styles(features), strict=True)
    ]


def _both(halves: Sequence[_Judged]) -> list[bool]:
    """For each pair whether both halves are right."""
    pairs: dict[int, list[bool]] = {}
    for each in halves:
        pairs.setdefault(each.thing.lesson, []).append(each.top1)
    return [all(hits) for hits in pairs.values()]


def _settings(world: World, config: JudgeConfig) -> dict[str, str | int | float]:
    return {**asdict(config), "format": _FORMAT, "world": world.digest, "dtype": best_dtype()}


def judge_folder(world: World, config: JudgeConfig) -> Path:
    """Where the judge of a world is kept: below the user's cache, by a hash of all that it depends on.

    Args:
        world: its pictures.
        config: how it is fitted.

    Returns:
        A folder, which need not exist.
    """
    key = hashlib.sha256(json.dumps(_settings(world, config), sort_keys=True).encode()).hexdigest()[:16]
    return cache_path().parent / f"judge-{key}"


def judge_of_world(
    world: World, config: JudgeConfig = JudgeConfig(), say: Callable[[str], None] = lambda _: None
) -> Judge:
    """The judge of a world: from the cache if it was fitted before, else fitted now and kept.

    Args:
        world: its pictures.
        config: how it is fitted.
        say: is told each step in a few words.

    Returns:
        The judge.

    Raises:
        WeightsError: the ImageNet weights are not installed.
    """
    features, folder = imagenet_features(config.size), judge_folder(world, config)
    if not (folder / "judge.json").is_file():
        judge = train_judge(world, features, config, say)
        save_judge(judge, folder)
        say(f"wrote {folder}")
    return load_judge(folder, features)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fits the judge unless the cache has it, and prints its accuracy on held-out scenes.

    Args:
        arguments: command line; that of the process if None.
    """
    parser = argparse.ArgumentParser(prog="python -m sfumato.evaluate.train_judge", description=__doc__)
    parser.add_argument("--world", default="", help="cache of the emoji world; empty for the default place")
    for name, value in asdict(JudgeConfig()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"default {value}")
    chosen: Mapping[str, object] = vars(parser.parse_args(arguments))
    config = JudgeConfig(**{name: value for name, value in chosen.items() if name != "world"})  # type: ignore[arg-type]
    judge = judge_of_world(
        open_world(str(chosen["world"]) or None), config, lambda words: print(words, file=sys.stderr)
    )
    for name, found in judge.accuracy.items():
        print(f"{name:34} {found.value:.3f} [{found.low:.3f}, {found.high:.3f}] of {found.count}")


if __name__ == "__main__":
    main()
