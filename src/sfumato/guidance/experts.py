"""Expert denoisers: another network for other noise levels, at the cost of one.

Layout is decided at noisy levels and texture at clean ones, and networks that have to do only one of both do it better.
Grown from one parent or not, several models take turns, each where the level is its own:

    model(x, level) = models[choose(level)](x, level)

eDiff-I divides by sigma / alpha, ``by_ratio``; two finished checkpoints are more easily divided by the share of the
path, ``by_progress``. A model that was trained on another schedule is asked at its own level of the same sigma / alpha.

Combines with: everything: it is a model. All models must share what they denoise and how they are conditioned.
Forwards per call: 1; memory is that of all models.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sfumato.core.branch import Branch
from sfumato.core.level import Level, Schedule, along
from sfumato.core.model import Model

__all__ = ["Experts", "by_progress", "by_ratio"]


@dataclass(frozen=True, eq=False)
class Experts:
    """A model that asks another one at each level.

    Args:
        models: one or more; the schedule of the first is that of all.
        choose: from a level, shape (), to the index of the model that owns it.

    Raises:
        ValueError: no models; in the call, levels that are not one for all images, an index that has no model, or one
            of a model that was not trained at this sigma / alpha.

    Paper: eDiff-I: Text-to-Image Diffusion Models with an Ensemble of Expert Denoisers (Balaji et al., 2022),
        arXiv:2211.01324, section 3.1.
    """

    models: tuple[Model, ...]
    choose: Callable[[Level], int]
    _alike: tuple[bool, ...] = field(default=(), init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("experts need at least one model")
        object.__setattr__(self, "_alike", tuple(_alike(self.schedule, model.schedule) for model in self.models))

    @property
    def schedule(self) -> Schedule:
        """The levels of the first model."""
        return self.models[0].schedule

    def __call__(self, x: Tensor, level: Level, branches: Sequence[Branch]) -> tuple[Tensor, ...]:
        """Clean estimates (B, ...), one a branch, of x (B, ...) at a level ()."""
        if level.time.ndim:
            raise ValueError("experts are chosen by one level for all images, not one an image")
        index = self.choose(level)
        if not 0 <= index < len(self.models):
            raise ValueError(f"expert {index} was chosen at {level}, and there are {len(self.models)}")
        model = self.models[index]
        if self._alike[index]:
            return model(x, level, branches)
        try:
            own = replace(_level_of(model.schedule, level), progress=level.progress)
        except ValueError as error:
            raise ValueError(f"expert {index} was not trained at {level}; give it a part with less noise") from error
        return model(x * along(own.sigma / level.sigma, x), own, branches)


def _level_of(schedule: Schedule, level: Level) -> Level:
    """A schedule's own level of the same sigma / alpha, which is infinite where nothing but noise is left."""
    if level.alpha > 0:
        return schedule.at_ratio(level.ratio)
    noisiest = schedule.at(schedule.time_at(torch.tensor(schedule.steps, dtype=torch.float64)))
    if noisiest.alpha > 0:
        raise ValueError(f"the noisiest level of this schedule is {noisiest}")
    return noisiest


def _alike(first: Schedule, second: Schedule) -> bool:
    """Whether two schedules have the same levels at the same times."""
    if first is second:
        return True
    if first.steps != second.steps:
        return False
    position = torch.linspace(1, first.steps, 33, dtype=torch.float64).round()
    one, two = (schedule.at(schedule.time_at(position)) for schedule in (first, second))
    pairs = ((one.time, two.time), (one.alpha, two.alpha), (one.sigma, two.sigma))
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def by_ratio(*edges: float) -> Callable[[Level], int]:
    """Divide by sigma / alpha: model 0 below the first edge, model i from edge i - 1 on, the last above all.

    Args:
        edges: rising, > 0; one fewer than there are models.

    Raises:
        ValueError: edges that do not rise.
    """
    if any(high <= low for low, high in zip((0.0, *edges), edges, strict=False)):
        raise ValueError(f"edges must be above 0 and rise, got {edges}")
    return lambda level: bisect_right(edges, float(level.ratio))


def by_progress(*spans: tuple[float, float]) -> Callable[[Level], int]:
    """Divide by the share of the path: model i + 1 where start_i <= progress < stop_i, model 0 elsewhere.

    Args:
        spans: 0 <= start < stop <= 1 each; 0 is pure noise. They may not overlap.

    Returns:
        a function of a level of a path; its last level, at progress 1, belongs to a span that stops there.

    Raises:
        ValueError: spans out of range or overlapping; in the call, a level outside a path (progress is None).
    """
    ordered = sorted(spans)
    if any(not 0 <= start < stop <= 1 for start, stop in spans):
        raise ValueError(f"spans are shares of the path, 0 <= start < stop <= 1, got {spans}")
    if any(start < stop for (_, stop), (start, _) in zip(ordered, ordered[1:], strict=False)):
        raise ValueError(f"spans may not overlap, since one model owns a level, got {spans}")

    def choose(level: Level) -> int:
        progress = level.progress
        if progress is None:
            raise ValueError("experts divided by the path need a level of a path, which knows its progress")
        owned = (start <= progress < stop or progress == stop == 1 for start, stop in spans)
        return next((index for index, owns in enumerate(owned, start=1) if owns), 0)

    return choose
