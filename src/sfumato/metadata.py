"""The recipe that every picture carries as text: writing it, and reading it back as untrusted input.

Two text chunks of the PNG file hold it: ``parameters``, the form of A1111's web interface that other tools read, and
``sfumato``, a JSON object with every setting and the true seed of this picture.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeVar, cast

from sfumato.a1111 import SAMPLERS, Written, foreign, join, short_name, split
from sfumato.fields import shown
from sfumato.from_memory import FromMemory
from sfumato.given import Given
from sfumato.png_text import MAX_TEXT
from sfumato.recipe import OPTIONAL, Recipe

__all__ = [
    "A1111_CHUNK",
    "JSON_CHUNK",
    "Found",
    "MetadataError",
    "chunks",
    "from_a1111",
    "from_chunks",
    "from_json",
    "to_a1111",
    "to_json",
    "written",
]

A1111_CHUNK = "parameters"
JSON_CHUNK = "sfumato"

_Record = TypeVar("_Record")
_FORMAT = 1
_FILES = {"redraw": ("picture",), "inpaint": ("picture", "mask"), "outpaint": ("picture",)}
"""The files without which a task cannot be followed."""
_DEFAULTS = {field.name: field.default for field in fields(Recipe) if field.default is not MISSING}
_LONGEST = MAX_TEXT


class MetadataError(ValueError):
    """A recipe cannot be read; the message is a sentence that says what is wrong with it."""


@dataclass(frozen=True)
class Found:
    """A recipe that was read from a picture.

    Args:
        recipe: what it says.
        ignored: settings of another program that have no counterpart here, each as "name: value".
        complete: whether it is our own, with every setting; else defaults stand for what was not said.
        ours: whether sfumato wrote it; if it is not complete, of both its forms only A1111's is left.
    """

    recipe: Recipe
    ignored: tuple[str, ...] = ()
    complete: bool = True
    ours: bool = True


def chunks(recipe: Recipe) -> dict[str, str]:
    """Both text chunks of a picture, keyword -> text."""
    return {A1111_CHUNK: to_a1111(recipe), JSON_CHUNK: to_json(recipe)}


def from_chunks(texts: Mapping[str, str]) -> Found:
    """The recipe in a picture's text chunks: ours where it is there, else A1111's.

    Args:
        texts: keyword -> text, at most ``png_text.MAX_TEXT`` characters each.

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


def written(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe as plain values, those of ``OPTIONAL`` that are at their defaults left out."""
    values = asdict(recipe)
    return {name: value for name, value in values.items() if name not in OPTIONAL or value != _DEFAULTS[name]}


def to_json(recipe: Recipe) -> str:
    """One line of JSON in ASCII; "format" is 1, the other keys are the fields of :func:`written`."""
    return json.dumps({"format": _FORMAT, **written(recipe)}, allow_nan=False)


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
        raise MetadataError(f"its recipe has format {shown(found)}, this version of sfumato reads format {_FORMAT}")
    names = {field.name for field in fields(Recipe)}
    for problem, wrong in (("unknown", set(values) - names), ("missing", names - OPTIONAL - set(values))):
        if wrong:
            listed = ", ".join(shown(name) for name in sorted(wrong)[:5])
            raise MetadataError(f"{problem} field in its recipe: {listed}")
    recipe: Recipe = _checked(Recipe, {name: _frozen(value) for name, value in values.items()})
    wanted = [name for name in _FILES.get(recipe.task, ()) if getattr(recipe, name) is None]
    if wanted:
        raise MetadataError(f"its recipe is of {recipe.task} and names no {wanted[0]}")
    return recipe


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
        "Denoising strength": f"{recipe.strength:g}" if recipe.task == "redraw" else "",
        "Version": f"sfumato {recipe.version}".strip(),
    }
    return join(Written(recipe.shows, recipe.negative, settings))


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
    ignored = [f"text after the settings: {shown(written.after)}"] if written.after else []
    for name, word in written.settings.items():
        read = _read(name, word)
        values.update(read)
        ignored += [] if read or name == "Version" else [f"{name}: {word}"]
    if "seed" not in values:
        raise MetadataError("its recipe names no seed")
    if "scheduler" in values and (levels := short_name(written.settings["Sampler"])[1]):
        ignored.append(f"Schedule type: {levels}")
    ours = written.settings.get("Version", "").startswith("sfumato")
    if not ours:
        ignored += [f"{each} as more than words" for each in foreign(f"{written.prompt}\n{written.negative}")]
    return Found(_checked(Recipe, values), tuple(ignored), complete=False, ours=ours)


def _read(name: str, word: str) -> dict[str, Any]:
    try:
        return _READERS[name](word) if name in _READERS else {}
    except ValueError as error:
        raise MetadataError(f"in its recipe the setting {name} cannot be {shown(word)}") from error


def _parsed(text: str) -> dict[str, Any]:
    try:
        values: Any = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise MetadataError("its recipe is nested too deeply") from error
    except ValueError as error:
        raise MetadataError(f"its recipe is no valid JSON ({shown(str(error))})") from error
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


def _frozen(value: Any) -> Any:
    """JSON's lists as tuples, and its objects as the records that have their fields."""
    if isinstance(value, list):
        return tuple(_frozen(each) for each in cast("list[Any]", value))
    if isinstance(value, dict):
        inside = {name: _frozen(each) for name, each in cast("dict[str, Any]", value).items()}
        for record in (Given, FromMemory):
            if set(inside) == {field.name for field in fields(record)}:
                return _checked(record, inside)
    return value


def _checked(record: type[_Record], values: dict[str, Any]) -> _Record:
    try:
        return record(**values)
    except ValueError as error:
        raise MetadataError(f"in its recipe {error}") from error


def _sampler(word: str) -> dict[str, Any]:
    short, _ = short_name(word)
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
