"""The protocol's checklist line by line, and clauses that only whole tasks can show."""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import start
import tasks
from models.checkpoint import checkpoint_of, save_checkpoint
from models.detector import Detector
from models.layout import read_layout
from tests.conftest import ROOT, TINY_TRAINING
from tools.check_out import check_out
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.option_names import PLATFORM_KEYS
from utils.progress import Progress
from utils.ymir_yolov5 import read_task

# The checklist at the end of the protocol page, each line with the tests that hold it.
CHECKLIST: dict[str, tuple[str, ...]] = {
    "1 read-only /in, a nameless uid without HOME, 64 MB shm, no network": (
        "tests/test_bare_container.py::test_it_is_as_hard_as_it_says",
        "tests/test_bare_container.py::test_a_whole_task",
        "tests/test_bare_container.py::test_live_code",
        "tests/test_start.py::test_a_nameless_user_without_a_home",
        "tests/test_contract.py::test_nothing_is_written_beside_the_data",
        "tests/utils/test_container.py::test_a_home_is_provided_where_there_is_none",
        "tests/utils/test_workers.py::test_worker_count",
        "tests/utils/test_workers.py::test_no_shared_memory_means_no_workers",
        "tests/test_security.py::test_only_a_task_that_asks_for_it_reaches_the_network",
    ),
    "2 kill -9 at any moment": (
        "tests/test_start.py::test_a_killed_training_keeps_its_best_model",
        "tests/utils/test_atomic.py::test_readers_see_the_old_file_until_the_new_one_is_whole",
    ),
    "3 a reader that never pauses": (
        "tests/test_start.py::test_a_killed_training_keeps_its_best_model",
        "tests/utils/test_ymir_monitor.py::test_a_reader_never_sees_half_a_record",
        "tests/utils/test_ymir_monitor.py::test_progress_never_falls_and_stays_in_its_range",
        "tests/utils/test_ymir_monitor.py::"
        "test_time_changes_even_when_the_clock_stands_or_is_set_back",
    ),
    "4 every annotation format gives the same boxes": (
        "tests/utils/test_labels.py::test_every_format_gives_the_same_data_set",
        "tests/utils/test_labels.py::test_index_rules",
        "tests/utils/test_annotations.py::test_ark_columns",
        "tests/utils/test_annotations.py::test_ark_one_pixel_box_and_background",
        "tests/tools/test_make_task.py::test_our_reader_gets_the_same_boxes_back",
    ),
    "5 options as text": (
        "tests/test_start.py::test_typed_settings_run_as_text_does",
        "tests/utils/test_config.py::test_every_option_as_text_gives_the_same_settings",
        "tests/utils/test_ymir_yolov5.py::test_all_options_as_text_give_the_same_task",
    ),
    "6 gpu_id": (
        "tests/utils/test_ymir_yolov5.py::test_gpu_ids",
        "tests/utils/test_device.py::test_ids_count_among_the_visible",
        "tests/utils/test_device.py::test_no_ids_mean_the_cpu_even_beside_a_gpu",
    ),
    "7 infer-result.json": (
        "tests/test_start.py::test_looking_at_candidates",
        "tests/test_contract.py::test_each_platform_finds_the_detections_under_its_key",
        "tests/utils/test_ymir_results.py::test_random_boxes_always_fit",
        "tests/utils/test_ymir_results.py::test_both_keys_whatever_the_protocol",
        "tests/utils/test_ymir_results.py::test_every_candidate_is_listed",
    ),
    "8 result.tsv": (
        "tests/test_start.py::test_a_bad_image_among_good_ones_is_named_and_ranked_last",
        "tests/test_start.py::test_mining_with_inference_gives_the_files_of_each_alone",
        "tests/utils/test_ymir_results.py::test_mining_scores_fall_and_unreadable_images_come_last",
    ),
    "9 every return code": (
        "tests/test_return_codes.py::test_every_code_has_its_cause",
        "tests/test_return_codes.py::test_a_task_ends_with_the_code_of_its_cause",
        "tests/test_return_codes.py::test_memory_that_runs_out",
        "tests/utils/test_failures.py::test_each_failure_has_its_code_and_a_sentence",
    ),
    "10 models": (
        "tests/utils/test_ymir_yolov5.py::test_weights",
        "tests/utils/test_ymir_yolov5.py::"
        "test_a_list_without_usable_weights_is_refused_with_what_was_offered",
        "tests/test_contract.py::test_weights_with_other_classes",
    ),
    "11 mining and inference together": (
        "tests/test_start.py::test_looking_at_candidates",
        "tests/test_contract.py::test_progress_is_whole_only_when_all_is_written",
    ),
    "12 both generations of ymir_exc": (
        "tests/test_sdk_generations.py::test_a_task_ends_alike_whatever_is_installed",
        "tests/test_sdk_generations.py::test_stages",
        "tests/utils/test_ymir_results.py::test_training",
    ),
}
LOOKING = {"img_size": "96", "batch_size": "4", "conf_thres": "0.01"}
QUICK = {**TINY_TRAINING, "epochs": "1", "onnx": "false", "plots": "false"}


@pytest.mark.parametrize("line", CHECKLIST)
def test_every_line_of_the_checklist_has_tests_that_exist(line: str) -> None:
    for name in CHECKLIST[line]:
        file, _, function = name.partition("::")
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert function in defined, name


def test_the_checklist_is_whole() -> None:
    assert [int(line.split()[0]) for line in CHECKLIST] == list(range(1, 13))


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with its size and time of change."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_nothing_is_written_beside_the_data(drawn: SourceDataset, tmp_path: Path) -> None:
    task = tmp_path / "task"
    env_file = write_task(drawn, task, settings={**QUICK, "cache": "disk"}, copy=True)
    before = state_of(task / "in")
    assert start.main(["--env", str(env_file)]) == 0
    assert state_of(task / "in") == before


@pytest.mark.parametrize("protocol", ["1.0.0", "0.0.1", "1.1.0"])
def test_training_for_each_protocol(drawn: SourceDataset, tmp_path: Path, protocol: str) -> None:
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
    if protocol == "0.0.1":
        assert result == {"model": ["best.pt"], "map": result["map"]}
        assert (models / "best.pt").is_file()
        return
    assert [f for f in check_out(task) if f.rule != "legacy.stages"] == []
    assert set(result["model_stages"]) == {"best", "last", "epoch0", "epoch1"}
    # ONNX was written, and the patterns keep it out of the list.
    assert {tuple(one["files"]) for one in result["model_stages"].values()} == {
        ("best.pt",), ("last.pt",), ("epoch0.pt",), ("epoch1.pt",),
    }  # fmt: skip
    place = models / "best" if protocol == "1.1.0" else models
    assert {"best.pt", "best.onnx"} <= {path.name for path in place.iterdir()}
    assert all(isinstance(value, float) for value in result["evaluate_config"].values())


@pytest.mark.parametrize(("protocol", "key"), [("1.1.0", "boxes"), (None, "annotations")])
def test_each_platform_finds_the_detections_under_its_key(
    drawn: SourceDataset, weights: Path, tmp_path: Path, protocol: str | None, key: str
) -> None:
    task = tmp_path / "task"
    settings = {**LOOKING, "conf_thres": "0.001"}
    env_file = write_task(
        drawn, task, kinds=("infer",), settings=settings, weights=[weights], protocol=protocol
    )
    assert start.main(["--env", str(env_file)]) == 0
    images = json.loads((task / "out/infer-result.json").read_text("utf-8"))["detection"]
    boxes = [item for record in images.values() for item in record[key]]
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

        tasks.run(read_task(env_file), Progress(tell))
        assert told == sorted(told)
        assert told.count(1.0) == 1
        assert final == [state_of(task / "out")]


def test_weights_with_other_classes(drawn: SourceDataset, tmp_path: Path) -> None:
    """The names of the weights count for what their channels mean, in any script and case."""
    names = ("Ärger", "红细胞", "кошка", "cat", "Cat", "a b/c")
    network = Detector(read_layout("yolov5n", nc=len(names)))
    torch.nn.init.constant_(network.head.m[0].bias, 1.0)
    save_checkpoint(tmp_path / "other.pt", checkpoint_of(network, names, {"img_size": 96}))
    task = tmp_path / "task"
    env_file = write_task(
        drawn, task, kinds=("infer",), settings=LOOKING, weights=[tmp_path / "other.pt"], limit=2
    )
    assert start.main(["--env", str(env_file)]) == 0
    text = (task / "out/infer-result.json").read_text("utf-8")
    found = {
        item["class_name"]
        for record in json.loads(text)["detection"].values()
        for item in record["boxes"]
    }
    assert found
    assert found <= set(names)


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["红细胞", "白细胞"], id="Chinese"),
        pytest.param(["cat", "Cat", "CAT"], id="case"),
        pytest.param(["Ελλάδα", "שלום", "مرحبا", "кошка"], id="scripts"),
        pytest.param(["a, b", "c: d", "#e", "it's", "[f]"], id="signs of YAML"),
        pytest.param(["no", "1", "1e3", "null"], id="words of YAML"),
    ],
)
def test_class_names_in_any_script_and_case(
    make_platform_config: Callable[..., Path], names: list[str]
) -> None:
    assert read_task(make_platform_config(class_names=names), environ={}).class_names == tuple(
        names
    )


@pytest.fixture
def make_platform_config(drawn: SourceDataset, tmp_path: Path) -> Callable[..., Path]:
    """A training task whose config.yaml has further keys."""

    def make(**config: object) -> Path:
        env_file = write_task(drawn, tmp_path / "task", limit=1)
        path = env_file.with_name("config.yaml")
        content = yaml.safe_load(path.read_text("utf-8")) | config
        path.write_text(yaml.safe_dump(content, allow_unicode=True), "utf-8")
        return env_file

    return make


RESERVED: dict[str, object] = {
    "class_names": ["a"],
    "code_config": "configs/default.yaml",
    "export_format": "ark:raw",
    "git_branch": "main",
    "git_url": "https://host/x.git",
    "gpu_count": 0,
    "gpu_id": "",
    "model_params_path": [],
    "object_type": 2,
    "openpai_enable": False,
    "pretrained_model_params": [],
    "pypi_mirror": "https://host/simple",
    "run_infer": 0,
    "run_mining": False,
    "run_training": True,
    "shm_size": "64G",
    "task_id": "t1",
}


def test_reserved_keys_are_no_unknown_settings(
    make_platform_config: Callable[..., Path],
) -> None:
    assert set(RESERVED) == set(PLATFORM_KEYS)
    assert read_task(make_platform_config(**RESERVED), environ={}).warnings == ()


@pytest.mark.parametrize(
    "value",
    ["", None, "ark:raw", "det-ark:raw", "voc:raw", "det-voc:raw", "coco:raw", "seg-coco:raw"],
)
def test_export_formats_that_can_be_trained_from(
    make_platform_config: Callable[..., Path], value: str | None
) -> None:
    assert read_task(make_platform_config(export_format=value), environ={}).run_training


def test_the_log_of_a_training(
    drawn: SourceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Head, what was set, the data as a table, few lines of progress, a summary."""
    settings = {**QUICK, "epochs": "3", "seed": "7"}
    env_file = write_task(drawn, tmp_path / "task", settings=settings)
    path = env_file.with_name("config.yaml")
    secret = {"git_url": "https://me:s3cret@host/x.git", "api_token": "s3cret"}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text("utf-8")) | secret), "utf-8")
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
