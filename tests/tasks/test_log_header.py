"""The head of a log names the code, the machine and what was set."""

from __future__ import annotations

from pathlib import Path

import torch

from settings.detect import InferSettings, MiningSettings
from settings.train import TrainSettings
from tasks.log_header import header, settings_line
from tasks.version import VERSION


def test_version_commit_device_and_torch(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("a1" * 20)
    line = header("t7", "CPU (2 threads)", repository=tmp_path)
    assert line.startswith(f"task t7 on CPU (2 threads): ymir-yolov5 {VERSION}")
    assert " (commit a1a1a1a1a1a1), " in line
    assert f"torch {torch.__version__}" in line
    assert "commit" not in header("t7", "CPU", repository=tmp_path / "elsewhere")


def test_only_what_differs_is_told() -> None:
    assert settings_line("training", TrainSettings()) == ["training settings: all as by default"]
    assert settings_line("training", TrainSettings(epochs=3, freeze=(0, 1))) == [
        "training settings: epochs 3, freeze 0 1"
    ]
    assert settings_line("infer", InferSettings(classes=("cat",))) == [
        "infer settings: classes cat"
    ]
    assert settings_line("mining", MiningSettings(views=("flip",))) == [
        "mining settings: views flip"
    ]
    assert settings_line("mining", None) == []
