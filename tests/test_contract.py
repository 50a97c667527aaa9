"""Clauses of the protocol that only whole tasks can show."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import start
from models.checkpoint import CheckpointMetadata, checkpoint_of, save_checkpoint
from models.detector import Detector
from models.model_config import read_model_config
from settings.parse import PLATFORM_KEYS
from tasks.run import run as run_task
from tests.conftest import ROOT, TINY_TRAINING
from tests.reliability.checklist import CHECKLIST, Clause
from tests.task_results import edit
from tools.check_out import check_out
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import Code, TaskError
from utils.progress import Progress
from ymir.task import read_task

LOOKING = {"img_size": "96", "batch_size": "4", "conf_thres": "0.01"}
QUICK = {**TINY_TRAINING, "epochs": "1", "onnx": "false", "plots": "false"}


@pytest.mark.parametrize("clause", CHECKLIST, ids=lambda clause: str(clause.number))
def test_every_clause_of_the_checklist_has_test_files(clause: Clause) -> None:
    assert clause.tests
    assert [name for name in clause.tests if not (ROOT / name).is_file()] == []


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with its size and time of change."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_nothing_is_written_beside_the_data(drawn: SourceDataset, tmp_path: Path) -> None:
    task = tmp_path / "task"
    env_file = write_task(drawn, task, settings={**QUICK, "cache": "disk"}, copy=True)
    before = state_of(task / "in")
    assert start.main(["--env", str(env_file)]) == 0
    assert state_of(task / "in") == before


@pytest.mark.parametrize("protocol", ["1.0.0", None, "1.1.0"])
def test_training_for_each_protocol(
    drawn: SourceDataset, tmp_path: Path, protocol: str | None
) -> None:
    """Stages in folders, flat, or the pair of old; the board is a link to another place."""
    task = tmp_path / "task"
    settings = {**QUICK, "epochs": "2", "save_period": "1", "onnx": "true"}
    settings |= {"ymir_saved_file_patterns": r".*\.txt"}
    env_file = write_task(drawn, task, settings=settings, protocol=protocol)
    board = tmp_path / "board"
    board.mkdir()
    (task / "out" / "tensorboard").rmdir()
    (task / "out" / "tensorboard").symlink_to(board)
    assert start.main(["--env", str(env_file)]) == 0
    assert list(board.glob("events.*"))
    assert (task / "out" / "tensorboard").is_symlink()
    models = task / "out" / "models"
    result = yaml.safe_load((models / "result.yaml").read_text("utf-8"))
    if protocol is None:
        assert result == {"model": ["best.pt"], "map": result["map"]}
        assert (models / "best.pt").is_file()
        return
    assert [f for f in check_out(task) if f.rule != "legacy.stages"] == []
    assert set(result["model_stages"]) == {"best", "last", "epoch0", "epoch1"}
    # ONNX was written, and the patterns keep it out of the list.
    listed = [file for one in result["model_stages"].values() for file in one["files"]]
    assert sorted(listed) == ["best.pt", "epoch0.pt", "epoch1.pt", "last.pt"]
    place = models / "best" if protocol == "1.1.0" else models
    assert {"best.pt", "best.onnx"} <= {path.name for path in place.iterdir()}
    assert all(isinstance(value, float) for value in result["evaluate_config"].values())


def infer(
    source: SourceDataset, task: Path, weights: Path, key: str, **more: Any
) -> list[dict[str, Any]]:
    """Run an inference task; return the detections that stand under a key."""
    settings, kinds = {**LOOKING, "conf_thres": "0.001"}, ("infer",)
    env_file = write_task(source, task, kinds=kinds, settings=settings, weights=[weights], **more)
    assert start.main(["--env", str(env_file)]) == 0
    images = json.loads((task / "out/infer-result.json").read_text("utf-8"))["detection"]
    return [item for record in images.values() for item in record[key]]


@pytest.mark.parametrize(("protocol", "key"), [("1.1.0", "boxes"), (None, "annotations")])
def test_each_platform_finds_the_detections_under_its_key(
    drawn: SourceDataset, weights: Path, tmp_path: Path, protocol: str | None, key: str
) -> None:
    boxes = infer(drawn, tmp_path / "task", weights, key, protocol=protocol)
    assert boxes
    for item in boxes:
        assert all(type(value) is int for value in item["box"].values())
        assert 0 <= item["score"] <= 1


def test_progress_is_whole_only_when_all_is_written(
    drawn: SourceDataset, weights: Path, tmp_path: Path
) -> None:
    """At every step below 1 something may be missing; at 1 nothing changes any more."""
    for kinds, settings in ((("training",), QUICK), (("mining", "infer"), LOOKING)):
        task = tmp_path / kinds[0]
        handed = [] if "training" in kinds else [weights]
        env_file = write_task(drawn, task, kinds=kinds, settings=settings, weights=handed)
        told: list[float] = []
        final: list[dict[str, tuple[int, int]]] = []

        def tell(
            fraction: float, told: list = told, final: list = final, task: Path = task
        ) -> None:
            told.append(fraction)
            if fraction >= 1:
                final.append(state_of(task / "out"))

        run_task(read_task(env_file), Progress(tell))
        assert told == sorted(told)
        assert told.count(1.0) == 1
        assert final == [state_of(task / "out")]


def test_weights_with_other_classes(drawn: SourceDataset, tmp_path: Path) -> None:
    """The names of the weights count for what their channels mean, in any script and case."""
    names = ("Ärger", "红细胞", "кошка", "cat", "Cat", "a b/c")
    network = Detector(read_model_config("yolov5n", nc=len(names)))
    torch.nn.init.constant_(network.head.m[0].bias, 1.0)
    path = tmp_path / "other.pt"
    save_checkpoint(path, checkpoint_of(network, names, CheckpointMetadata(img_size=96)))
    boxes = infer(drawn, tmp_path / "task", path, "boxes", limit=2)
    assert boxes
    assert {item["class_name"] for item in boxes} <= set(names)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["红细胞", "Ελλάδα", "שלום", "مرحبا", "кошка"], id="scripts"),
        pytest.param(["cat", "Cat", "CAT"], id="case"),
        pytest.param(["a, b", "c: d", "#e", "it's", "[f]", "no", "1", "1e3", "null"], id="YAML"),
    ],
)
def test_class_names_in_any_script_and_case(
    make_task: Callable[..., Path], names: list[str]
) -> None:
    assert read_task(make_task(config={"class_names": names})).class_names == tuple(names)


RESERVED: dict[str, object] = {
    **{"class_names": ["a"], "object_type": 2, "task_id": "t1", "export_format": "ark:raw"},
    **{"git_url": "https://host/x.git", "git_branch": "main", "pypi_mirror": "https://host/simple"},
    **{"gpu_count": 0, "gpu_id": "", "shm_size": "64G", "openpai_enable": False},
    **{"model_params_path": [], "pretrained_model_params": []},
    **{"run_infer": 0, "run_mining": False, "run_training": True},
    "code_config": "configs/default.yaml",
}


def test_reserved_keys_are_no_unknown_settings(make_task: Callable[..., Path]) -> None:
    assert set(RESERVED) == set(PLATFORM_KEYS)
    assert read_task(make_task(config=RESERVED)).warnings == ()


@pytest.mark.parametrize(
    "value",
    ["", None, "ark:raw", "det-ark:raw", "voc:raw", "det-voc:raw", "coco:raw", "seg-coco:raw"],
)
def test_export_formats_that_can_be_trained_from(
    make_task: Callable[..., Path], value: str | None
) -> None:
    assert read_task(make_task(config={"export_format": value})).run_training


@pytest.mark.parametrize(
    "value",
    [
        *("ls_json:raw", "det-ls-json:raw", "ark:lmdb", "lmdb:ark", "voc:lmdb", "lmdb:ls_json"),
        *("raw/ark", "raw:ark", "none:raw", "yolo:raw"),
    ],
)
def test_other_export_formats_are_refused_with_those_to_choose(
    make_task: Callable[..., Path], value: str
) -> None:
    with pytest.raises(TaskError) as caught:
        read_task(make_task(config={"export_format": value}))
    assert caught.value.code is Code.CONFIG
    assert caught.value.sentence == (
        f"export_format {value} cannot be trained from; choose ark:raw or voc:raw (on the screen "
        "raw/ark or raw/voc), or coco:raw with YMIR 2.5."
    )


def test_the_log_of_a_training(
    drawn: SourceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Head, what was set, the data as a table, few lines of progress, a summary."""
    settings = {**QUICK, "epochs": "3", "seed": "7"}
    env_file = write_task(drawn, tmp_path / "task", settings=settings)
    secret = {"git_url": "https://me:s3cret@host/x.git", "api_token": "s3cret"}
    edit(env_file.with_name("config.yaml"), **secret)
    began = time.monotonic()
    assert start.main(["--env", str(env_file)]) == 0
    allowed = 1 + int((time.monotonic() - began) / 10)
    text = capsys.readouterr().out
    assert "\r" not in text
    assert "s3cret" not in text
    lines = [line.split(" ", 1)[-1] for line in text.splitlines()]
    assert lines[0].startswith("task ")
    assert f"torch {torch.__version__}" in lines[0]
    assert any(line.startswith("training settings: ") and "seed 7" in line for line in lines)
    assert text.count("images listed") == 1
    assert 1 <= sum(line.startswith("epoch ") for line in lines) <= allowed
    summary = next(line for line in lines if line.startswith("summary: best epoch "))
    assert "best.pt" in summary
    assert lines.index(summary) >= len(lines) - 3
    assert text.splitlines()[-1] == "DONE: every result is written."
