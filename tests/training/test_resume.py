"""A training that was stopped and goes on ends exactly as one that ran through."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import start
from data.dataset_index import DatasetIndex
from models.checkpoint import load_checkpoint
from tests.conftest import ROOT, TINY_TRAINING
from tests.test_train import job as training_job
from tests.test_train import run
from tools.make_task import write_task
from tools.sources import SourceDataset
from training import loop as training
from training.checkpoints import PERIODIC_KEPT, SavedCheckpoint
from training.job import TrainingJob
from training.resume import read_run_state
from utils.errors import Code, TaskError
from ymir.results import STAGES_KEPT


@pytest.fixture(scope="module")
def splits(splits: list[DatasetIndex]) -> list[DatasetIndex]:
    """Two steps an epoch are enough here."""
    return [splits[0].subset(range(8)), splits[1].subset(range(2))]


def job(splits: list[DatasetIndex], folder: Path, **change: object) -> TrainingJob:
    return training_job(splits, folder, **{"img_size": 64, **change})


class Killed(Exception):
    """Stands for the end of the process."""


def stopped(one: TrainingJob, stage: str, epoch: int) -> None:
    """Run a training that dies as soon as it has written `stage` in `epoch`."""

    def on_saved(saved: SavedCheckpoint) -> None:
        if (saved.stage, saved.epoch) == (stage, epoch):
            raise Killed

    with pytest.raises(Killed):
        run(dataclasses.replace(one, on_saved=on_saved))


def state_of(folder: Path, stage: str = "last") -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / stage / f"{stage}.pt").state


def same_results(one: Path, other: Path) -> bool:
    return (one / "results.csv").read_text() == (other / "results.csv").read_text() and all(
        torch.equal(tensor, state_of(other, stage)[key])
        for stage in ("best", "last")
        for key, tensor in state_of(one, stage).items()
    )


CASES = [
    pytest.param({}, id="by default"),
    pytest.param({"workers": 2}, id="two workers"),
    pytest.param({"nominal_batch_size": 12}, id="gradients wait for a step"),
    pytest.param({"optimizer": "adamw", "lr0": 0.001}, id="adamw", marks=pytest.mark.slow),
    pytest.param({"freeze": "3", "momentum": 0}, id="frozen", marks=pytest.mark.slow),
    pytest.param({"schedule": "cosine", "noval": True}, id="noval", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("change", CASES)
def test_stopped_and_gone_on_equals_run_through(
    splits: list[DatasetIndex],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, object],
) -> None:
    """Stopped after two whole epochs and a part of the third, which is done once more."""
    change = {"epochs": 4, **change}
    whole, parts = (
        job(splits, tmp_path / "whole", **change),
        job(splits, tmp_path / "parts", **change),
    )
    run(whole)
    stopped(parts, "last", 2)
    state = read_run_state(parts.state_file)
    assert (state.epoch, len(state.rows)) == (1, 2)
    if "nominal_batch_size" in change:
        assert state.parts is not None
        assert state.parts["stepper"]["pending"] > 0
    torch.manual_seed(99)  # another process starts from other numbers
    with caplog.at_level(logging.INFO):
        run(parts)
    assert "going on after epoch 2 of 4" in caplog.text
    assert same_results(whole.folder, parts.folder)
    epochs = [line.split(",")[0].strip() for line in (parts.folder / "results.csv").open()]
    assert epochs == ["epoch", "0", "1", "2", "3"]


def test_random_numbers_go_on_too(
    splits: list[DatasetIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something in the loop draws from torch's global generator: the draws must be the same."""
    real, drawn = training.train_one_epoch, []

    def draw(*arguments: object) -> list[float]:
        drawn.append(float(torch.rand(())))
        return real(*arguments)

    monkeypatch.setattr(training, "train_one_epoch", draw)
    run(job(splits, tmp_path / "whole", epochs=3))
    stopped(job(splits, tmp_path / "parts", epochs=3), "last", 1)
    run(job(splits, tmp_path / "parts", epochs=3))
    assert drawn[:3] == [drawn[3], drawn[5], drawn[6]]


def test_a_complete_training_reports_its_results_again(
    splits: list[DatasetIndex],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = job(splits, tmp_path, epochs=2, save_period=1)
    first = run(one)
    told: list[SavedCheckpoint] = []
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    lines = (tmp_path / "results.csv").read_text()
    monkeypatch.setattr(training, "train_one_epoch", None)  # no step may be asked for
    with caplog.at_level(logging.INFO):
        again = run(dataclasses.replace(one, on_saved=told.append))
    assert "complete already" in caplog.text
    assert again.evaluation.scores == first.evaluation.scores
    assert again.files == first.files
    assert {saved.stage for saved in told} == {"best", "last", "epoch0", "epoch1"}
    assert told[0].stage == "best"
    assert (tmp_path / "results.csv").read_text() == lines
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")} == written
    assert one.state_file.stat().st_size < 1e6  # what only learning needs is gone


Edit = Callable[[TrainingJob], TrainingJob]


def settings(**change: object) -> Edit:
    return lambda one: dataclasses.replace(
        one, settings=dataclasses.replace(one.settings, **change)
    )


def other_data(one: TrainingJob) -> TrainingJob:
    return dataclasses.replace(one, train=one.train.subset(range(7)))


def other_boxes(one: TrainingJob) -> TrainingJob:
    return dataclasses.replace(
        one, validation=dataclasses.replace(one.validation, boxes=one.validation.boxes + 1)
    )


def damaged(one: TrainingJob) -> TrainingJob:
    one.state_file.write_bytes(one.state_file.read_bytes()[:1000])
    return one


def foreign(one: TrainingJob) -> TrainingJob:
    torch.save({"format": "of somebody else"}, one.state_file)
    return one


def without_best(one: TrainingJob) -> TrainingJob:
    (one.stage_folder("best") / "best.pt").unlink()
    return one


NOT_THIS_ONE = [
    pytest.param(settings(lr0=0.02), "lr0 was 0.01, is 0.02", id="other settings"),
    pytest.param(settings(epochs=4, seed=1), "epochs was 3, is 4; seed was 0, is 1", id="two"),
    pytest.param(other_data, "other training data", id="other images"),
    pytest.param(other_boxes, "other validation data", id="other labels"),
    pytest.param(damaged, "is not a training that this version can go on with", id="damaged"),
    pytest.param(foreign, "is not a training that this version can go on with", id="foreign"),
    pytest.param(without_best, "best or last weights are gone", id="weights gone"),
]


@pytest.fixture(scope="module")
def interrupted(splits: list[DatasetIndex], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a training of three epochs was stopped in its second."""
    folder = tmp_path_factory.mktemp("interrupted")
    stopped(job(splits, folder, epochs=3), "last", 1)
    return folder


def copy_of(folder: Path, target: Path) -> Path:
    subprocess.run(["cp", "-r", str(folder), str(target)], check=True)
    return target


@pytest.mark.parametrize(("edit", "why"), NOT_THIS_ONE)
def test_a_state_of_another_training_is_not_taken(
    splits: list[DatasetIndex],
    interrupted: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    edit: Edit,
    why: str,
) -> None:
    """By itself it starts anew and says why in one sentence; asked for by name it is refused."""
    one = edit(job(splits, copy_of(interrupted, tmp_path / "copy"), epochs=3))
    with caplog.at_level(logging.INFO):
        assert training.find_state(one) is None
    assert [r.message for r in caplog.records if "starting anew" in r.message] == [
        caplog.messages[0]
    ]
    assert why in caplog.text
    with pytest.raises(TaskError) as caught:
        training.find_state(settings(resume=str(one.state_file))(one))
    assert caught.value.code in (Code.CONFIG, Code.MODEL)
    assert why in caught.value.sentence


@pytest.mark.parametrize(
    "change",
    [
        {"workers": 1},
        {"cache": "none"},
        {"patience": 7},
        {"plots": True},
        {"save_period": 2},
        {"resume": "True"},
    ],
    ids=str,
)
def test_what_changes_nothing_learnt_may_differ(
    splits: list[DatasetIndex], interrupted: Path, change: dict[str, object]
) -> None:
    found = training.find_state(settings(**change)(job(splits, interrupted, epochs=3)))
    assert found is not None
    assert found.epoch == 0


@pytest.mark.parametrize("word", ["never", "False", "0"])
def test_never_looks_at_nothing(splits: list[DatasetIndex], interrupted: Path, word: str) -> None:
    assert training.find_state(job(splits, interrupted, epochs=3, resume=word)) is None


def test_other_starting_weights_make_another_training(
    splits: list[DatasetIndex], interrupted: Path, weights: Path
) -> None:
    one = dataclasses.replace(job(splits, interrupted, epochs=3), weights=weights)
    assert training.find_state(one) is None


@pytest.mark.parametrize("name", ["last.pt", "last.state"])
def test_a_path_goes_on_in_another_folder(
    splits: list[DatasetIndex], interrupted: Path, tmp_path: Path, name: str
) -> None:
    one = job(splits, tmp_path / "new", epochs=3, resume=str(interrupted / "last" / name))
    found = training.find_state(one)
    assert found is not None
    assert (found.epoch, len(found.rows)) == (0, 1)
    for stage, saved in zip(("best", "last"), found.stages, strict=True):
        assert saved.files == (tmp_path / "new" / stage / f"{stage}.pt",)
        assert saved.files[0].read_bytes() == (interrupted / stage / f"{stage}.pt").read_bytes()


def test_a_path_that_is_not_there_is_refused(splits: list[DatasetIndex], tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"there is no file .*last\.state; give the last\.pt"
    ) as told:
        run(job(splits, tmp_path, resume=str(tmp_path / "last.pt")))
    assert told.value.code == Code.CONFIG


def test_more_patience_does_not_wake_a_training_that_is_over(
    splits: list[DatasetIndex], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its optimiser is gone, so it starts anew rather than from something else."""
    one = job(splits, tmp_path, epochs=30, patience=1, lr0=1e-6, warmup_bias_lr=0, warmup_epochs=0)
    run(one)
    assert training.find_state(one) is not None
    assert training.find_state(settings(patience=50)(one)) is None
    assert "is of a training that was over after epoch" in caplog.text


def test_stages_of_the_platform_are_not_exceeded() -> None:
    assert PERIODIC_KEPT + len(("best", "last")) == STAGES_KEPT


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_killed_task_goes_on_when_it_is_started_again(
    drawn: SourceDataset, tmp_path: Path, workers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL in the middle of it, then the same task once more, against one that ran through."""
    tiny = {**TINY_TRAINING, "epochs": "6", "onnx": "no", "plots": "no", "workers": workers}
    env_files = [
        write_task(drawn, tmp_path / name, kinds=("training",), settings=tiny)
        for name in ("whole", "killed")
    ]
    whole, killed = (tmp_path / name / "out" / "models" for name in ("whole", "killed"))
    assert start.main(["--env", str(env_files[0])]) == 0
    command = [sys.executable, str(ROOT / "start.py"), "--env", str(env_files[1])]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        rows = killed / "attachments" / "report" / "results.csv"
        while process.poll() is None:
            if rows.is_file() and len(rows.read_text().splitlines()) > 2:
                os.killpg(process.pid, signal.SIGKILL)
                break
            time.sleep(0.01)
        assert process.wait() == -signal.SIGKILL
    capsys.readouterr()
    assert start.main(["--env", str(env_files[1])]) == 0
    assert "going on after epoch" in capsys.readouterr().out
    report = Path("attachments/report/results.csv")
    assert (whole / report).read_text() == (killed / report).read_text()
    for stage in ("best", "last"):
        for key, tensor in state_of(whole, stage).items():
            assert torch.equal(tensor, state_of(killed, stage)[key]), key
