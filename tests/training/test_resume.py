"""A training that was stopped and resumed ends exactly as one that ran through."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data.dataset_index import DatasetIndex
from evaluation.evaluate import no_evaluation
from models.detector import Detector
from models.model_config import read_model_config
from settings.train import TrainSettings
from tests.pretend_gpu import PretendGpu
from tests.training_example import make_job, run, tensors_of
from training import loop, optimizer
from training.checkpoints import MAX_PERIODIC, SavedCheckpoint
from training.ema import ModelEMA
from training.job import TrainingJob
from training.optimizer import OptimizerStep, build_optimizer
from training.resume import (
    FORMAT,
    VERSION,
    ResumeState,
    find_state,
    from_plain,
    load_network,
    read_state,
    snapshot,
    to_plain,
    write_state,
)
from utils.errors import Code, TaskError
from ymir.results import STAGES_KEPT


@pytest.fixture(scope="module")
def splits(splits: list[DatasetIndex]) -> list[DatasetIndex]:
    """Two steps an epoch are enough here."""
    return [splits[0].subset(range(8)), splits[1].subset(range(2))]


def job(splits: list[DatasetIndex], folder: Path, **change: object) -> TrainingJob:
    return make_job(splits, folder, **{"img_size": 64, **change})


class Killed(Exception):
    """Stands for the end of the process."""


def run_until(one: TrainingJob, stage: str, epoch: int) -> None:
    """Run a training that dies as soon as it has written `stage` in `epoch`."""

    def on_saved(saved: SavedCheckpoint) -> None:
        if (saved.stage, saved.epoch) == (stage, epoch):
            raise Killed

    with pytest.raises(Killed):
        run(replace(one, on_saved=on_saved))


def assert_same_results(one: Path, other: Path) -> None:
    assert (one / "results.csv").read_text() == (other / "results.csv").read_text()
    for stage in ("best", "last"):
        tensors, others = tensors_of(one, stage), tensors_of(other, stage)
        assert all(torch.equal(tensor, others[key]) for key, tensor in tensors.items()), stage


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"workers": 2, "nominal_batch_size": 12}, id="pending gradients"),
        pytest.param({"augment_on": "device", "cache": "gpu", "workers": 1}, id="on the device"),
        pytest.param({"optimizer": "adamw", "lr0": 0.001, "freeze": "3"}, id="adamw, frozen"),
        pytest.param({"schedule": "cosine", "noval": True, "momentum": 0}, id="noval"),
    ],
)
def test_a_resumed_training_equals_one_that_ran_through(
    splits: list[DatasetIndex],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
) -> None:
    """Stopped after one whole epoch and a part of the second, which is trained once more.

    Something in the loop draws from torch's global generator: the draws must be the same.
    """
    real, drawn = loop.train_one_epoch, []

    def draw(*arguments: object) -> list[float]:
        drawn.append(float(torch.rand(())))
        return real(*arguments)

    monkeypatch.setattr(loop, "train_one_epoch", draw)
    whole, parts = (job(splits, tmp_path / name, epochs=3, **change) for name in ("whole", "parts"))
    run(whole)
    run_until(parts, "last", 1)
    state = read_state(parts.state_file)
    assert (state.epoch, len(state.rows)) == (0, 1)
    assert state.parts is not None
    assert (state.parts["optimizer"]["pending"] > 0) == ("nominal_batch_size" in change)
    torch.manual_seed(99)  # another process starts from other numbers
    with caplog.at_level(logging.INFO):
        run(parts)
    assert "going on after epoch 1 of 3" in caplog.text
    assert_same_results(whole.folder, parts.folder)
    assert drawn == [*drawn[:3], *drawn[:2], *drawn[1:3]]
    epochs = [line.split(",")[0].strip() for line in (parts.folder / "results.csv").open()]
    assert epochs == ["epoch", "0", "1", "2"]


def test_a_training_in_float16_resumes_with_its_scale(
    splits: list[DatasetIndex],
    tmp_path: Path,
    pretend_gpu: PretendGpu,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its first steps overflow, so that the scale is no longer the one that it began with."""
    monkeypatch.setattr(optimizer, "FIRST_SCALE", 2.0**20)
    change = {"epochs": 3, "precision": "float16", "nominal_batch_size": 4}
    whole, parts = (
        replace(job(splits, tmp_path / name, **change), device=torch.device("cuda", 0))
        for name in ("whole", "parts")
    )
    run(whole)
    run_until(parts, "last", 1)
    state = read_state(parts.state_file)
    assert state.parts is not None
    scale, steps = float(state.parts["optimizer"]["scale"][0]), state.parts["optimizer"]["steps"]
    assert scale < 2.0**20
    assert state.parts["updates"] < steps
    run(parts)
    assert_same_results(whole.folder, parts.folder)


def test_a_complete_training_reports_its_results_again(
    splits: list[DatasetIndex],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = job(splits, tmp_path, epochs=2, save_period=1)
    first = run(one)
    reported: list[SavedCheckpoint] = []
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    lines = (tmp_path / "results.csv").read_text()
    monkeypatch.setattr(loop, "train_one_epoch", None)  # no step may be asked for
    with caplog.at_level(logging.INFO):
        again = run(replace(one, on_saved=reported.append))
    assert "complete already" in caplog.text
    assert again.evaluation.scores == first.evaluation.scores
    assert again.files == first.files
    assert {saved.stage for saved in reported} == {"best", "last", "epoch0", "epoch1"}
    assert reported[0].stage == "best"
    assert (tmp_path / "results.csv").read_text() == lines
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")} == written
    assert one.state_file.stat().st_size < 1e6  # what only training needs is gone


Edit = Callable[[TrainingJob], TrainingJob]


def settings(**change: object) -> Edit:
    return lambda one: replace(one, settings=replace(one.settings, **change))


def older(one: TrainingJob) -> TrainingJob:
    """Take settings out of the state, as if they had not existed when it was written."""
    state = read_state(one.state_file)
    for name in ("tf32", "seed"):
        del state.identity["settings"][name]
    write_state(one.state_file, state)
    return one


def other_data(one: TrainingJob) -> TrainingJob:
    return replace(one, train=one.train.subset(range(7)))


def other_boxes(one: TrainingJob) -> TrainingJob:
    moved = one.validation.instances.with_boxes(one.validation.boxes + 1)
    return replace(one, validation=replace(one.validation, instances=moved))


def other_crowds(one: TrainingJob) -> TrainingJob:
    region = one.validation.instances_of(0).take(slice(1))
    return replace(one, validation=one.validation.with_crowds(region, np.array([0])))


def other_weights(one: TrainingJob) -> TrainingJob:
    return replace(one, weights=one.stage_folder("best") / "best.pt")


def damaged(one: TrainingJob) -> TrainingJob:
    one.state_file.write_bytes(one.state_file.read_bytes()[:1000])
    return one


def without_best(one: TrainingJob) -> TrainingJob:
    (one.stage_folder("best") / "best.pt").unlink()
    return one


def complete(one: TrainingJob) -> TrainingJob:
    """More patience does not wake a training that is complete: its optimiser is gone."""
    state = read_state(one.state_file)
    write_state(one.state_file, replace(state, parts=None))
    return one


def moved(one: TrainingJob, folder: Path) -> TrainingJob:
    """The job with its pictures, and the model file, in another place."""
    paths = []
    for path in one.train.paths:
        place = folder / "elsewhere" / Path(path).parent.name / Path(path).name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
        paths.append(str(place))
    return replace(one, train=replace(one.train, paths=tuple(paths)))


def test_a_training_goes_on_where_its_data_have_been_moved(
    splits: list[DatasetIndex], interrupted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not so with a picture that was replaced by another one of its size."""
    last = {"resume": str(interrupted / "last" / "last.pt")}
    one = moved(job(splits, tmp_path / "run", epochs=3, **last), tmp_path)
    with caplog.at_level(logging.INFO):
        found = find_state(one)
    assert found is not None
    assert "going on after epoch 1 of 3" in caplog.text
    with Path(one.train.paths[0]).open("ab") as file:
        file.write(b"another picture")
    with pytest.raises(TaskError, match=r"other training data.*start anew"):
        find_state(one)


OTHERS = [
    pytest.param(settings(epochs=4, seed=1), "epochs was 3, is 4; seed was 0, is 1", id="two"),
    pytest.param(lambda one: settings(tf32=True)(older(one)), "tf32 was False, is", id="older"),
    pytest.param(other_data, "other training data", id="other images"),
    pytest.param(other_boxes, "other validation data", id="other labels"),
    pytest.param(other_crowds, "other validation data", id="other crowd regions"),
    pytest.param(other_weights, "other starting weights", id="other weights"),
    pytest.param(damaged, "is not a training that this version can resume", id="damaged"),
    pytest.param(without_best, "best or last checkpoint is gone", id="weights gone"),
    pytest.param(complete, "its training was complete after epoch 1", id="complete"),
]


@pytest.fixture(scope="module")
def interrupted(splits: list[DatasetIndex], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a training of three epochs was stopped in its second."""
    folder = tmp_path_factory.mktemp("interrupted")
    run_until(job(splits, folder, epochs=3), "last", 1)
    return folder


@pytest.mark.parametrize(("edit", "why"), OTHERS)
def test_a_state_of_another_training_is_not_resumed(
    splits: list[DatasetIndex],
    interrupted: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    edit: Edit,
    why: str,
) -> None:
    """By itself a training starts anew and says why in one sentence; a named one is refused."""
    one = edit(job(splits, shutil.copytree(interrupted, tmp_path / "copy"), epochs=3))
    with caplog.at_level(logging.INFO):
        assert find_state(one) is None
    (message,) = caplog.messages
    assert message.startswith("starting anew: ")
    assert why in message
    with pytest.raises(TaskError) as caught:
        find_state(settings(resume=str(one.state_file))(one))
    assert caught.value.code in (Code.CONFIG, Code.MODEL)
    assert why in caught.value.sentence


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"workers": 1, "cache": "none", "patience": 7, "save_period": 2, "resume": "True"}, True),
        ({"augment_on": "device", "cache": "gpu", "cache_share": 0.2}, True),
        ({"resume": "never"}, False),
        ({"resume": "False"}, False),
    ],
    ids=str,
)
def test_irrelevant_settings_may_differ(
    splits: list[DatasetIndex], interrupted: Path, change: dict[str, object], found: bool
) -> None:
    state = find_state(settings(**change)(job(splits, interrupted, epochs=3)))
    assert (state is not None) == found
    assert state is None or state.epoch == 0


def test_a_setting_that_a_state_does_not_have_yet_was_at_its_default(
    splits: list[DatasetIndex], interrupted: Path, tmp_path: Path
) -> None:
    one = job(splits, shutil.copytree(interrupted, tmp_path / "copy"), epochs=3)
    assert find_state(older(one)) is not None


@pytest.mark.parametrize("name", ["last.pt", "last.state"])
def test_a_path_is_resumed_in_another_folder(
    splits: list[DatasetIndex], interrupted: Path, tmp_path: Path, name: str
) -> None:
    one = job(splits, tmp_path / "new", epochs=3, resume=str(interrupted / "last" / name))
    found = find_state(one)
    assert found is not None
    assert (found.epoch, len(found.rows)) == (0, 1)
    for stage, saved in zip(("best", "last"), found.stages, strict=True):
        assert saved.files == (tmp_path / "new" / stage / f"{stage}.pt",)
        assert saved.files[0].read_bytes() == (interrupted / stage / f"{stage}.pt").read_bytes()


def test_a_missing_path_is_refused(splits: list[DatasetIndex], tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"no file .*last\.state; give the last\.pt") as caught:
        find_state(job(splits, tmp_path, resume=str(tmp_path / "last.pt")))
    assert caught.value.code == Code.CONFIG


def test_checkpoints_are_as_many_as_the_platform_lists() -> None:
    assert MAX_PERIODIC + len(("best", "last")) == STAGES_KEPT


def state_of(epoch: int, best_epoch: int, parts: dict[str, object] | None = None) -> ResumeState:
    evaluation = no_evaluation(2)
    evaluation.confusion.matrix[0, 1] = 4
    return ResumeState(
        epoch,
        identity={"settings": {"freeze": (1, 2), "lr0": 0.1}},
        batch_size=16,
        rows=[[0, 0.1 + 0.2], [1, float("nan")]],
        stages=[SavedCheckpoint("best", (Path("best") / "best.pt",), best_epoch, evaluation)],
        parts=parts,
    )


@pytest.mark.parametrize(
    ("epoch", "best_epoch", "patience", "complete"),
    [
        pytest.param(0, 0, 1, False, id="the first epoch is the best"),
        pytest.param(2, 0, 2, True, id="two without improvement"),
        pytest.param(2, 1, 2, False, id="one without improvement"),
        pytest.param(900, 0, 0, False, id="0 never stops"),
        pytest.param(999, 999, 0, True, id="all epochs are done"),
    ],
)
def test_early_stopping(epoch: int, best_epoch: int, patience: int, complete: bool) -> None:
    settings = TrainSettings(epochs=1000, patience=patience)
    assert state_of(epoch, best_epoch).is_complete(settings) is complete


def test_a_state_comes_back_from_its_file(tmp_path: Path) -> None:
    network = Detector(read_model_config("yolov5n", nc=1))
    step = OptimizerStep(build_optimizer(network, TrainSettings()))
    written = state_of(4, 3, snapshot(network, ModelEMA(network), step))
    write_state(tmp_path / "last.state", written)
    assert isinstance(torch.load(tmp_path / "last.state", weights_only=True), dict)
    read = read_state(tmp_path / "last.state")
    assert (read.epoch, read.identity, read.batch_size) == (4, written.identity, 16)
    np.testing.assert_array_equal(read.rows, written.rows)
    (saved,), (expected,) = read.stages, written.stages
    assert saved.files == expected.files
    assert saved.evaluation.scores == expected.evaluation.scores
    assert (saved.evaluation.confusion.matrix == expected.evaluation.confusion.matrix).all()
    with pytest.raises(TaskError, match="of another network"):
        load_network(Detector(read_model_config("yolov5s", nc=1)), read.parts)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no such file format", id="not torch's"),
        pytest.param({"format": "ymir-yolov5", "version": VERSION}, id="a checkpoint"),
        pytest.param({"format": FORMAT, "version": 99}, id="another version"),
        pytest.param({"format": FORMAT, "version": VERSION, "epoch": 3}, id="half"),
        pytest.param([1, 2], id="a list"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "last.state"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(TaskError, match=r"last\.state is not a training") as caught:
        read_state(path)
    assert caught.value.code == Code.MODEL


def test_plain_values_and_arrays_come_back(tmp_path: Path) -> None:
    arrays = [np.array([True, False]), np.zeros((0, 4), np.float32), np.ones((2, 3)).T]
    value = {"a": [1, 2.5, "x", None, True], "tuple": {}, 3: (), "b": (2, [(4,)]), "c": arrays}
    torch.save(to_plain({**value, "d": np.float64(0.5)}), tmp_path / "value")
    back = from_plain(torch.load(tmp_path / "value", weights_only=True))
    assert repr(back) == repr({**value, "d": 0.5})
    assert [one.dtype for one in back["c"]] == [one.dtype for one in arrays]


def test_only_known_classes_come_back() -> None:
    stored = to_plain(no_evaluation(1).scores)
    assert isinstance(stored, dict)
    with pytest.raises(ValueError, match="class Path is not known"):
        from_plain({"Path": stored["Scores"]})
    del stored["Scores"]["map50"]
    with pytest.raises(ValueError, match="other fields"):
        from_plain(stored)
    with pytest.raises(AssertionError, match="Detector cannot be stored"):
        to_plain(Detector(read_model_config("yolov5n", nc=1)))
