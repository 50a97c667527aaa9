"""The page of the tree has every module, with what the module says of itself."""

from __future__ import annotations

from tools.tree_page import FOLDERS, PAGE, ROOT, first_line, modules, page


def test_the_page_is_what_the_modules_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tools.tree_page"


def test_no_folder_with_modules_is_left_out() -> None:
    skipped = {"tests", "build", "runs", "data", "docs"}
    folders = {
        path.parent.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if path.name != "__init__.py"
        and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        and path.relative_to(ROOT).parts[0] not in skipped
    }
    assert folders == set(FOLDERS)


def test_programs_come_in_reading_order() -> None:
    names = [path.stem for path in modules(".")]
    assert names[:3] == ["start", "tasks", "train"]
    assert first_line(ROOT / "tasks.run.py").startswith("The kinds of YMIR task")
