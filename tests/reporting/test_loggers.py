"""MLflow and Weights & Biases: what their files have, what is told where they are missing."""

from __future__ import annotations

import socket
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from evaluation.evaluate import no_evaluation
from reporting.callbacks import COLUMNS, EpochResult
from reporting.loggers import LOGGERS
from utils.errors import Code, TaskError

LAST = b"best/mAP_0.5:0.95"
"""What is written last: by wandb's service, which may do so after its run has finished."""
SETTINGS = {"epochs": 2, "freeze": (0, 1), "hyp": "", "plots": True}


def values(epoch: int) -> list[float]:
    return [epoch + number / 16 for number in range(len(COLUMNS) - 1)]


def log_two_epochs(name: str, folder: Path) -> None:
    evaluation = no_evaluation(2)
    with LOGGERS[name](folder, SETTINGS) as logger:
        for epoch in range(2):
            logger.on_epoch_end(EpochResult(epoch, values(epoch), evaluation, best=True))
        logger.on_train_end(1, evaluation, [])


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Addresses of the network that this process asked for."""
    asked: list[object] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            asked.append(address)
            raise OSError("no network here")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", watched)
    return asked


def test_mlflow_itself(
    tmp_path: Path, offline: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    mlflow = import_module("mlflow")
    log_two_epochs("mlflow", tmp_path / "exp")
    assert "no more curves" not in caplog.text
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/exp/mlflow/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("yolov5").experiment_id])
    assert (run.info.run_name, run.info.status) == ("exp", "FINISHED")
    assert run.data.params == {"epochs": "2", "freeze": "[0, 1]", "hyp": "''", "plots": "true"}
    for place, name in enumerate(COLUMNS[1:]):
        points = client.get_metric_history(run.info.run_id, name.replace(":", "-"))
        assert [(one.step, one.value) for one in points] == [
            (epoch + 1, values(epoch)[place]) for epoch in range(2)
        ]
    (best,) = client.get_metric_history(run.info.run_id, "best/epoch")
    assert (best.step, best.value) == (2, 2)
    assert not offline


def test_wandb_itself(
    tmp_path: Path, offline: list[object], caplog: pytest.LogCaptureFixture
) -> None:
    log_two_epochs("wandb", tmp_path / "exp")
    assert "no more curves" not in caplog.text
    (file,) = (tmp_path / "exp" / "wandb").glob("offline-run-*/run-*.wandb")
    content, end = b"", time.monotonic() + 60
    while LAST not in content and time.monotonic() < end:
        time.sleep(0.05)
        content = file.read_bytes()
    for name in (*COLUMNS[1:], "freeze", "[0, 1]"):
        assert name.encode() in content, name
    assert LAST in content
    assert not offline


@pytest.mark.parametrize(("name", "point"), [("mlflow", "log_metric"), ("wandb", "log")])
def test_epochs_count_from_1(
    name: str, point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Recorder()
    monkeypatch.setitem(sys.modules, name, package)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "sqlalchemy", package)  # type: ignore[arg-type]
    log_two_epochs(name, tmp_path / "exp")
    steps = [more["step"] for called, _, more in package.calls if called == point]
    assert list(dict.fromkeys(steps)) == [1, 2]
    told = [words for called, words, _ in package.calls if called in (point, "update")]
    summary = {words[-2]: words[-1] for words in told} if name == "mlflow" else told[-1][0]
    assert isinstance(summary, dict)
    assert summary["best/epoch"] == 2


class Recorder:
    """A module that stands in for a package: it notes what is called, and fails if told to."""

    def __init__(self, fails: str = "") -> None:
        self.calls: list[tuple[str, tuple[object, ...], dict[str, object]]] = []
        self.fails = fails

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def called(*words: object, **more: object) -> Any:
            self.calls.append((name, words, more))
            if name == self.fails:
                raise RuntimeError("its disk is full\nand more")
            return self

        return called

    info = summary = property(lambda self: self)  # type: ignore[assignment]
    run_id = experiment_id = "7"


@pytest.mark.parametrize(
    ("name", "first", "point"),
    [("mlflow", "MlflowClient", "log_metric"), ("wandb", "init", "log")],
)
def test_nothing_is_sent_and_a_failure_ends_the_curves_only(
    name: str,
    first: str,
    point: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    offline: list[object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    package = Recorder(fails=point)
    monkeypatch.setitem(sys.modules, name, package)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "sqlalchemy", package)  # type: ignore[arg-type]
    log_two_epochs(name, tmp_path / "exp")
    more = next(more for called, _, more in package.calls if called == first)
    if name == "mlflow":
        assert more["tracking_uri"] == f"sqlite:///{tmp_path}/exp/mlflow/mlflow.db"
    else:
        assert (more["mode"], more["dir"]) == ("offline", str(tmp_path / "exp"))
    assert [called for called, _, _ in package.calls].count(point) == 1
    assert caplog.messages == [f"no more curves for {name}: its disk is full"]


@pytest.mark.parametrize("name", LOGGERS)
def test_a_missing_package_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: list[object]
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    with pytest.raises(TaskError) as caught:
        LOGGERS[name](tmp_path / "exp", SETTINGS)
    assert caught.value.code is Code.CONFIG
    assert caught.value.sentence.startswith(f"the setting loggers: {name} needs the package {name}")
    assert not (tmp_path / "exp").exists()
