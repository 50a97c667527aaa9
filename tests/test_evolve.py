"""The command evolve.py: its usage, and a search with real trainings."""

from __future__ import annotations

from pathlib import Path

import pytest

import evolve
from utils.errors import TaskError


def test_the_usage_names_this_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evolve.main([])
    assert capsys.readouterr().err.startswith("usage: evolve.py ")


def test_no_trials_are_refused() -> None:
    with pytest.raises(TaskError, match="--trials is 0"):
        evolve.main(["--trials", "0", "--data", "data.yaml"])


@pytest.mark.slow
def test_a_search_with_trainings_is_resumed(
    data_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    words = f"--data {data_yaml} --cfg yolov5n --img 64 --batch-size 8 --epochs 1 --device cpu"
    words += f" --project {tmp_path} --name exp --exist-ok"
    for trials in (1, 2):
        evolve.main([f"--trials={trials}", *words.split(), "workers=0"])
    shown = capsys.readouterr().out
    assert "best of 2 trials" in shown
    assert shown.count("trial 0 (1 of 1): fitness ") == shown.count("trial 1 (2 of 2): ") == 1
    assert "epoch 1/1" not in shown
    assert f"python train.py --hyp {tmp_path}/exp/hyp_evolve.yaml --data {data_yaml}" in shown
    assert len((tmp_path / "exp/evolve.csv").read_text().splitlines()) == 3
    assert (tmp_path / "exp/hyp_evolve.yaml").is_file()
    assert sorted(p.name for p in (tmp_path / "exp/trials").iterdir()) == ["0000", "0001"]
    assert not list((tmp_path / "exp").rglob("*.pt"))
