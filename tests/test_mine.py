"""The command that ranks images: its file, its settings, its refusals."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import mine
from utils.errors import TaskError


@pytest.fixture
def words(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    for seed, name in enumerate((b"a.png", b"\xff.png")):
        picture = np.random.default_rng(seed).integers(0, 256, (64, 96, 3), np.uint8)
        Path("pictures", "x.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        Path("pictures", "x.png").rename(Path("pictures", name.decode(errors="surrogateescape")))
    return ["--weights", str(weights), "--source", "pictures", "--device", "cpu"]


def test_scores_are_written_best_first(words: list[str]) -> None:
    settings = ["img_size=96", "precision=float32", "conf_thres=0.0001", "seed=1"]
    mine.main([*words, "--output", "all.tsv", "--algorithm", "entropy", *settings])
    rows = [line.split(b"\t") for line in Path("all.tsv").read_bytes().splitlines()]
    assert {path for path, _ in rows} == {b"pictures/a.png", b"pictures/\xff.png"}
    assert float(rows[0][1]) > float(rows[1][1])


def test_what_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TaskError, match="seeds is no setting here"):
        mine.main([*words, "seeds=1"])
    with pytest.raises(SystemExit):
        mine.main([*words, "seed"])
    assert "settings are written KEY=VALUE" in capsys.readouterr().err
