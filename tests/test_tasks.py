"""Where the weights of a training come from: the task, a download it asks for, or nowhere."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

import tasks
from utils.config import TrainSettings

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("given", "settings", "expected"),
    [
        pytest.param(["best.pt", "last.pt"], {}, "best.pt", id="handed in"),
        pytest.param([], {}, None, id="nothing"),
        pytest.param(["best.pt"], {"download_weights": True}, "best.pt", id="no need to fetch"),
        pytest.param([], {"download_weights": True}, "out/weights/yolov5n.pt", id="to out"),
        pytest.param(
            [],
            {"download_weights": True, "weights_dir": "mine"},
            "mine/yolov5n.pt",
            id="to a folder",
        ),
        pytest.param([], {"download_weights": True, "weights": "Scratch"}, None, id="scratch"),
    ],
)
def test_starting_weights(
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    settings: dict[str, object],
    expected: str | None,
) -> None:
    def fetch(name: str, sha256: str, folders: list[Path]) -> Path:
        assert sha256 == DIGEST
        return folders[0] / name

    monkeypatch.setattr(tasks, "download_weights", fetch)
    task = types.SimpleNamespace(
        weights=tuple(map(Path, given)),
        train=TrainSettings(model="yolov5n", weights_sha256=DIGEST, **settings),
        out=types.SimpleNamespace(root=Path("out")),
    )
    assert tasks.starting_weights(task) == (Path(expected) if expected else None)
