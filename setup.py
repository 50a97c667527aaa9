"""Build the wheel: the packages and programs of this repository, nested below `ymir_yolov5`.

Folders called `data`, `models` or `utils` would take these names from every other program, so the
wheel has them below one name, and their imports of each other are rewritten on the way.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

NAME = "ymir_yolov5"
FACE = Path(f"{NAME}.py")
"""Becomes `__init__.py`."""
PROGRAMS = ("start", "train", "val", "detect", "mine", "export", "evolve")
PACKAGES = (
    *("api", "cli", "data", "evaluation", "exporting", "inference", "mining", "models", "ops"),
    *("reporting", "settings", "tasks", "training", "utils", "ymir"),
)
ROOT = Path(__file__).resolve().parent


def nested(source: str, where: str) -> str:
    """Return the text of a module with its imports of our modules below `ymir_yolov5`."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            ours = [a.name for a in node.names if a.name.split(".")[0] in (*PACKAGES, *PROGRAMS)]
            if ours:
                raise ValueError(f"{where}:{node.lineno}: write `from ... import` for {ours[0]}")
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            if module.split(".")[0] in (*PACKAGES, *PROGRAMS):
                at = node.lineno - 1
                lines[at] = lines[at].replace(f"from {module} ", f"from {NAME}.{module} ", 1)
    return "".join(lines)


class BuildNested(build_py):  # type: ignore[misc]
    """Copies the packages below `ymir_yolov5`."""

    data_files: tuple[()] = ()

    def run(self) -> None:
        """Write everything into the folder that the wheel is made of."""
        target = Path(self.build_lib) / NAME
        shutil.rmtree(target, ignore_errors=True)
        for path in _sources():
            place = target / _place(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".py":
                text = nested((ROOT / path).read_text(encoding="utf-8"), str(path))
                place.write_text(text, encoding="utf-8")
            else:
                shutil.copyfile(ROOT / path, place)

    def get_source_files(self) -> list[str]:
        """Return what a source archive needs beside the metadata."""
        return [str(path) for path in _sources()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return what `run` writes."""
        target = Path(self.build_lib) / NAME
        return [str(target / _place(path)) for path in _sources()]


def _sources() -> Iterator[Path]:
    """Yield every file of the programs and packages, relative to the root."""
    yield FACE
    yield from (Path(f"{name}.py") for name in PROGRAMS)
    for name in (*PACKAGES, "configs"):
        for path in sorted((ROOT / name).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                yield path.relative_to(ROOT)


def _place(source: Path) -> Path:
    return Path("__init__.py") if source == FACE else source


if __name__ == "__main__":
    setup(packages=[NAME], cmdclass={"build_py": BuildNested})
