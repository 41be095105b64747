"""Sets of pictures as a whole against real scenes: which scenes these may be, and how far the sets are from them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from sfumato.evaluate.frechet import Moments, frechet_distance, moments
from sfumato.evaluate.intervals import Interval, bootstrap, wilson
from sfumato.evaluate.kernel import kernel_distance
from sfumato.evaluate.precision_recall import precision_recall, recall_interval
from sfumato.world.scene import Scene

__all__ = ["distances", "other_scenes"]


def other_scenes(scenes: Iterable[Scene], count: int, shown: Iterable[Scene] = ()) -> list[Scene]:
    """The first so many scenes whose pictures differ, pixel by pixel, from each other and from those already shown.

    Other words may describe the same drawing; a picture beside a copy of itself would seem nearer than any can be.

    Args:
        scenes: in a fixed order, as many as it takes.
        count: how many at most, >= 1.
        shown: scenes that must not be among them.

    Returns:
        Up to ``count`` scenes, fewer only where ``scenes`` ends.
    """
    known = {scene.image.tobytes() for scene in shown}
    found: list[Scene] = []
    for scene in scenes:
        if len(found) == count:
            break
        picture = scene.image.tobytes()
        if picture not in known:
            known.add(picture)
            found.append(scene)
    return found


def distances(found: Tensor, reference: Tensor) -> dict[str, Interval | float]:
    """How far a set of pictures as a whole is from real scenes.

    The interval of precision is of the found pictures as draws, for these real scenes; that of recall counts both sets
    as draws (``recall_interval``). Those of the others that have one are of the found pictures too.

    Args:
        found: (N, R) coordinates, N >= 8.
        reference: (M, R) coordinates of real scenes, M >= 4.

    Returns:
        Fréchet distance, kernel distance times 1000, precision and recall (k = 3).

    Raises:
        ValueError: dimensions differ, or too few rows.
    """
    real: Moments = moments(reference)
    precision = precision_recall(reference, found).precision
    return {
        "Fréchet distance": bootstrap(
            lambda chosen: frechet_distance(real, found[chosen]), len(found), resamples=200, recentre=True
        ),
        "kernel distance x 1000": 1000 * kernel_distance(reference, found, size=min(len(found), len(reference))).value,
        "precision": wilson(round(precision * len(found)), len(found)),
        "recall": recall_interval(reference, found),
    }
