"""The package's source as syntax trees, for the tests that hold it to its rules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["ROOT", "SOURCE", "Module", "Public", "modules", "public"]

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "sfumato"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, eq=False)
class Module:
    """One file.

    Args:
        path: where it is.
        tree: what it says.
        lines: number of its lines.
    """

    path: Path
    tree: ast.Module
    lines: int

    @property
    def name(self) -> str:
        """The path below the package, such as ``core/level.py``."""
        return self.path.relative_to(SOURCE).as_posix()

    @property
    def place(self) -> str:
        """The package that it is in, such as ``core``; its own name if it is in none."""
        parts = self.path.relative_to(SOURCE).parts
        return parts[0] if len(parts) > 1 else self.path.stem

    @property
    def docstring(self) -> str:
        """What it says about itself; "" for nothing."""
        return ast.get_docstring(self.tree) or ""

    @property
    def functions(self) -> Iterator[Function]:
        """All functions and methods, nested ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def at(self, node: ast.stmt, name: str = "") -> str:
        """Where a statement is, for messages: file, line and name."""
        return f"src/sfumato/{self.name}:{node.lineno} {name or getattr(node, 'name', '')}".rstrip()


@dataclass(frozen=True, eq=False)
class Public:
    """A public class, function or method; ``__call__`` counts as one.

    Args:
        module: where it is.
        node: its definition.
        owner: the class of a method; None for the others.
    """

    module: Module
    node: ast.ClassDef | Function
    owner: ast.ClassDef | None = None

    @property
    def docstring(self) -> str:
        """Its docstring; "" for none."""
        return ast.get_docstring(self.node) or ""

    def __str__(self) -> str:
        return self.module.at(self.node, f"{self.owner.name}.{self.node.name}" if self.owner else self.node.name)


@cache
def modules() -> tuple[Module, ...]:
    """Every file of the package."""
    found: list[Module] = []
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.append(Module(path, ast.parse(text), text.count("\n")))
    return tuple(found)


@cache
def public() -> tuple[Public, ...]:
    """Every public class, function and method of the package."""
    return tuple(each for module in modules() for each in _public_of(module))


def _public_of(module: Module) -> Iterator[Public]:
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield Public(module, node)
            if isinstance(node, ast.ClassDef):
                yield from (
                    Public(module, method, node)
                    for method in node.body
                    if isinstance(method, Function) and (method.name == "__call__" or not method.name.startswith("_"))
                )
