"""Branches, and mixes of them written as the papers' equations: ``none + 7.5 * (text - none)``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from sfumato.core.attention import AttentionEdit
from sfumato.core.condition import Condition
from sfumato.core.level import Level, along

if TYPE_CHECKING:
    from sfumato.core.model import Model

__all__ = ["Branch", "Guided", "Mix", "Weight", "as_mix", "evaluate", "is_zero", "mix_at", "times"]

Weight = float | Tensor
"""A number, or one number an image, shape (B,)."""


@dataclass(frozen=True, eq=False)
class Branch:
    """A condition, and the attention edits that apply to it and to nothing else.

    Its identity is its key: the same branch used twice in a mix is evaluated once.

    Args:
        condition: what the network is given, for B images.
        edits: run in this order in each stage of attention.
        name: for messages and the formula of a mix.
    """

    condition: Condition
    edits: tuple[AttentionEdit, ...] = ()
    name: str = ""

    def __add__(self, other: Branch | Mix) -> Mix:
        return as_mix(self) + other

    def __sub__(self, other: Branch | Mix) -> Mix:
        return as_mix(self) - other

    def __mul__(self, factor: Weight) -> Mix:
        return as_mix(self) * factor

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return self.name or "branch"


class Mix:
    """An affine combination of branches; prints as the formula that made it.

    Args:
        weights: weight of each branch, a number or (B,).
        formula: how it was written; made from the weights when empty.
    """

    def __init__(self, weights: Mapping[Branch, Weight], formula: str = "") -> None:
        self.weights = dict(weights)
        self.formula = formula or " + ".join(f"{_number(w)}*{branch}" for branch, w in weights.items())

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The branches that count: those whose weight is not the number 0."""
        return tuple(branch for branch, weight in self.weights.items() if not is_zero(weight))

    def of(self, estimates: Mapping[Branch, Tensor]) -> Tensor:
        """Combine estimates.

        Args:
            estimates: one tensor (B, ...) for each of ``branches``, all in the same coordinates (x0, noise or v).

        Returns:
            sum of weight * estimate, (B, ...).

        Raises:
            KeyError: an estimate is missing.
            ValueError: every weight is 0.
        """
        if not self.branches:
            raise ValueError(f"no branch has a weight in {self}")
        first, *others = (times(self.weights[branch], estimates[branch]) for branch in self.branches)
        return sum(others, start=first)

    def check(self) -> Mix:
        """Itself, if it is affine.

        Raises:
            ValueError: the weights do not sum to 1 for each image.
        """
        total = sum(self.weights.values(), start=0.0)
        off = (total - 1.0).abs().max().item() if isinstance(total, Tensor) else abs(total - 1.0)
        if not off < 1e-4:
            raise ValueError(f"the weights of a mix must sum to 1, those of {self} sum to {_number(total)}")
        return self

    def __add__(self, other: Branch | Mix) -> Mix:
        return Mix(_plus(self, as_mix(other), 1.0), f"{self} + {other!r}")

    def __sub__(self, other: Branch | Mix) -> Mix:
        return Mix(_plus(self, as_mix(other), -1.0), f"{self} - {_bracketed(repr(other))}")

    def __mul__(self, factor: Weight) -> Mix:
        weights = {branch: factor * weight for branch, weight in self.weights.items()}
        return Mix(weights, f"{_number(factor)}*{_bracketed(self.formula)}")

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return self.formula


def as_mix(term: Branch | Mix) -> Mix:
    """A mix as it is; a branch as the mix that gives it weight 1."""
    return term if isinstance(term, Mix) else Mix({term: 1.0}, repr(term))


def mix_at(mix: Branch | Mix | Callable[[Level], Branch | Mix], level: Level) -> Mix:
    """The mix of a level, if it is affine.

    Args:
        mix: a branch, a mix, or a function from a level to one of them.
        level: shape () or (B,).

    Raises:
        ValueError: the weights do not sum to 1 for each image.
    """
    return as_mix(mix if isinstance(mix, Branch | Mix) else mix(level)).check()


def times(weight: Weight, value: Tensor) -> Tensor:
    """weight * value, the weight being a number or one an image (B,), of a value (B, ...)."""
    return (along(weight, value) if isinstance(weight, Tensor) else weight) * value


def is_zero(weight: Weight) -> bool:
    """Whether a weight is the number 0; a tensor (B,) is not looked into, which would wait for its device."""
    return not isinstance(weight, Tensor) and abs(weight) < 1e-12


def evaluate(model: Model, x: Tensor, level: Level, branches: Iterable[Branch]) -> dict[Branch, Tensor]:
    """Clean estimates of several branches at one x, in one forward pass.

    Args:
        model: evaluates branches together.
        x: noisy input (B, ...), float32.
        level: level of x, shape () or (B,).
        branches: a branch that occurs twice is evaluated once.

    Returns:
        x0 (B, ...) for each branch.
    """
    unique = list(dict.fromkeys(branches))
    return dict(zip(unique, model(x, level, unique), strict=True))


@dataclass(frozen=True, eq=False)
class Guided:
    """The denoiser that a model and a mix make: ``x0 = sum of weight * x0 of branch``.

    Forwards per step: 1, whatever the number of branches.

    Args:
        model: evaluates branches together.
        mix: a branch, a mix, or a function from a level to one of them; weights must sum to 1.

    Raises:
        ValueError: weights that do not sum to 1; at construction, or in the call for a function.
    """

    model: Model
    mix: Branch | Mix | Callable[[Level], Branch | Mix]

    def __post_init__(self) -> None:
        if isinstance(self.mix, Branch | Mix):
            as_mix(self.mix).check()

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        """The mixed clean estimate (B, ...) of x (B, ...) at a level () or (B,)."""
        mix = mix_at(self.mix, level)
        return mix.of(evaluate(self.model, x, level, mix.branches))


def _plus(left: Mix, right: Mix, sign: float) -> dict[Branch, Weight]:
    weights = dict(left.weights)
    for branch, weight in right.weights.items():
        weights[branch] = weights.get(branch, 0.0) + sign * weight
    return weights


def _bracketed(formula: str) -> str:
    depth = 0
    for letter in formula:
        depth += (letter == "(") - (letter == ")")
        if letter == " " and depth == 0:
            return f"({formula})"
    return formula


def _number(value: Weight) -> str:
    if not isinstance(value, Tensor):
        return f"{value:g}"
    return "[" + ", ".join(f"{number:g}" for number in value.detach().flatten().tolist()) + "]"
