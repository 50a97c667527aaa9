"""The notebook's code runs as it stands, from its first cell to its last."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.documents import ROOT

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in code), "clear the outputs before you save it"
    (tmp_path / "examples").mkdir()
    (tmp_path / "start.py").touch()
    monkeypatch.chdir(tmp_path / "examples")  # where a notebook server starts it
    monkeypatch.setattr(sys, "path", [*sys.path])
    values: dict[str, Any] = {}
    for cell in code:
        exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), values)
    assert os.listdir(tmp_path / "runs") == ["notebook"]
    assert (values["FOLDER"] / "train" / "results.csv").is_file()
    assert len(values["results"]) == 24
    ranking = capsys.readouterr().out.splitlines()[-5:]
    assert all(line.split()[1].endswith(".jpg") for line in ranking)
