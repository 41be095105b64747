"""Docstrings say what a reader needs: shapes of tensors, what is raised, the paper, forwards per step."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.source import Function, Module, Public, modules, public

SHAPE = re.compile(r"\((?:|[\w./ *+-]+,(?:[\w./ *+-]+,?)*)\)|\bshapes?\b|\bscalars?\b")
"""A list of sizes in parentheses, such as (B, 3, H, W), (B, ...), (B,) or (); or the word itself."""

TENSORS = re.compile(r"\b(?:Tensor|NDArray|Rgba|Floats)\b")
RAISES = re.compile(r"^Raises:$|^ *raises? ", re.MULTILINE | re.IGNORECASE)
METHODS = ("attention", "guidance", "flows")
_NO_PAPER = {"flows/evaluate_model.py", "flows/start_file.py"}
_OF_PROTOCOLS = {
    "AttributeError",
    "NotImplementedError",
    "StopIteration",
    "SystemExit",
    "UsageError",
    "ArgumentTypeError",
}
"""What Python, argparse and the command line (every command of it may refuse its arguments) ask for."""


def test_shapes_are_recognised() -> None:
    for text in ("(B, 3, H, W)", "(B, ...)", "(B,)", "x () or one an image", "x's shape", "(B, H / 8, W / 8)"):
        assert SHAPE.search(text), text
    for text in ("the images", "(see below)", "f(x)", "(Song et al.)"):
        assert not SHAPE.search(text), text


def test_tensors_have_shapes() -> None:
    wrong = [str(each) for each in public() if _has_tensors(each) and not SHAPE.search(_documentation(each))]
    assert not wrong, "takes, holds or returns tensors, and its docstring gives no shape:\n" + "\n".join(wrong)


def test_errors_are_documented() -> None:
    wrong = [f"{each}: {', '.join(kinds)}" for each in public() if (kinds := _undocumented_errors(each))]
    assert not wrong, "raises, and no docstring of it has a Raises section:\n" + "\n".join(wrong)


@pytest.mark.parametrize("module", [m for m in modules() if m.place in METHODS], ids=lambda module: module.name)
def test_methods_name_their_paper_and_their_cost(module: Module) -> None:
    if module.path.name == "__init__.py" or module.name in _NO_PAPER:
        pytest.skip("no method")
    text = _all_docstrings(module)
    assert re.search(r"^ *Papers?: \S", text, re.MULTILINE), f"{module.name} names no paper"
    assert re.search(r"^ *Forwards per (?:step|call): ", text, re.MULTILINE), (
        f"{module.name} does not say what it costs"
    )


def test_papers_can_be_found() -> None:
    pattern = re.compile(r"^ *Papers?:((?:.|\n(?! *\n| *[A-Z][\w ]*:))*)", re.MULTILINE)
    wrong = [
        f"src/sfumato/{module.name}: {' '.join(paper.split())}"
        for module in modules()
        for paper in pattern.findall(_all_docstrings(module))
        if not re.search(r"\b(?:19|20)\d\d\b", paper)
    ]
    assert not wrong, "a paper without a year:\n" + "\n".join(wrong)


def test_steps_say_what_they_cost() -> None:
    steps = [each for each in public() if isinstance(each.node, ast.ClassDef) and _is_step(each.node)]
    assert len(steps) >= 6
    wrong = [str(step) for step in steps if "Forwards per step: " not in step.docstring]
    assert not wrong, "\n".join(wrong)


def _documentation(each: Public) -> str:
    """Its docstring; for ``__call__``, whose class says what it is configured with, that of the class too."""
    owner = ast.get_docstring(each.owner) if each.owner is not None and each.node.name == "__call__" else None
    return f"{each.docstring}\n{owner or ''}"


def _has_tensors(each: Public) -> bool:
    """Whether a function's arguments or result, or a dataclass's fields, are tensors or arrays."""
    if isinstance(each.node, ast.ClassDef):
        fields = [field for field in each.node.body if isinstance(field, ast.AnnAssign)]
        annotations = [field.annotation for field in fields if not ast.unparse(field.target).startswith("_")]
        return _is_dataclass(each.node) and any(_names_tensors(annotation) for annotation in annotations)
    arguments = each.node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return any(_names_tensors(one) for one in (*(argument.annotation for argument in every), each.node.returns))


def _names_tensors(annotation: ast.expr | None) -> bool:
    """Whether a value is a tensor, or a collection of some; functions of tensors do not count."""
    text = ast.unparse(annotation) if annotation is not None else ""
    return bool(TENSORS.search(text)) and "Callable" not in text


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _undocumented_errors(each: Public) -> list[str]:
    """Kinds of errors that it raises by itself or by private helpers of its file, if no docstring has "Raises:".

    ``__init__`` and ``__post_init__`` belong to the docstring of their class. An error that is caught where it is
    raised is none.
    """
    bodies: list[ast.AST] = [each.node]
    if isinstance(each.node, ast.ClassDef):
        made_by = ("__init__", "__post_init__", "__new__")
        bodies = [method for method in each.node.body if isinstance(method, Function) and method.name in made_by]
    kinds = {kind for body in bodies for kind in _raised(body, _helpers(each.module), frozenset())}
    kinds -= _OF_PROTOCOLS
    return [] if RAISES.search(_documentation(each)) else sorted(kinds)


def _helpers(module: Module) -> dict[str, Function]:
    """The private functions of a file."""
    return {node.name: node for node in module.tree.body if isinstance(node, Function) and node.name.startswith("_")}


def _raised(body: ast.AST, helpers: dict[str, Function], seen: frozenset[str]) -> Iterator[str]:
    """The errors that a piece of code lets out."""
    for node in ast.iter_child_nodes(body):
        match node:
            case ast.Raise(exc=ast.Call(func=ast.Name(name)) | ast.Name(name)):
                yield _made(name, helpers)
            case ast.Try(handlers=[_, *_]):
                for part in (*node.handlers, *node.orelse, *node.finalbody):
                    yield from _raised(part, helpers, seen)
            case ast.FunctionDef() | ast.Lambda() | ast.AsyncFunctionDef() | ast.ClassDef():
                pass
            case ast.Call(func=ast.Name(name)) if name in helpers and name not in seen:
                yield from _raised(helpers[name], helpers, seen | {name})
                yield from _raised(node, helpers, seen)
            case _:
                yield from _raised(node, helpers, seen)


def _made(name: str, helpers: dict[str, Function]) -> str:
    """The class of an error; where a helper makes it, what the helper returns."""
    returns = helpers[name].returns if name in helpers else None
    return ast.unparse(returns) if returns is not None else name


def _is_step(node: ast.ClassDef) -> bool:
    call = next((m for m in node.body if isinstance(m, Function) and m.name == "__call__"), None)
    return call is not None and [argument.arg for argument in call.args.args][1:] == [
        *("denoise", "x", "level", "next_level", "state", "noise")
    ]


def _all_docstrings(module: Module) -> str:
    nodes = [node for node in ast.walk(module.tree) if isinstance(node, ast.Module | ast.ClassDef | Function)]
    return "\n\n".join(filter(None, (ast.get_docstring(node) for node in nodes)))
