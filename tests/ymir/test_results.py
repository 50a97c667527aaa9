"""Result files as the platform reads them: result.yaml, result.tsv, infer-result.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from utils.errors import Code, TaskError
from ymir.results import (
    InferResultWriter,
    ModelStage,
    SavedFiles,
    write_mining_result,
    write_training_result,
)
from ymir.task import read_task
from ymir.task_types import Task, stage_folder

MakeTask = Callable[..., Path]
NAMES = ("helmet", "vest")


def task_of(make_task: MakeTask, kind: str = "training", protocol: str | None = "1.1.0") -> Task:
    return read_task(make_task(kind, env={"protocol_version": protocol}))


def save(task: Task, stage: str, *names: str) -> None:
    folder = stage_folder(task, stage)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"weights")


def result(task: Task) -> dict:
    return yaml.safe_load(task.out.training_result.read_text(encoding="utf-8"))


BEST = ModelStage("best", ("best.pt",), 1700000400, 0.71, 0.64, 512, 77, 143)
LAST = ModelStage("last", ("last.pt",), 1700000900, 0.69)


def test_stages_of_protocol_1_1(make_task: MakeTask) -> None:
    task = task_of(make_task)
    save(task, "best", "best.pt")
    save(task, "last", "last.pt")
    write_training_result(
        task, [BEST, LAST], "best", evaluate_config={"iou_thr": 0.5, "conf_thr": 0.25}
    )
    assert result(task) == {
        "best_stage_name": "best",
        "mAP": 0.71,
        "model_stages": {
            "best": {
                **{"stage_name": "best", "files": ["best.pt"], "timestamp": 1700000400},
                **{"mAP": 0.71, "mAR": 0.64, "tp": 512, "fp": 77, "fn": 143},
            },
            "last": {
                **{"stage_name": "last", "files": ["last.pt"], "timestamp": 1700000900},
                **{"mAP": 0.69, "mAR": 0.0, "tp": 0, "fp": 0, "fn": 0},
            },
        },
        "evaluate_config": {"iou_thr": 0.5, "conf_thr": 0.25},
    }


@pytest.mark.parametrize(
    ("protocol", "keys"),
    [
        pytest.param(None, {"model", "map"}, id="no-version"),
        pytest.param("0.0.1", {"model", "map"}, id="0.0.1"),
        pytest.param("1.0.0", {"best_stage_name", "mAP", "model_stages"}, id="1.0.0"),
    ],
)
def test_older_protocols_have_flat_files(
    make_task: MakeTask, protocol: str | None, keys: set[str]
) -> None:
    task = task_of(make_task, protocol=protocol)
    save(task, "best", "best.pt", "best.onnx")
    save(task, "last", "last.pt")
    assert (task.out.models / "best.onnx").is_file()
    best = ModelStage("best", ("best.pt", "best.onnx", "gone.txt"), 1, 0.5)
    write_training_result(task, [best, LAST], "best")
    written = result(task)
    assert set(written) == keys
    if protocol != "1.0.0":
        assert written == {"model": ["best.pt", "best.onnx"], "map": 0.5}


def test_only_whole_files_are_listed(make_task: MakeTask) -> None:
    task = task_of(make_task)
    save(task, "best", "best.pt")
    (task.out.models / "best" / "empty.onnx").touch()
    (task.out.models / "best" / "link.pt").symlink_to(task.out.models / "best" / "best.pt")
    names = ("best.pt", "empty.onnx", "link.pt", "missing.onnx")
    write_training_result(task, [ModelStage("best", names, 1, 0.5), LAST], "best")
    stages = result(task)["model_stages"]
    assert {name: stage["files"] for name, stage in stages.items()} == {"best": ["best.pt"]}


def test_a_best_stage_without_files_is_refused_and_the_old_result_stays(
    make_task: MakeTask,
) -> None:
    task = task_of(make_task)
    save(task, "best", "best.pt")
    write_training_result(task, [BEST], "best")
    before = task.out.training_result.read_bytes()
    for stages in ([BEST], [LAST]):
        with pytest.raises(ValueError, match="last"):
            write_training_result(task, stages, "last")
    assert task.out.training_result.read_bytes() == before


def test_figures_become_plain_and_stay_in_range(make_task: MakeTask) -> None:
    task = task_of(make_task)
    save(task, "best", "best.pt")
    figures = (np.int64(5), np.float64(1.0000001), float("nan"), np.int64(3), -1, np.int32(2))
    stage = ModelStage("best", ("best.pt",), *figures)
    write_training_result(task, [stage], "best", evaluate_config={"conf_thr": np.float32(0.5)})
    written = result(task)["model_stages"]["best"]
    assert (written["mAP"], written["mAR"], written["tp"], written["fp"]) == (1.0, 0.0, 3, 0)
    assert "python" not in task.out.training_result.read_text()


def test_the_best_and_the_ten_latest_are_kept(make_task: MakeTask) -> None:
    task = task_of(make_task)
    stages = [ModelStage(f"epoch_{number}", ("w.pt",), number, 0.5) for number in range(20)]
    for stage in stages:
        save(task, stage.name, "w.pt")
    write_training_result(task, stages, "epoch_3")
    assert list(result(task)["model_stages"]) == ["epoch_3"] + [f"epoch_{n}" for n in range(10, 20)]


def test_attachments_must_exist(make_task: MakeTask) -> None:
    task = task_of(make_task)
    save(task, "best", "best.pt")
    folder = task.out.models / "attachments" / "images"
    folder.mkdir(parents=True)
    (folder / "curve.png").write_bytes(b"png")
    attachments = {"images": ["curve.png", "gone.png"], "reports": ["results.csv"]}
    write_training_result(task, [BEST], "best", attachments)
    assert result(task)["attachments"] == {"images": ["curve.png"]}


def test_stage_names_the_platform_cannot_hold_are_our_own_mistake(make_task: MakeTask) -> None:
    with pytest.raises(AssertionError, match="identifier"):
        write_training_result(task_of(make_task), [ModelStage("epoch-1", (), 1, 0.5)], "epoch-1")


def test_mining_scores_fall_and_unreadable_images_come_last(make_task: MakeTask) -> None:
    task = task_of(make_task, "mining")
    rows = [
        ("/in/a b.jpg", 0.25),
        ("/in/bad.jpg", None),
        ("/in/c.jpg", 0.9),
        ("/in/tie.jpg", 0.25),
        ("/in/low.jpg", -0.5),
        ("/in/c.jpg", 0.1),
        ("/in/noise.jpg", 0.2500000001),
    ]
    assert write_mining_result(task, iter(rows)) == 6
    assert task.out.mining_result.read_text().splitlines() == [
        "/in/c.jpg\t0.900000",
        "/in/a b.jpg\t0.250000",
        "/in/tie.jpg\t0.250000",
        "/in/noise.jpg\t0.250000",
        "/in/low.jpg\t-0.500000",
        "/in/bad.jpg\t-1.500000",
    ]


def test_mining_without_any_readable_image(make_task: MakeTask) -> None:
    task = task_of(make_task, "mining")
    write_mining_result(task, [("b", None), ("a", None)])
    assert task.out.mining_result.read_text() == "b\t-1.000000\na\t-1.000000\n"


def test_an_infinite_score_is_told_and_nothing_is_written(make_task: MakeTask) -> None:
    task = task_of(make_task, "mining")
    with pytest.raises(TaskError, match=r"x\.jpg is nan") as caught:
        write_mining_result(task, [("x.jpg", float("nan"))])
    assert caught.value.code == Code.NOT_A_NUMBER
    assert not task.out.mining_result.exists()


def test_paths_come_out_as_they_came_in(make_task: MakeTask) -> None:
    task = task_of(make_task, "mining")
    write_mining_result(task, [("caf\udce9.jpg", 0.5), ("颜色.jpg", 0.4)])
    assert task.out.mining_result.read_bytes().splitlines() == [
        b"caf\xe9.jpg\t0.500000",
        "颜色.jpg\t0.400000".encode(),
    ]


def detection(task: Task) -> dict:
    return json.loads(task.out.infer_result.read_text(encoding="utf-8"))["detection"]


def test_detections_become_whole_boxes_inside_the_image(make_task: MakeTask) -> None:
    task = task_of(make_task, "infer")
    rows = np.array(
        [
            [30.4, 40.6, 79.6, 104.5, 0.5, 0],
            [-5.0, -3.0, 200.0, 300.0, 1.0000001, 1],
            [99.9, 119.9, 100.0, 120.0, 0.25, 0],  # a sliver in the corner
            [10.2, 10.2, 10.3, 10.3, 0.1234567, 0],  # less than a pixel
            [1.0, 1.0, float("nan"), 5.0, 0.9, 0],
        ],
        np.float32,
    )
    with InferResultWriter(task) as results:
        results.add("/in/assets/9c/a b.jpg", rows, NAMES, (120, 100))
        results.add("/in/assets/none.jpg", np.zeros((0, 6)), NAMES, (5, 5))
        results.add_empty("/in/assets/bad.jpg")
    found = detection(task)
    assert found["none.jpg"] == found["bad.jpg"] == {"boxes": [], "annotations": []}
    assert found["a b.jpg"]["annotations"] == found["a b.jpg"]["boxes"]
    assert found["a b.jpg"]["boxes"] == [
        {"box": {"x": 0, "y": 0, "w": 100, "h": 120}, "class_name": "vest", "score": 1.0},
        {"box": {"x": 30, "y": 41, "w": 50, "h": 63}, "class_name": "helmet", "score": 0.5},
        {"box": {"x": 99, "y": 119, "w": 1, "h": 1}, "class_name": "helmet", "score": 0.25},
        {"box": {"x": 10, "y": 10, "w": 1, "h": 1}, "class_name": "helmet", "score": 0.123457},
    ]


def test_of_two_images_of_one_name_the_first_counts(
    make_task: MakeTask, caplog: pytest.LogCaptureFixture
) -> None:
    task = task_of(make_task, "infer")
    with InferResultWriter(task) as results:
        results.add_empty("/in/x/a.jpg")
        results.add_empty("/in/other/a.jpg")
    assert list(detection(task)) == ["a.jpg"]
    assert "/in/other/a.jpg" in caplog.text


def test_a_failure_leaves_no_half_written_file(make_task: MakeTask) -> None:
    task = task_of(make_task, "infer")
    task.out.infer_result.write_text("old")
    with pytest.raises(IndexError), InferResultWriter(task) as results:
        results.add("a.jpg", [[1, 2, 3, 4, 0.5, 99]], NAMES, (9, 9))
    assert task.out.infer_result.read_text() == "old"
    assert not list(task.out.root.glob(".*"))


FILES = ("best.pt", "best.onnx", "best.torchscript", "best_openvino.xml")


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        pytest.param("", FILES, id="none: all"),
        pytest.param(r".*\.onnx", ("best.pt", "best.onnx"), id="weights always"),
        pytest.param(r"best_, .*\.torch", ("best.pt", "best.torchscript", "best_openvino.xml"),
                     id="two"),
        pytest.param("onnx", ("best.pt",), id="from the beginning of the name"),
    ],
)  # fmt: skip
def test_patterns(patterns: str, expected: tuple[str, ...]) -> None:
    assert SavedFiles(patterns).of(FILES) == expected


def test_an_expression_that_is_none_is_refused() -> None:
    with pytest.raises(TaskError, match="ymir_saved_file_patterns") as caught:
        SavedFiles("best.(pt")
    assert caught.value.code == Code.CONFIG
