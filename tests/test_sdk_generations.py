"""The same results with every generation of `ymir_exc`, with none, and written by the package."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import start
from tests.ymir_exc_example import modules
from tools.check_out import check_out
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import Code
from ymir.monitor import Monitor
from ymir.results import (
    InferResultWriter,
    ModelStage,
    write_mining_result,
    write_training_result,
)
from ymir.task import read_task
from ymir.task_types import Task, stage_folder

GENERATIONS = ("none", "1.1.0.523", "2.x")


def install(monkeypatch: pytest.MonkeyPatch, generation: str, env_file: Path) -> None:
    """Let `import ymir_exc` find one generation, or nothing."""
    for name in [name for name in sys.modules if name.split(".")[0] == "ymir_exc"]:
        monkeypatch.delitem(sys.modules, name)
    if generation == "1.1.0.523":
        pytest.importorskip("ymir_exc")
    found = modules(env_file) if generation == "2.x" else {}
    for name, module in found.items():
        monkeypatch.setitem(sys.modules, name, module)
    if generation == "none":
        monkeypatch.setitem(sys.modules, "ymir_exc", None)


def test_a_task_ends_alike_whatever_is_installed(
    drawn: SourceDataset, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    for generation in GENERATIONS:
        task, kinds = tmp_path / "task", ("mining", "infer")
        settings = {"img_size": "96", "batch_size": "4", "conf_thres": "0.01"}
        env_file = write_task(
            drawn, task, kinds=kinds, settings=settings, weights=[weights], overwrite=True
        )
        with monkeypatch.context() as patch:
            install(patch, generation, env_file)
            assert start.main(["--env", str(env_file)]) == 0
        assert check_out(task) == []
        written.append(
            [(task / "out" / name).read_bytes() for name in ("result.tsv", "infer-result.json")]
        )
    assert written[0] == written[1] == written[2]


@pytest.fixture
def task(drawn: SourceDataset, weights: Path, tmp_path: Path) -> Task:
    kinds = ("mining", "infer")
    return read_task(write_task(drawn, tmp_path, kinds=kinds, weights=[weights], limit=1))


class TestSameAsTheSecondGeneration:
    """What a platform of 2.x reads is the same, whether the package wrote it or we did."""

    @pytest.fixture
    def part(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
        install(monkeypatch, "2.x", tmp_path / "in" / "env.yaml")
        return lambda name: importlib.import_module(f"ymir_exc.{name}")

    def test_reading(self, task: Task, part: Callable[[str], ModuleType]) -> None:
        env, config = part("env").get_current_env(), part("env").get_executor_config()
        assert (env.task_id, env.run_infer) == (task.task_id, task.run_infer)
        assert tuple(config["class_names"]) == task.class_names
        assert env.output.infer_result_file == str(task.out.infer_result)

    def test_mining(self, task: Task, part: Callable[[str], ModuleType]) -> None:
        rows = [("/in/b.jpg", 0.5), ("/in/a.jpg", 0.75), ("/in/c.jpg", 0.5)]
        read = []
        theirs = part("result_writer").write_mining_result
        for write in (theirs, partial(write_mining_result, task)):
            write(rows)
            lines = task.out.mining_result.read_text("utf-8").splitlines()
            read.append([(path, float(score)) for path, score in (x.split("\t") for x in lines)])
        assert read[0] == read[1]

    def test_inference(self, task: Task, part: Callable[[str], ModuleType]) -> None:
        writer = part("result_writer")
        found = [writer.Annotation("helmet", 0.8125, writer.Box(30, 41, 50, 64))]
        writer.write_infer_result({"/in/a.jpg": found, "/in/b.jpg": []})
        theirs = json.loads(task.out.infer_result.read_text("utf-8"))["detection"]
        with InferResultWriter(task) as results:
            results.add("/in/a.jpg", [[30, 41, 80, 105, 0.8125, 0]], ("helmet",), (200, 200))
            results.add("/in/b.jpg", [], ("helmet",), (200, 200))
        ours = json.loads(task.out.infer_result.read_text("utf-8"))["detection"]
        assert {name: {"boxes": one["boxes"]} for name, one in ours.items()} == theirs

    def test_monitor(self, task: Task, part: Callable[[str], ModuleType]) -> None:
        states = part("code").ExecutorState
        ours = Monitor(task.out.monitor, task.task_id)
        pairs = (
            (lambda: part("monitor").write_monitor_logger(0.42, return_code=300001),
             lambda: ours.report(0.42)),
            (lambda: part("monitor").write_monitor_logger(0.42, states.ES_ERROR, 300002),
             lambda: ours.fail(Code.DATASET, "")),
        )  # fmt: skip
        for pair in pairs:
            read = []
            for write in pair:
                write()
                columns = task.out.monitor.read_text("utf-8").splitlines()[0].split("\t")
                read.append((columns[0], float(columns[2]), *columns[3:5]))
            assert read[0] == read[1]

    @pytest.mark.parametrize("count", [2, 14])
    def test_stages(self, task: Task, part: Callable[[str], ModuleType], count: int) -> None:
        """The best is among the first, so that it is kept for its figure and not for its age."""
        stages = []
        for number in range(count):
            name = f"epoch_{number}"
            stage_folder(task, name).mkdir(parents=True)
            (stage_folder(task, name) / "w.pt").write_bytes(b"weights")
            figure = 0.9 if number == 1 else 0.5
            stages.append(ModelStage(name, ("w.pt",), 1700000000 + number, figure, 0.4, 3, 2, 1))
        for stage in stages:
            part("result_writer").write_model_stage(
                stage.name,
                stage.files,
                {"mAP": stage.mean_ap, "mAR": stage.mean_ar, "tp": 3, "fp": 2, "fn": 1},
                timestamp=stage.timestamp,
                evaluate_config={"iou_thr": 0.5},
            )
        theirs = yaml.safe_load(task.out.training_result.read_text("utf-8"))
        write_training_result(task, stages, "epoch_1", evaluate_config={"iou_thr": 0.5})
        ours = yaml.safe_load(task.out.training_result.read_text("utf-8"))
        assert theirs.pop("attachments") == {}
        assert ours == theirs
        assert len(ours["model_stages"]) == min(count, 11)
