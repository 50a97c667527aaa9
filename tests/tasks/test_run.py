"""What a training task starts with: its weights, and the number of its processes."""

from __future__ import annotations

import types
from pathlib import Path

import pytest
import torch

from settings.train import TrainSettings
from tasks import run as tasks
from tasks import training

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

    monkeypatch.setattr(training, "download_weights", fetch)
    task = types.SimpleNamespace(
        weights=tuple(map(Path, given)),
        train=TrainSettings(model="yolov5n", weights_sha256=DIGEST, **settings),
        out=types.SimpleNamespace(root=Path("out")),
    )
    assert training.starting_weights(task) == (Path(expected) if expected else None)


@pytest.mark.parametrize(
    ("granted", "settings", "expected", "words"),
    [
        pytest.param([], {}, 1, "", id="the CPU"),
        pytest.param([0], {}, 1, "", id="one GPU"),
        pytest.param([0, 1], {}, 2, "", id="two"),
        pytest.param([0, 1, 2, 3], {}, 4, "", id="four"),
        pytest.param([0, 0, 1], {}, 2, "", id="one is named twice"),
        pytest.param([0, 8], {}, 1, "", id="one is not there"),
        pytest.param([0, 1, 2], {}, 2, "cannot be shared by 3 GPUs: training on 2", id="16 by 3"),
        pytest.param([0, 1], {"batch_size": 7}, 1, "training on 1", id="7 by 2"),
        pytest.param([0, 1], {"batch_size": -1}, 1, "train on one GPU", id="automatic batch size"),
        pytest.param([0, 1], {"image_weights": True}, 1, "train on one GPU", id="image weights"),
    ],
)
def test_a_training_has_a_process_for_each_gpu_that_can_share_a_batch(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    granted: list[int],
    settings: dict[str, object],
    expected: int,
    words: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    train = TrainSettings(**{"batch_size": 16, **settings})
    task = types.SimpleNamespace(train=train, gpu_ids=granted)
    assert tasks.processes_for(task) == expected
    assert words in caplog.text
    assert bool(caplog.text) == bool(words)


@pytest.mark.parametrize(
    ("granted", "shared", "expected"),
    [
        pytest.param([], True, 1, id="the CPU"),
        pytest.param([2], True, 1, id="one GPU"),
        pytest.param([0, 1, 2], True, 3, id="three"),
        pytest.param([0, 8], True, 1, id="one is not there"),
        pytest.param([0, 1], False, 1, id="cannot be shared"),
    ],
)
def test_a_mining_has_a_process_for_each_gpu_if_it_can_be_shared(
    monkeypatch: pytest.MonkeyPatch, granted: list[int], shared: bool, expected: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(tasks, "can_be_shared", lambda task, gpus: shared)
    task = types.SimpleNamespace(train=None, gpu_ids=granted)
    assert tasks.processes_for(task) == expected


@pytest.mark.parametrize(
    ("kinds", "network", "expected", "words"),
    [
        pytest.param("aaa", True, True, "", id="alike"),
        pytest.param("aba", True, False, "the GPUs differ (a, b)", id="two kinds"),
        pytest.param("ab", False, True, "", id="no network is needed"),
    ],
)
def test_gpus_of_one_kind_can_share_a_mining(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kinds: str,
    network: bool,
    expected: bool,
    words: str,
) -> None:
    monkeypatch.setattr(tasks, "describe", lambda gpu: kinds[gpu.index])
    task = types.SimpleNamespace(needs_network=network)
    assert tasks.can_be_shared(task, range(len(kinds))) == expected
    assert words in caplog.text
    assert bool(caplog.text) == bool(words)
