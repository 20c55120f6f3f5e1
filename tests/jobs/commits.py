"""Where the engine commits, found in its code: so that no commit is without a fault point.

A function counts when it opens a transaction or writes rows itself, whoever calls it. Which of them
only ever write in the transaction of another is said, with the reason, in `test_fault_points.py`.
"""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import jobs
from tests.jobs.crashing import WRITES

ROOM = Path(jobs.__file__).parent
ORM_WRITES = {
    "save",
    "create",
    "bulk_create",
    "update",
    "bulk_update",
    "delete",
    "get_or_create",
    "update_or_create",
}


def find_committers() -> set[str]:
    """The functions that open a transaction or write rows, as in `steps.fail`."""
    paths = (path for path in ROOM.rglob("*.py") if "migrations" not in path.parts)
    return {name for path in paths for name in _committers_of(path)}


def _committers_of(path: Path) -> Iterator[str]:
    parts = path.relative_to(ROOM).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__init__")
    yield from find_in(path, name, import_module(f"jobs.{name}".rstrip(".")))


def find_in(path: Path, name: str, module: ModuleType) -> Iterator[str]:
    """The same of one file, whose module is called `name` here."""
    for qualified, function in _functions(ast.parse(path.read_text()), name):
        if any(_is_commit(call, module) for call in _own_calls(function)):
            yield qualified


def _functions(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            qualified = f"{name}.{child.name}"
            if not isinstance(child, ast.ClassDef):
                yield qualified, child
            yield from _functions(child, qualified)
        else:
            yield from _functions(child, name)


def _own_calls(node: ast.AST) -> Iterator[ast.Call]:
    """Those of a function, without those of functions inside it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from _own_calls(child)


def _is_commit(call: ast.Call, module: ModuleType) -> bool:
    match call.func:
        case ast.Attribute(ast.Name("transaction"), "atomic"):
            return True
        case ast.Attribute(_, attr) if attr in ORM_WRITES:
            return True
        case ast.Attribute(_, "execute" | "executemany") | ast.Name("run"):
            return _is_written_by(call.args[0], module)
    return False


def _is_written_by(statement: ast.expr, module: ModuleType) -> bool:
    match statement:
        case ast.Constant(str(text)):
            return bool(WRITES.search(text))
        case ast.Name(name) if isinstance(text := getattr(module, name, None), str):
            return bool(WRITES.search(text))
    return True  # put together at run time: somebody has to say what it does
