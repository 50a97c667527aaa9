"""Rows of docs/api.md: the members of public classes, with their signatures and docstrings."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

Row = tuple[str, str]


def member_rows(kind: type, name: str) -> list[Row]:
    """Return the call of each public member of a class, and what its docstring says.

    `name` is what an object of the class is called there.
    """
    rows = [(_call(kind.__name__, kind), _words(kind))]
    for attribute, member in vars(kind).items():
        if isinstance(member, property):
            rows.append((f"`{name}.{attribute}`", _words(member)))
        elif inspect.isfunction(member) and member.__doc__ and _is_public(attribute):
            called = name if attribute == "__call__" else f"{name}.{attribute}"
            rows.append((_call(called, member), _words(member)))
    return rows


def hub_rows(path: Path) -> list[Row]:
    """Return the entry points of a hubconf.py, which is parsed and not imported."""
    rows = list[Row]()
    official = list[str]()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            rows.append((f"`{node.name}({_arguments(node.args)})`", _flat(ast.get_docstring(node))))
        elif isinstance(node, ast.FunctionDef) and node.name == "_official":
            words = _flat(ast.get_docstring(node))
        elif isinstance(node, ast.Assign) and "_official" in ast.unparse(node.value):
            official += [ast.unparse(target) for target in node.targets]
    return [*rows, (", ".join(f"`{name}()`" for name in official), words)]


def _is_public(name: str) -> bool:
    return name == "__call__" or not name.startswith("_")


def _call(name: str, function: Callable[..., object]) -> str:
    """Return a call with the names and defaults of its arguments, without annotations."""
    signature = inspect.signature(function)
    bare = [
        one.replace(annotation=inspect.Parameter.empty)
        for one in signature.parameters.values()
        if one.name != "self"
    ]
    shown = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
    return f"`{name}{shown}`"


def _arguments(arguments: ast.arguments) -> str:
    """Return names and defaults of the arguments of a parsed function, private ones left out."""
    values: Iterator[str] = map(ast.unparse, arguments.defaults)
    pairs = [f"{one.arg}={value}" for one, value in zip(arguments.args, values, strict=True)]
    return ", ".join(pair for pair in pairs if not pair.startswith("_"))


def _words(thing: object) -> str:
    return _flat(inspect.getdoc(thing))


def _flat(text: str | None) -> str:
    """Return a docstring in one line, with pages of docs/ as links."""
    line = " ".join((text or "").split())
    return re.sub(r"docs/([\w-]+\.md)", r"[\1](\1)", line)
