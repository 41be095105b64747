"""``sfumato train NAME``: the training recipes, their flags taken from the fields of each recipe's ``Config``."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.values import boolean, number, whole

__all__ = ["add_config_flags", "add_flags", "config_of", "recipe_names"]

_RECIPES = "sfumato.recipes"


def recipe_names() -> list[str]:
    """The modules in the folder ``sfumato/recipes``."""
    folder = Path(__file__).parents[1] / "recipes"
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def add_flags(parser: Parser) -> None:
    """One command for each recipe; its module is imported when it is chosen."""
    recipes = parser.add_subparsers(metavar="NAME", dest="recipe", required=True, parser_class=Parser)
    for name in recipe_names():
        recipes.add_parser(name, fill=_filler(name), help=f"the recipe {_RECIPES}.{name}")


def _filler(name: str) -> Callable[[Parser], None]:
    def fill(parser: Parser) -> None:
        module = import_module(f"{_RECIPES}.{name}")
        parser.description = (module.__doc__ or "").partition("\n\n")[0]
        add_config_flags(parser, module.Config)
        parser.add_argument("--debug", action="store_true", help="show tracebacks and all warnings")

        def run(options: argparse.Namespace) -> int:
            module.main(config_of(module.Config, options))
            return 0

        parser.set_defaults(run=run)

    return fill


def add_config_flags(parser: Parser, config: type[Any]) -> None:
    """One flag ``--field_name`` for each field of a dataclass.

    Args:
        parser: gets the flags.
        config: a dataclass; its fields are int, float, str, bool, Path, Literal, tuples of these, or one of these or
            None. A field's metadata {"help": text} is the help of its flag.

    Raises:
        TypeError: a field of another type.
    """
    hints = get_type_hints(config)
    for field in dataclasses.fields(config):
        if not field.init:
            continue
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        parser.add_argument(
            f"--{field.name}",
            default=argparse.SUPPRESS,
            required=required,
            metavar=_metavar(hints[field.name]),
            help=_help(field, required),
            **_reading(hints[field.name], field.name),
        )


def config_of(config: type[Any], options: argparse.Namespace) -> Any:
    """The dataclass with the flags that were given, and its own defaults for the rest.

    Raises:
        UsageError: a value that the dataclass refuses.
    """
    given = vars(options)
    names = [field.name for field in dataclasses.fields(config) if field.init and field.name in given]
    several = [name for name in names if isinstance(given[name], list)]
    try:
        return config(**{name: tuple(given[name]) if name in several else given[name] for name in names})
    except ValueError as error:
        raise UsageError(str(error)) from error


def _reading(kind: Any, name: str) -> dict[str, Any]:
    """How argparse reads a value of a type."""
    kind = _without_none(kind)
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind), "type": type(get_args(kind)[0])}
    if get_origin(kind) is tuple:
        inner = [part for part in get_args(kind) if part is not Ellipsis]
        return {**_reading(inner[0], name), "nargs": "+" if Ellipsis in get_args(kind) else len(inner)}
    if kind is bool:
        return {"type": boolean, "nargs": "?", "const": True}
    types: dict[Any, Any] = {int: whole(), float: number(), str: str, Path: Path}
    if kind not in types:
        raise TypeError(f"the field {name} has the type {kind}, for which there is no flag")
    return {"type": types[kind]}


def _without_none(kind: Any) -> Any:
    if get_origin(kind) not in (Union, UnionType):
        return kind
    kinds = [part for part in get_args(kind) if part is not NoneType]
    return kinds[0] if len(kinds) == 1 else kind


def _metavar(kind: Any) -> str | None:
    kind = _without_none(kind)
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    names: dict[Any, str] = {int: "N", float: "X", str: "TEXT", Path: "PATH", bool: "true|false"}
    return names.get(kind)


def _help(field: dataclasses.Field[Any], required: bool) -> str:
    text = str(field.metadata.get("help", "")).replace("%", "%%")
    if required or field.default in (dataclasses.MISSING, None, ""):
        return text
    default = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else str(field.default)
    return f"{text} ({default.replace('%', '%%')})".strip()
