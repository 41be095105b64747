"""The recipe of one picture: every setting that makes it, each a field of the name of its flag, each checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

__all__ = ["OPTIONAL", "TASKS", "Given", "Recipe", "shown"]

TASKS = ("generate", "redraw", "inpaint", "outpaint", "morph")
"""The commands whose pictures carry a recipe."""

_Rule = tuple[Callable[[Any], bool], str]


@dataclass(frozen=True)
class Given:
    """A file that a picture was made from.

    Args:
        name: of the file, or of a folder with a model; never a path.
        digest: hexadecimal digits of what it holds: SHA-256 of a file, the fingerprint of a model.
    """

    name: str
    digest: str


@dataclass(frozen=True)
class Recipe:
    """All that makes one picture. The fields from ``task`` on are off by default, and written down only when on.

    Args:
        prompt: what it shows.
        seed: of this picture alone, in [0, 2**64).
        negative: what it is guided away from.
        model: name of an installed model, or of the folder it was loaded from; never a path.
        fingerprint: hexadecimal digits that tell one model from another; "" if unknown.
        steps: in [1, 1000].
        scheduler: a short name or the name of a diffusers class.
        guidance: scale in [0, 1000]; 1 is no guidance.
        guidance_interval: shares of the path between which guidance acts, 0 <= low < high <= 1.
        rescale: share of the guided estimate's rescaling, in [0, 1].
        width: pixels, in [8, 4096]; None is the model's own size.
        height: pixels, likewise.
        dtype: "float32" or "bfloat16", in which the network computed.
        batch: pictures that were made together with it, itself included.
        threads: of the CPU; 0 if unknown.
        version: of the sfumato that made it; "" if another program did.
        task: one of ``TASKS``.
        concepts: further prompts with weights relative to guidance, positive for AND and negative for NOT.
        pag: scale of perturbed-attention guidance, in [0, 1000].
        apg: share kept of guidance along the estimate, in [0, 1]; None is no projection.
        threshold: "static", "dynamic:QUANTILE", or "".
        classifier: (head, word, scale) of each classifier that is followed.
        clip_guidance: scale in [0, 1000].
        clip_form: "noised", or "estimate" for clean pictures through the estimate.
        experts: (model, start, stop): another model for a share of the path.
        langevin: Langevin steps after each step, in [0, 100].
        like: picture whose coarse shapes are followed.
        like_scale: side of its blocks, in pixels.
        like_until: share of the path up to which it is followed.
        start: file of an inversion to begin from.
        picture: what is redrawn, inpainted, extended, or morphed from.
        mask: where.
        strength: share of the path that is redrawn.
        repaint: times that each stretch is walked.
        paste: whether kept pixels are put back after decoding.
        border: pixels left, right, above and below that are added.
        to_prompt: what the last picture of a morph shows.
        to_seed: its seed.
        to_picture: what is morphed to.
        share: of the way of a morph, in [0, 1].

    Raises:
        ValueError: a field of another type or outside its range.
    """

    prompt: str
    seed: int
    negative: str = ""
    model: str = ""
    fingerprint: str = ""
    steps: int = 20
    scheduler: str = "ddim"
    guidance: float = 4.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0
    width: int | None = None
    height: int | None = None
    dtype: str = "float32"
    batch: int = 1
    threads: int = 0
    version: str = ""
    task: str = "generate"
    concepts: tuple[tuple[str, float], ...] = ()
    pag: float = 0.0
    apg: float | None = None
    threshold: str = ""
    classifier: tuple[tuple[str, str, float], ...] = ()
    clip_guidance: float = 0.0
    clip_form: str = "noised"
    experts: tuple[tuple[Given, float, float], ...] = ()
    langevin: int = 0
    like: Given | None = None
    like_scale: int = 16
    like_until: float = 0.8
    start: Given | None = None
    picture: Given | None = None
    mask: Given | None = None
    strength: float = 0.6
    repaint: int = 1
    paste: bool = False
    border: tuple[int, int, int, int] = (0, 0, 0, 0)
    to_prompt: str = ""
    to_seed: int = 0
    to_picture: Given | None = None
    share: float = 0.0

    def __post_init__(self) -> None:
        for name, (fits, wanted) in _RULES.items():
            value = getattr(self, name)
            if not fits(value):
                raise ValueError(f"{name} must be {wanted}, got {shown(value)}")

    @property
    def given(self) -> tuple[Given, ...]:
        """The files that it names, without those of models."""
        return tuple(each for each in (self.like, self.start, self.picture, self.mask, self.to_picture) if each)


def shown(value: Any) -> str:
    """A value in a sentence, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _text(longest: int) -> _Rule:
    return lambda value: isinstance(value, str) and len(value) <= longest, f"a text of at most {longest} characters"


def _whole(low: int, high: int) -> _Rule:
    return lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high}"


def _number(low: float, high: float) -> _Rule:
    return lambda value: _real(value, low, high), f"a number from {low:g} to {high:g}"


def _one_of(*words: str) -> _Rule:
    return lambda value: isinstance(value, str) and value in words, " or ".join(words)


def _or_none(rule: _Rule) -> _Rule:
    fits, wanted = rule
    return lambda value: value is None or fits(value), f"{wanted}, or nothing"


def _rows(wanted: str, *rules: _Rule, longest: int = 16) -> _Rule:
    """A tuple of at most ``longest`` rows, whose columns follow the rules."""

    def fits(value: Any) -> bool:
        rows: tuple[Any, ...] = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else (None,)
        return len(rows) <= longest and all(_fits_all(row, rules) for row in rows)

    return fits, f"at most {longest} of {wanted}"


def _fits_all(row: Any, rules: tuple[_Rule, ...]) -> bool:
    columns: tuple[Any, ...] = cast("tuple[Any, ...]", row) if isinstance(row, tuple) else ()
    return len(columns) == len(rules) and all(fits(column) for column, (fits, _) in zip(columns, rules, strict=True))


def _real(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and low <= value <= high


def _is_interval(value: Any) -> bool:
    return _fits_all(value, (_number(0, 1), _number(0, 1))) and value[0] < value[1]


def _is_given(value: Any) -> bool:
    return isinstance(value, Given) and _NAME[0](value.name) and _HEX[0](value.digest)


def _is_threshold(value: Any) -> bool:
    if not isinstance(value, str) or value in ("", "static"):
        return value in ("", "static")
    kind, _, quantile = value.partition(":")
    try:
        return kind == "dynamic" and 0 < float(quantile) <= 1
    except ValueError:
        return False


_NAME = _text(200)
_HEX: _Rule = (lambda v: isinstance(v, str) and len(v) <= 64 and set(v) <= set("0123456789abcdef"), "hexadecimal")
_GIVEN: _Rule = (_is_given, "a file's name and digest")
_PROMPT, _SEED, _SHARE, _SCALE = _text(10_000), _whole(0, 2**64 - 1), _number(0, 1), _number(0, 1000)
_SIDE = _whole(8, 4096)

_RULES: Mapping[str, _Rule] = {
    "prompt": _PROMPT,
    "seed": _SEED,
    "negative": _PROMPT,
    "model": _NAME,
    "fingerprint": _HEX,
    "steps": _whole(1, 1000),
    "scheduler": _text(80),
    "guidance": _SCALE,
    "guidance_interval": (_is_interval, "two numbers with 0 <= low < high <= 1"),
    "rescale": _SHARE,
    "width": _or_none(_SIDE),
    "height": _or_none(_SIDE),
    "dtype": _one_of("float32", "bfloat16"),
    "batch": _whole(1, 100_000),
    "threads": _whole(0, 4096),
    "version": _text(40),
    "task": _one_of(*TASKS),
    "concepts": _rows("a prompt and its weight", _PROMPT, _number(-1000, 1000)),
    "pag": _SCALE,
    "apg": _or_none(_SHARE),
    "threshold": (_is_threshold, '"static" or "dynamic:QUANTILE" with a quantile in (0, 1]'),
    "classifier": _rows("a head, a word and a scale", _NAME, _NAME, _SCALE),
    "clip_guidance": _SCALE,
    "clip_form": _one_of("noised", "estimate"),
    "experts": _rows("a model and the share of the path that is its own", _GIVEN, _SHARE, _SHARE),
    "langevin": _whole(0, 100),
    "like": _or_none(_GIVEN),
    "like_scale": _whole(1, 4096),
    "like_until": _SHARE,
    "start": _or_none(_GIVEN),
    "picture": _or_none(_GIVEN),
    "mask": _or_none(_GIVEN),
    "strength": _SHARE,
    "repaint": _whole(1, 1000),
    "paste": (lambda value: type(value) is bool, "true or false"),
    "border": (lambda value: _fits_all(value, (_whole(0, 4096),) * 4), "four whole numbers from 0 to 4096"),
    "to_prompt": _PROMPT,
    "to_seed": _SEED,
    "to_picture": _or_none(_GIVEN),
    "share": _SHARE,
}

_names = [field.name for field in fields(Recipe)]
OPTIONAL: frozenset[str] = frozenset(_names[_names.index("task") :])
"""Fields that are written down only when they are not at their defaults."""
