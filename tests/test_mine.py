"""The command that ranks images: its file, its settings, its refusals."""

from __future__ import annotations

import subprocess
import sys
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


@pytest.mark.parametrize(
    ("algorithm", "more", "pages"),
    [
        ("entropy", "--empty-images first", {"report.html", "first.jpg", "last.jpg"}),
        ("entropy", "--noplots", set()),
        ("entropy", "plots=false", set()),
        ("random", "", set()),
    ],
)
def test_a_run_folder_unless_a_file_is_named(
    words: list[str],
    algorithm: str,
    more: str,
    pages: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = ["--img", "96", "--conf-thres", "0.0001", "--algorithm", algorithm, *more.split()]
    mine.main([*words, *own])
    folder = Path("runs/mine/exp")
    assert {path.name for path in folder.iterdir()} == {"result.tsv", *pages}
    assert len((folder / "result.tsv").read_bytes().splitlines()) == 2
    said = capsys.readouterr().out
    assert f"2 images scored by {algorithm}: {folder}/result.tsv" in said
    assert (f"report: {folder}/report.html" in said) == bool(pages)
    assert "python train.py --weights " in said


def test_the_file_of_cald_is_a_program_too(words: list[str]) -> None:
    program = Path(mine.__file__).with_name("mining") / "mining_cald.py"
    command = [sys.executable, str(program), *words, "--imgsz", "96", "--output", "one.tsv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 images scored by cald: one.tsv" in done.stdout
    assert len(Path("one.tsv").read_bytes().splitlines()) == 2
    assert not Path("runs").exists()


def test_what_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TaskError, match="seeds is no setting here"):
        mine.main([*words, "seeds=1"])
    with pytest.raises(SystemExit):
        mine.main([*words, "seed"])
    assert "settings are written KEY=VALUE" in capsys.readouterr().err
