"""Check the dependencies between packages: a package imports only those that `ALLOWED` lists."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = {
    "utils": set(),
    "ops": {"utils"},
    "settings": {"utils"},
    "models": {"ops", "utils"},
    "data": {"ops", "utils"},
    "ymir": {"settings", "data", "utils"},
    "exporting": {"models", "ops", "settings", "utils"},
    "inference": {"data", "models", "ops", "exporting", "settings", "utils"},
    "evaluation": {"inference", "data", "models", "ops", "utils"},
    "reporting": {"evaluation", "inference", "data", "models", "ops", "settings", "utils"},
}
ALLOWED: dict[str, set[str]] = {
    **LIBRARY,
    "training": set(LIBRARY) - {"ymir"},
    "mining": {"inference", "data", "models", "ops", "reporting", "settings", "utils"},
    "cli": {"settings", "data", "exporting", "ops", "utils"},
    "tasks": {*LIBRARY, "training", "mining", "cli"},
    "api": {*LIBRARY, "mining", "cli"} - {"ymir", "exporting"},
}
"""The packages that each package may import, itself aside."""

PROGRAMS = ("start", "train", "val", "detect", "mine", "export", "evolve")
"""Command lines at the root; they may import every package, and no package imports them."""

MODULES_ALLOWED = {"ymir": {"data.index_file"}, "cli": {"exporting.options"}}
"""Where a package is open to another one in part only: these modules of it."""

FACES = {"utils/ymir_yolov5.py", "utils/dataloaders.py"}
"""Names that users' documents give; they re-export what lives in `ymir` and `data`."""

NO_TORCH = ("ymir.task", "ymir.monitor", "ymir.results", "settings.parse", "data.read_dataset")
"""Modules that start without torch: the bridge to YMIR, settings and annotations."""

MOST_MODULES = 20
"""Modules in one folder at most."""


def modules() -> dict[str, Path]:
    """Return every module of the packages and programs by dotted name."""
    paths = [path for package in ALLOWED for path in sorted((ROOT / package).rglob("*.py"))]
    paths += [ROOT / f"{name}.py" for name in PROGRAMS]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in paths
        if path.name != "__init__.py"
    }


def imports_of(path: Path) -> set[str]:
    """Return the dotted names that a file imports, deferred imports included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


MODULES = modules()


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_is_allowed(package: str) -> None:
    wrong = []
    for name, path in MODULES.items():
        if name.split(".")[0] != package or str(path.relative_to(ROOT)) in FACES:
            continue
        for other in sorted(imports_of(path) & set(MODULES)):
            target = other.split(".")[0]
            parts = MODULES_ALLOWED.get(package, set())
            in_part = target in {part.split(".")[0] for part in parts}
            allowed = other in parts if in_part else target in {package, *ALLOWED[package]}
            if not allowed:
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles() -> None:
    graph = {name: imports_of(path) & set(MODULES) for name, path in MODULES.items()}
    finished: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in finished:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            finished.add(name)

    for name in graph:
        visit(name, ())


def test_imports_stand_at_the_top() -> None:
    deferred = [
        f"{name}:{inner.lineno}"
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert not deferred


@pytest.mark.parametrize("name", NO_TORCH)
def test_the_bridge_runs_without_torch(name: str) -> None:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        seen.add(current)
        found = imports_of(MODULES[current])
        assert not any(other.split(".")[0] == "torch" for other in found), current
        waiting += [other for other in found & set(MODULES) if other not in seen]


@pytest.mark.parametrize("package", [*ALLOWED, "bench", "tools"])
def test_no_folder_has_too_many_modules(package: str) -> None:
    for folder in {path.parent for path in (ROOT / package).rglob("*.py")}:
        names = [path for path in folder.glob("*.py") if not path.name.startswith("__")]
        assert len(names) <= MOST_MODULES, f"{folder.relative_to(ROOT)}: {len(names)} modules"


@pytest.mark.parametrize("name", sorted(FACES))
def test_a_face_only_re_exports(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) < 40
    nodes = ast.parse(text).body
    assert all(isinstance(node, ast.ImportFrom | ast.Assign | ast.Expr) for node in nodes)
