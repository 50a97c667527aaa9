"""The commands of docs/windows.md, without what Python lacks on Windows; none runs on Windows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).with_name("windows_example.py")


@pytest.mark.slow
def test_tasks_need_nothing_that_windows_lacks(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(EXAMPLE), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "images were copied: no link can be made here" in ended.stdout + ended.stderr
    images = [path for path in (tmp_path / "task" / "in" / "assets").rglob("*") if path.is_file()]
    assert images
    assert not any(path.is_symlink() for path in images)
