"""The page docs/tree.md: every module with the one idea that its first line states.

python -m tools.tree_page
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "tree.md"
FOLDERS = {
    ".": "Programs, in the order in which they are best read",
    "models": "The network",
    "utils": "Rooms that everyone may use",
    "mining": "Which images to label next",
    "exporting": "The network for other programs",
    "engines": "The network computed by other programs than torch",
    "tools": "Work outside the platform",
    "bench": "Speed, accuracy and endurance, measured",
    "docker/live_code": "What an image starts a live-code task with",
    "template": "A live-code repository of your own",
}
"""Folders with modules, and what they are for."""
PROGRAMS = ("start", "tasks", "train", "val", "infer", "export", "evolve")


def first_line(path: Path) -> str:
    """The first line of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".")


def modules(folder: str) -> list[Path]:
    """The modules of a folder, the programs in reading order and all others by name."""
    found = [p for p in (ROOT / folder).glob("*.py") if p.name != "__init__.py"]
    if folder == ".":
        found.sort(key=lambda path: (*PROGRAMS, path.stem).index(path.stem))
    else:
        found.sort()
    return found


def page() -> str:
    """The whole page."""
    lines = [
        "# The tree",
        "",
        "Written by `python -m tools.tree_page` from the first lines of the modules; a test keeps",
        "it true. Tests mirror the tree in `tests/`.",
    ]
    for folder, purpose in FOLDERS.items():
        title = "The root" if folder == "." else f"`{folder}/`"
        lines += ["", f"## {title}", "", f"{purpose}.", "", "| module | |", "|---|---|"]
        for path in modules(folder):
            place = path.relative_to(ROOT).as_posix()
            told = first_line(path).replace("|", "\\|")
            lines.append(f"| [{path.name}](../{place}) | {told} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
