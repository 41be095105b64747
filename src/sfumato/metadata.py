"""How a picture was made: the recipe that every picture carries, and reading it back as untrusted input.

Two text chunks of the PNG file hold it: ``parameters``, the form of A1111's web interface that other tools read, and
``sfumato``, a JSON object with every setting and the true seed of this picture.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

from sfumato.a1111 import SAMPLERS, Written, join, short_name, split

__all__ = [
    "A1111_CHUNK",
    "JSON_CHUNK",
    "Found",
    "MetadataError",
    "Recipe",
    "chunks",
    "from_a1111",
    "from_chunks",
    "from_json",
    "to_a1111",
    "to_json",
]

A1111_CHUNK = "parameters"
JSON_CHUNK = "sfumato"

_FORMAT = 1
_Rule = tuple[Callable[[Any], bool], str]
_LONGEST = 65_536


class MetadataError(ValueError):
    """A recipe cannot be read; the message is a sentence that says what is wrong with it."""


@dataclass(frozen=True)
class Recipe:
    """All that makes one picture.

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

    def __post_init__(self) -> None:
        for name, (fits, wanted) in _RULES.items():
            value = getattr(self, name)
            if not fits(value):
                raise ValueError(f"{name} must be {wanted}, got {_shown(value)}")


@dataclass(frozen=True)
class Found:
    """A recipe that was read from a picture.

    Args:
        recipe: what it says.
        ignored: settings of another program that have no counterpart here, each as "name: value".
        complete: whether it is our own, with every setting; else defaults stand for what was not said.
    """

    recipe: Recipe
    ignored: tuple[str, ...] = ()
    complete: bool = True


def chunks(recipe: Recipe) -> dict[str, str]:
    """Both text chunks of a picture, keyword -> text."""
    return {A1111_CHUNK: to_a1111(recipe), JSON_CHUNK: to_json(recipe)}


def from_chunks(texts: Mapping[str, str]) -> Found:
    """The recipe in a picture's text chunks: ours where it is there, else A1111's.

    Args:
        texts: keyword -> text, at most 65,536 characters each.

    Raises:
        MetadataError: there is neither, it is longer, or it cannot be read.
    """
    if any(len(text) > _LONGEST for text in texts.values()):
        raise MetadataError(f"its recipe is longer than {_LONGEST} characters")
    if JSON_CHUNK in texts:
        return Found(from_json(texts[JSON_CHUNK]))
    if A1111_CHUNK in texts:
        return from_a1111(texts[A1111_CHUNK])
    raise MetadataError("it carries no recipe: neither a 'sfumato' nor a 'parameters' text chunk")


def to_json(recipe: Recipe) -> str:
    """One line of JSON in ASCII; "format" is 1, the other keys are the fields of ``Recipe``."""
    return json.dumps({"format": _FORMAT, **asdict(recipe)}, allow_nan=False)


def from_json(text: str) -> Recipe:
    """Read the JSON form from an untrusted source.

    Args:
        text: what the chunk holds.

    Raises:
        MetadataError: no such JSON, another format, a field that is unknown, missing, of another type or
            out of range.
    """
    values = _parsed(text)
    found = values.pop("format", None)
    if type(found) is not int or found != _FORMAT:
        raise MetadataError(f"its recipe has format {_shown(found)}, this version of sfumato reads format {_FORMAT}")
    names = [field.name for field in fields(Recipe)]
    for problem, wrong in (("unknown", set(values) - set(names)), ("missing", set(names) - set(values))):
        if wrong:
            listed = ", ".join(_shown(name) for name in sorted(wrong)[:5])
            raise MetadataError(f"{problem} field in its recipe: {listed}")
    if isinstance(values["guidance_interval"], list):
        values["guidance_interval"] = tuple(cast("list[Any]", values["guidance_interval"]))
    return _checked(values)


def to_a1111(recipe: Recipe) -> str:
    """The form that A1111's web interface writes and many tools read."""
    settings = {
        "Steps": str(recipe.steps),
        "Sampler": SAMPLERS.get(recipe.scheduler, recipe.scheduler),
        "CFG scale": f"{recipe.guidance:g}",
        "Seed": str(recipe.seed),
        "Size": f"{recipe.width}x{recipe.height}" if recipe.width and recipe.height else "",
        "Model hash": recipe.fingerprint[:10],
        "Model": recipe.model,
        "Version": f"sfumato {recipe.version}".strip(),
    }
    return join(Written(recipe.prompt, recipe.negative, settings))


def from_a1111(text: str) -> Found:
    """Read A1111's form from an untrusted source, as far as its settings have a counterpart.

    Args:
        text: what the chunk holds.

    Raises:
        MetadataError: no such text, no seed, or a setting that cannot be.
    """
    try:
        written = split(text)
    except ValueError as error:
        raise MetadataError(f"its 'parameters' text cannot be read: {error}") from error
    values: dict[str, Any] = {"prompt": written.prompt, "negative": written.negative}
    ignored = [f"text after the settings: {_shown(written.after)}"] if written.after else []
    for name, word in written.settings.items():
        read = _read(name, word)
        values.update(read)
        ignored += [] if read or name == "Version" else [f"{name}: {word}"]
    if "seed" not in values:
        raise MetadataError("its recipe names no seed")
    return Found(_checked(values), tuple(ignored), complete=False)


def _read(name: str, word: str) -> dict[str, Any]:
    try:
        return _READERS[name](word) if name in _READERS else {}
    except ValueError as error:
        raise MetadataError(f"in its recipe the setting {name} cannot be {_shown(word)}") from error


def _parsed(text: str) -> dict[str, Any]:
    try:
        values: Any = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise MetadataError("its recipe is nested too deeply") from error
    except ValueError as error:
        raise MetadataError(f"its recipe is no valid JSON ({_shown(str(error))})") from error
    if not isinstance(values, dict):
        raise MetadataError("its recipe is no JSON object")
    return cast("dict[str, Any]", values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a field occurs twice")
    return values


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _checked(values: dict[str, Any]) -> Recipe:
    try:
        return Recipe(**values)
    except ValueError as error:
        raise MetadataError(f"in its recipe {error}") from error


def _sampler(word: str) -> dict[str, Any]:
    short = short_name(word)
    return {"scheduler": short} if short else {}


def _size(word: str) -> dict[str, Any]:
    width, height = word.split("x")
    return {"width": int(width), "height": int(height)}


_READERS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "Steps": lambda word: {"steps": int(word)},
    "Sampler": _sampler,
    "CFG scale": lambda word: {"guidance": float(word)},
    "Seed": lambda word: {"seed": int(word)},
    "Size": _size,
    "Model": lambda word: {"model": word},
}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _text(longest: int) -> _Rule:
    return lambda value: isinstance(value, str) and len(value) <= longest, f"a text of at most {longest} characters"


def _whole(low: int, high: int) -> _Rule:
    return lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high}"


def _real(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and low <= value <= high


def _is_interval(value: Any) -> bool:
    ends: tuple[Any, ...] = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else ()
    return len(ends) == 2 and all(_real(end, 0, 1) for end in ends) and ends[0] < ends[1]


def _is_side(value: Any) -> bool:
    return value is None or (type(value) is int and 8 <= value <= 4096)


_RULES: Mapping[str, _Rule] = {
    "prompt": _text(10_000),
    "seed": _whole(0, 2**64 - 1),
    "negative": _text(10_000),
    "model": _text(200),
    "fingerprint": (lambda v: isinstance(v, str) and len(v) <= 64 and set(v) <= set("0123456789abcdef"), "hexadecimal"),
    "steps": _whole(1, 1000),
    "scheduler": _text(80),
    "guidance": (lambda value: _real(value, 0, 1000), "a number from 0 to 1000"),
    "guidance_interval": (_is_interval, "two numbers with 0 <= low < high <= 1"),
    "rescale": (lambda value: _real(value, 0, 1), "a number from 0 to 1"),
    "width": (_is_side, "a whole number from 8 to 4096"),
    "height": (_is_side, "a whole number from 8 to 4096"),
    "dtype": (lambda value: value in ("float32", "bfloat16"), "float32 or bfloat16"),
    "batch": _whole(1, 100_000),
    "threads": _whole(0, 4096),
    "version": _text(40),
}
