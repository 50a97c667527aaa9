from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import TINY_TRAINING
from tests.utils.page_reader import read_page_file
from tools import demo
from tools.draw_dataset import draw_dataset


@pytest.mark.slow
def test_the_demo_runs_both_tasks_and_shows_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "demo"
    draw_dataset(data, images=24, size_wh=(160, 120), seed=2)
    settings = [f"--set={key}={value}" for key, value in {**TINY_TRAINING, "epochs": 1}.items()]
    assert demo.main(["--data", str(data), "--out", str(out), *settings]) == 0
    told = capfd.readouterr().out
    assert "mAP50, validation split" in told
    assert told.count("valid") >= 2
    page = read_page_file(out / "index.html")
    assert len(page.images) == 7
    assert "Label these first (above), these last (below)" in page.text
    for picture in ("ranking.jpg", "validation.jpg", "results.png", "pr_curve.png"):
        assert list(out.rglob(picture))
