"""A machine with fonts of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib import font_manager

from reporting import drawing, plots


@pytest.fixture
def fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is the only one with fonts of the machine; empty."""
    folder, known = tmp_path / "fonts", list(font_manager.fontManager.ttflist)
    folder.mkdir()
    monkeypatch.setattr(drawing, "FONT_FOLDERS", (str(folder),))
    caches = (drawing._system_fonts, drawing._characters, drawing._font_with, drawing.text_mask)
    for cache in (*caches, plots._register):
        cache.cache_clear()
    yield folder
    font_manager.fontManager.ttflist[:] = known
    for cache in (*caches, plots._register):
        cache.cache_clear()
