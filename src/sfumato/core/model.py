"""Models evaluate several branches at one x; networks are what they wrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

import torch
from torch import Tensor

from sfumato.core.attention import AttentionCall, Site, check_edits, merged
from sfumato.core.branch import Branch
from sfumato.core.condition import Condition
from sfumato.core.level import Level, Schedule
from sfumato.core.predict import Prediction, to_x0

__all__ = ["DenoisingModel", "Model", "Network"]

_PROBING = Lock()  # a stance is global to the process: two threads that overlap would leave it behind


class Model(Protocol):
    """Evaluates branches at one x."""

    @property
    def schedule(self) -> Schedule:
        """The levels that it was trained on."""
        ...

    def __call__(self, x: Tensor, level: Level, branches: Sequence[Branch]) -> tuple[Tensor, ...]:
        """Clean estimates (B, ...), one a branch, of x (B, ...) at a level () or (B,)."""
        ...


class Network(Protocol):
    """One architecture, wrapped so that it takes a Condition; knows nothing of branches."""

    @property
    def prediction(self) -> Prediction:
        """What its output stands for."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which it takes x, tokens, vector and channels."""
        ...

    def __call__(self, x: Tensor, time: Tensor, condition: Condition, call: AttentionCall | None) -> Tensor:
        """The raw output, of x's shape.

        Args:
            x: (R, ...), in ``dtype``.
            time: (R,), float32, in the checkpoint's own unit.
            condition: R images, in ``dtype``.
            call: passed on to the attention layers; None leaves the stock computation.
        """
        ...


@dataclass(frozen=True, eq=False)
class DenoisingModel:
    """A network with its schedule; evaluates all branches in one forward pass.

    x is repeated, the conditions are put after one another, the network is called once in its own dtype, and its output
    comes back in x's dtype as one clean estimate a branch. The first time that edits are met at a size of x, one row is
    passed through the network to learn which attention layers a call reaches.

    Forwards per call: 1; with ``max_rows``, as many as it takes to keep each at ``max_rows`` rows or at one branch.

    Args:
        network: the architecture.
        schedule: the levels that it was trained on.
        max_rows: largest number of rows in a forward, >= 1, for less memory; a branch is never divided. None: no limit.

    Raises:
        ValueError: max_rows below 1.
    """

    network: Network
    schedule: Schedule
    max_rows: int | None = None
    _sites: dict[torch.Size, tuple[Site, ...]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.max_rows is not None and self.max_rows < 1:
            raise ValueError(f"max_rows must be at least 1, got {self.max_rows}")

    def __call__(self, x: Tensor, level: Level, branches: Sequence[Branch]) -> tuple[Tensor, ...]:
        """Clean estimates of several branches.

        Args:
            x: noisy input (B, ...), float32 (or float64).
            level: level of x, shape () or (B,); () if any branch has edits.
            branches: one or more, each with a condition for B images.

        Returns:
            x0 (B, ...) in x's dtype, one a branch.

        Raises:
            ValueError: x in half precision, a condition for another number of images, an edit that reaches no layer.
        """
        self._check(x, level, branches)
        size = len(branches) if self.max_rows is None else max(1, self.max_rows // len(x))
        chunks = (branches[start : start + size] for start in range(0, len(branches), size))
        return tuple(estimate for chunk in chunks for estimate in self._forward(x, level, chunk))

    def raw(self, x: Tensor, level: Level, condition: Condition) -> Tensor:
        """The untouched network output, for training losses.

        Args:
            x: noisy input (B, ...).
            level: level of x, shape () or (B,).
            condition: B images.

        Returns:
            (B, ...) in the network's parametrisation and dtype.
        """
        dtype = self.network.dtype
        return self.network(x.to(dtype), _rows_of_time(level, x, 1), condition.to(dtype), None)

    def _forward(self, x: Tensor, level: Level, branches: Sequence[Branch]) -> list[Tensor]:
        count, dtype = len(branches), self.network.dtype
        condition = Condition.cat([branch.condition for branch in branches])
        output = self.network(
            torch.cat([x] * count).to(dtype) if count > 1 else x.to(dtype),
            _rows_of_time(level, x, count),
            condition.to(dtype),
            _call(x, level, branches),
        )
        return [to_x0(self.network.prediction, part, x, level) for part in output.to(x.dtype).chunk(count)]

    def _check(self, x: Tensor, level: Level, branches: Sequence[Branch]) -> None:
        if x.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"x must be float32; only the network may be half, and x is {x.dtype}")
        if not branches:
            raise ValueError("a model needs at least one branch")
        for branch in branches:
            if branch.condition.count not in (None, len(x)):
                raise ValueError(f"{branch!r} is conditioned for {branch.condition.count} images and x has {len(x)}")
            if branch.edits:
                if level.time.ndim:
                    raise ValueError("attention edits need one level for all images, not one an image")
                check_edits(branch.edits, self._reached(x, level, branch.condition))

    def _reached(self, x: Tensor, level: Level, condition: Condition) -> tuple[Site, ...]:
        if x.shape[1:] not in self._sites:
            sites: list[Site] = []
            call = AttentionCall(((0, 1, ()),), _size(x), _ratio(level, x), sites)
            dtype = self.network.dtype
            row = condition.rows([0]).to(dtype)
            with _PROBING, torch.compiler.set_stance("force_eager"):
                self.network(x[:1].to(dtype), _rows_of_time(level, x[:1], 1), row, call)
            self._sites[x.shape[1:]] = tuple(sites)
        return self._sites[x.shape[1:]]


def _rows_of_time(level: Level, x: Tensor, count: int) -> Tensor:
    time = level.time.to(x.device, torch.float32)
    return time.expand(count * len(x)) if time.ndim == 0 else time.repeat(count)


def _size(x: Tensor) -> tuple[int, int] | None:
    return (x.shape[-2], x.shape[-1]) if x.ndim == 4 else None


def _ratio(level: Level, x: Tensor) -> Tensor:
    return level.ratio.to(x.device, torch.float32)


def _call(x: Tensor, level: Level, branches: Sequence[Branch]) -> AttentionCall | None:
    active = [tuple(edit for edit in branch.edits if edit.active(level)) for branch in branches]
    if not any(active):
        return None
    groups = merged((index * len(x), (index + 1) * len(x), edits) for index, edits in enumerate(active))
    return AttentionCall(groups, _size(x), _ratio(level, x))
