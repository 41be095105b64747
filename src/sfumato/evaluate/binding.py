"""Attribute binding: whether a picture of two coloured things shows both, each in its own colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from sfumato.evaluate.colour import foreground, shown_colours
from sfumato.evaluate.coloured_pairs import ColouredPair
from sfumato.evaluate.intervals import Interval, wilson
from sfumato.evaluate.judge import Judge
from sfumato.evaluate.lessons import crop

__all__ = ["Bound", "binding_of", "binding_shares"]

_ORDERS = (("left", "right"), ("right", "left"), ("upper", "lower"), ("lower", "upper"))
_AMONG = 5


@dataclass(frozen=True)
class Bound:
    """What the judge says of one picture of two coloured things, in the best reading of their places.

    Args:
        things: both are among the judge's five likeliest.
        colours: both places show the colours asked for, whatever stands there.
        both: both at once.
        exchanged: both things are there, and each shows the other's colour.
    """

    things: bool
    colours: bool
    both: bool
    exchanged: bool


def binding_of(images: Tensor, pairs: Sequence[ColouredPair], judge: Judge) -> list[Bound]:
    """Whether each picture shows both things in their own colours.

    Args:
        images: (N, 3, 64, 64) in [-1, 1], one a pair.
        pairs: N prompts; their things may stand beside or above each other, in either order.
        judge: fitted to the same world.

    Returns:
        N findings.

    Raises:
        ValueError: another number or size of pictures.
    """
    if images.shape != (len(pairs), 3, 64, 64):
        raise ValueError(f"needs {len(pairs)} pictures of 3 x 64 x 64, got {tuple(images.shape)}")
    grounds = foreground(images)[:, None]
    views = {place: _View.of(images, grounds, place, judge) for order in _ORDERS for place in order}
    return [_bound(number, pair, views) for number, pair in enumerate(pairs)]


def binding_shares(found: Sequence[Bound]) -> dict[str, Interval]:
    """Measure -> share of the pictures, with Wilson's interval.

    Args:
        found: of all pictures, at least one.
    """
    columns = {
        "both things": [each.things for each in found],
        "both colours": [each.colours for each in found],
        "both things in their colours": [each.both for each in found],
        "both things, colours exchanged": [each.exchanged for each in found],
    }
    return {name: wilson(sum(values), len(values)) for name, values in columns.items()}


@dataclass(frozen=True, eq=False)
class _View:
    """What the judge sees in one window of each picture."""

    ranked: list[list[int]]
    colours: list[str | None]

    @staticmethod
    def of(images: Tensor, grounds: Tensor, place: str, judge: Judge) -> _View:
        windows = crop(images, place)
        ranked = judge.ranked(judge.features(windows), min(_AMONG, len(judge.concepts)))
        return _View(ranked.tolist(), shown_colours(windows, crop(grounds, place)[:, 0]))


def _bound(number: int, pair: ColouredPair, views: Mapping[str, _View]) -> Bound:
    readings: list[tuple[bool, bool, bool]] = []
    for order in _ORDERS:
        placed = [(views[place], thing) for place, thing in zip(order, pair.things, strict=True)]
        shown = [view.colours[number] for view, _ in placed]
        wanted = [thing.colour for thing in pair.things]
        things = all(not set(thing.concepts).isdisjoint(view.ranked[number]) for view, thing in placed)
        readings.append((things, shown == wanted, things and shown == wanted[::-1]))
    return Bound(
        things=any(things for things, _, _ in readings),
        colours=any(colours for _, colours, _ in readings),
        both=any(things and colours for things, colours, _ in readings),
        exchanged=any(exchanged for _, _, exchanged in readings),
    )
