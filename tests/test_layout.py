"""The package keeps its shape: who imports whom, how long things are, what each module offers."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from tests.source import Function, Module, modules, public

LONGEST_FILE = 300
LONGEST_FUNCTION = 50
"""Lines of code; a docstring does not count, since it shall say all that is to be said."""

MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "attention": {"core", "encoders"},
    "guidance": {"core"},
    "networks": {"core"},
    "encoders": {"core"},
    "samplers": {"core"},
    "world": {"core"},
    "language": set(),
    "retrieval": {"core", "encoders", "world", "durable"},
    "checkpoints": {"core", "networks", "encoders", "samplers", "durable"},
    "train": {"core", "networks", "encoders", "samplers", "checkpoints", "world", "retrieval", "durable"},
    "evaluate": {"core", "encoders", "world", "retrieval", "machine", "durable"},
    "analysis": {"core", "retrieval"},
    "flows": {
        *("core", "attention", "guidance", "networks", "encoders", "samplers"),
        *("retrieval", "checkpoints", "evaluate", "world", "language"),
    },
    "durable": set(),
    "machine": set(),
    "png_text": set(),
    "a1111": set(),
    "fields": set(),
    "given": {"fields"},
    "from_memory": {"fields", "given"},
    "recipe": {"fields", "from_memory", "given"},
    "metadata": {"a1111", "fields", "from_memory", "given", "recipe", "png_text"},
    "__main__": {"cli"},
}
MAY_IMPORT["recipes"] = {*MAY_IMPORT} - {"__main__"} | {"flows"}
MAY_IMPORT["cli"] = {*MAY_IMPORT} - {"__main__"} | {"recipes"}
"""core <- the middle <- flows <- recipes, cli; in the middle, only what is listed."""

HOME: dict[str, set[str]] = {
    "faiss": {"retrieval"},
    "pyarrow": {"retrieval"},
    "ray": {"retrieval"},
    "peft": {"train"},
    "accelerate": {"train", "checkpoints/weights.py"},
    "transformers": {"encoders", "checkpoints", "train", "recipes"},
    "diffusers": {"networks", "samplers", "checkpoints", "train", "recipes"},
    "scipy": {"evaluate"},
    "tensorboard": {"train"},
    "spacy": {"language"},
    "stanza": {"language"},
    "benepar": {"language"},
}
"""Heavy libraries, and the folders or files that may import them."""

CORE_LIBRARIES = {"torch"}
EDGE_LIBRARIES = {"core/image.py": {"numpy", "PIL"}, "core/sheet.py": {"PIL"}}
"""core knows torch; pictures come in at one file and go out on sheets at another."""


def test_import_direction() -> None:
    wrong = [
        f"{module.at(node)} imports sfumato.{target}"
        for module in modules()
        if module.name != "__init__.py"
        for node, target in _own_imports(module)
        if target != module.place and target not in MAY_IMPORT[module.place]
    ]
    assert not wrong, "\n".join(wrong)


def test_every_package_has_a_place_in_the_order() -> None:
    assert {module.place for module in modules()} <= {*MAY_IMPORT, "__init__"}


def test_core_imports_torch_only() -> None:
    wrong = [
        f"{module.at(node)} imports {library}"
        for module in modules()
        if module.place == "core"
        for node, library in _libraries(module)
        if library not in CORE_LIBRARIES | EDGE_LIBRARIES.get(module.name, set())
    ]
    assert not wrong, "\n".join(wrong)


def test_heavy_libraries_stay_in_their_folders() -> None:
    wrong = [
        f"{module.at(node)} imports {library}"
        for module in modules()
        for node, library in _libraries(module)
        if library in HOME and not {module.place, module.name} & HOME[library]
    ]
    assert not wrong, "\n".join(wrong)


def test_packages_say_what_they_are_and_nothing_else() -> None:
    wrong = [
        module.name
        for module in modules()
        if module.path.name == "__init__.py"
        and module.place != "__init__"
        and not (module.docstring and len(module.tree.body) == 1)
    ]
    assert not wrong, f"a package's __init__ is a docstring only: {wrong}"


def test_files_are_short() -> None:
    long = [f"src/sfumato/{m.name}: {m.lines} lines" for m in modules() if m.lines > LONGEST_FILE]
    assert not long, "\n".join(long)


def test_functions_are_short() -> None:
    long = [
        f"{module.at(function)}: {_length(function)} lines"
        for module in modules()
        for function in module.functions
        if _length(function) > LONGEST_FUNCTION
    ]
    assert not long, "\n".join(long)


def test_modules_list_what_they_offer() -> None:
    wrong = [m.name for m in modules() if m.path.name != "__init__.py" and _offered(m) is None]
    assert not wrong, f"without __all__: {wrong}"


def test_what_is_offered_is_there_and_public() -> None:
    for module in modules():
        offered = _offered(module) or []
        assert len(offered) == len(set(offered)), module.name
        private = [name for name in offered if name.startswith("_") and name != "__version__"]
        assert not private, f"{module.name} offers {private}"
        missing = set(offered) - set(_defined(module))
        assert not missing, f"{module.name} offers {missing} and defines no such name"


def test_public_things_have_docstrings() -> None:
    wrong = [str(each) for each in public() if not each.docstring]
    wrong += [f"src/sfumato/{module.name}" for module in modules() if not module.docstring]
    assert not wrong, "without a docstring:\n" + "\n".join(wrong)


def _own_imports(module: Module) -> Iterator[tuple[ast.stmt, str]]:
    """Each import of our own, with the package that it leads to; the facade itself leads nowhere."""
    for node, name in _imports(module):
        first, *rest = name.split(".")
        if first != "sfumato":
            continue
        if rest:
            yield node, rest[0]
        elif isinstance(node, ast.ImportFrom):
            yield from ((node, alias.name) for alias in node.names if alias.name in MAY_IMPORT)


def _libraries(module: Module) -> Iterator[tuple[ast.stmt, str]]:
    """Each import of a library that is neither ours nor Python's, by its first name."""
    for node, name in _imports(module):
        first = name.split(".")[0]
        if first != "sfumato" and first not in sys.stdlib_module_names:
            yield node, first


def _imports(module: Module) -> Iterator[tuple[ast.stmt, str]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module.at(node)} imports relatively"
            yield node, node.module


def _length(function: Function) -> int:
    assert function.end_lineno is not None
    first, *_ = function.body
    documented = ast.get_docstring(function) is not None
    docstring = first.end_lineno - first.lineno + 1 if documented and first.end_lineno else 0
    return function.end_lineno - function.lineno + 1 - docstring


def _offered(module: Module) -> list[str] | None:
    for node in module.tree.body:
        match node:
            case ast.Assign(targets=[ast.Name("__all__")], value=value):
                return list(ast.literal_eval(value))
            case ast.AnnAssign(target=ast.Name("__all__"), value=ast.expr() as value):
                return list(ast.literal_eval(value))
            case _:
                pass
    return None


def _defined(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        match node:
            case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in node.names)
            case ast.Name(ctx=ast.Store()):
                yield node.id
            case _:
                pass
