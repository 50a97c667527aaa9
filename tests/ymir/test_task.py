"""Reading a task: every form that platforms and people write; refusals with a code."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from settings.detect import InferSettings, MiningSettings
from settings.train import TrainSettings
from utils.errors import Code, TaskError
from ymir.task import fallback_monitor_path, open_monitor, read_task
from ymir.task_types import stage_folder

MakeTask = Callable[..., Path]


def refused(env_file: Path) -> TaskError:
    with pytest.raises(TaskError) as caught:
        read_task(env_file)
    assert caught.value.sentence.endswith(".")
    assert "\n" not in caught.value.sentence
    return caught.value


def test_a_training_task(make_task: MakeTask, tmp_path: Path) -> None:
    task = read_task(make_task(config={"epochs": "50", "shm_size": "32G"}))
    assert (task.task_id, task.protocol) == ("t0001", (1, 1, 0))
    assert (task.run_training, task.run_mining, task.run_infer) == (True, False, False)
    assert task.class_names == ("helmet", "vest")
    assert task.train == TrainSettings(epochs=50)
    assert (task.mining, task.infer, task.weights, task.warnings) == (None, None, (), ())
    assert task.train_index == tmp_path / "in" / "train-index.tsv"
    assert task.val_index == tmp_path / "in" / "val-index.tsv"
    assert task.candidate_index is None
    assert task.out.training_result == tmp_path / "out" / "models" / "result.yaml"
    assert task.out.monitor == tmp_path / "out" / "monitor.txt"
    assert stage_folder(task, "best") == tmp_path / "out" / "models" / "best"


def test_mining_with_inference(make_task: MakeTask, tmp_path: Path) -> None:
    env_file = make_task("mining infer", config={"conf_thres": "0.1", "class_names": []})
    task = read_task(env_file)
    assert task.mining == MiningSettings(conf_thres=0.1)
    assert task.infer == InferSettings(conf_thres=0.1)
    assert task.train is None
    assert task.class_names == ()
    assert task.candidate_index == tmp_path / "in" / "candidate-index.tsv"
    assert task.weights == (tmp_path / "in" / "models" / "best.pt",)


def test_all_options_as_text_give_the_same_task(make_task: MakeTask) -> None:
    typed = {"class_names": ["a", "b"], "gpu_id": 0, "gpu_count": 1, "object_type": 2, "epochs": 3}
    text = {key: str(value) for key, value in typed.items()}
    env_flags = {"run_training": "True", "run_mining": "False", "run_infer": "no"}
    expected = read_task(make_task(config=typed))
    assert read_task(make_task(config=text, env=env_flags)) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param({"gpu_id": ""}, (), id="empty-is-cpu"),
        pytest.param({"gpu_id": None}, (), id="absent-is-cpu"),
        pytest.param({"gpu_id": "0", "gpu_count": 0}, (), id="no-gpu-granted"),
        pytest.param({"gpu_id": "0"}, (0,), id="text"),
        pytest.param({"gpu_id": "0,1", "gpu_count": 2}, (0, 1), id="two"),
        pytest.param({"gpu_id": [0, 1]}, (0, 1), id="list"),
        pytest.param({"gpu_id": "7"}, (7,), id="out-of-range-is-for-the-device-to-say"),
    ],
)
def test_gpu_ids(make_task: MakeTask, config: dict, expected: tuple[int, ...]) -> None:
    assert read_task(make_task(config=config)).gpu_ids == expected


@pytest.mark.parametrize(
    ("stated", "variable", "expected"),
    [
        pytest.param("1.1.0", "", (1, 1, 0), id="stated"),
        pytest.param(None, "", (0, 0, 0), id="absent"),
        pytest.param("", "", (0, 0, 0), id="empty"),
        pytest.param(None, "1.2.2", (1, 0, 0), id="absent-on-1.2"),
        pytest.param(None, "1.1.0", (0, 0, 0), id="absent-on-1.1"),
        pytest.param("1.1.0", "1.2.2", (1, 1, 0), id="stated-wins"),
        pytest.param(1.1, "", (1, 1, 0), id="yaml-number"),
        pytest.param("1.10.2rc1", "", (1, 10, 2), id="suffix"),
    ],
)
def test_protocol(
    make_task: MakeTask,
    monkeypatch: pytest.MonkeyPatch,
    stated: object,
    variable: str,
    expected: tuple,
) -> None:
    monkeypatch.setenv("YMIR_VERSION", variable)
    task = read_task(make_task(env={"protocol_version": stated}))
    assert task.protocol == expected
    flat = expected < (1, 1, 0)
    assert (stage_folder(task, "best") == task.out.models) is flat


@pytest.mark.parametrize(
    ("env", "config", "said"),
    [
        pytest.param({}, {"gpu_id": "-1"}, "gpu_id is '-1'", id="gpu-negative"),
        pytest.param({"output": {"root_dir": 3}}, {}, "root_dir is 3", id="path"),
        pytest.param({}, {"code_config": "/etc/passwd"}, "inside the repository", id="absolute"),
    ],
)
def test_refusals(make_task: MakeTask, env: dict, config: dict, said: str) -> None:
    error = refused(make_task(env=env, config=config))
    assert (error.code, said in error.sentence) == (Code.CONFIG, True), error.sentence


@pytest.mark.parametrize("name", ["env.yaml", "config.yaml"])
def test_missing_files(make_task: MakeTask, name: str) -> None:
    env_file = make_task()
    env_file.with_name(name).unlink()
    error = refused(env_file)
    assert error.code == Code.CONFIG
    assert str(env_file.with_name(name)) in error.sentence
    assert ("tools.make_task` writes a task" in error.sentence) == (name == "env.yaml")


def test_training_goes_alone(make_task: MakeTask) -> None:
    task = read_task(make_task(env={"run_mining": True, "run_infer": True}))
    assert (task.run_training, task.run_mining, task.run_infer) == (True, False, False)
    assert "only training" in task.warnings[0]


def test_warnings_are_told_once_for_both_tasks(make_task: MakeTask) -> None:
    task = read_task(make_task("mining infer", config={"img_size": "300"}))
    assert task.warnings == ("img_size 300 is not a multiple of 32: 320 is used",)


def test_settings_come_in_three_layers(make_task: MakeTask, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    (repository / "configs").mkdir(parents=True)
    shared = {"epochs": 7, "batch_size": 4, "training": {"lr0": 0.5}, "mining": {"seed": 3}}
    (repository / "configs" / "mine.yaml").write_text(yaml.safe_dump(shared))
    env_file = make_task(config={"code_config": "configs/mine.yaml", "batch_size_per_gpu": "2"})
    task = read_task(env_file, repository=repository)
    assert task.train == TrainSettings(epochs=7, batch_size=2, lr0=0.5)


def test_paths_of_the_sdk_s_sample_are_relative(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 4: relative values join their root, a relative root the folder of env.yaml."""
    places = {"root_dir": ".", "models_dir": "models", "candidate_index_file": "lists/c.tsv"}
    results = {"root_dir": "../out", "mining_result_file": "result.txt"}
    make_task("mining infer", env={"input": places, "output": results})
    monkeypatch.chdir(tmp_path)
    task = read_task(Path("in/env.yaml"))
    assert task.candidate_index == tmp_path / "in" / "lists" / "c.tsv"
    assert task.out.mining_result.resolve() == tmp_path / "out" / "result.txt"
    assert task.weights[0].is_file()


def test_missing_keys_take_the_platform_s_places(make_task: MakeTask) -> None:
    env_file = make_task(env={"output": None})
    task = read_task(env_file)
    assert str(task.out.infer_result) == "/out/infer-result.json"
    assert str(task.out.training_result) == "/out/models/result.yaml"


@pytest.mark.parametrize(
    ("env_file", "expected"),
    [
        ("/in/env.yaml", "/out/monitor.txt"),
        ("/data/task7/in/env.yaml", "/data/task7/out/monitor.txt"),
        ("/data/task7/env.yaml", "/out/monitor.txt"),
    ],
)
def test_fallback_monitor_path(env_file: str, expected: str) -> None:
    assert str(fallback_monitor_path(Path(env_file))) == expected


@pytest.mark.parametrize(
    ("content", "task_id"),
    [
        pytest.param(None, "default-task", id="missing"),
        pytest.param(b"a: [1", "default-task", id="broken"),
        pytest.param(b"task_id: t7\n", "t7", id="no-sections"),
        pytest.param(b"task_id: 'a b'\noutput: {root_dir: ../out}", "default-task", id="odd-id"),
    ],
)
def test_a_failure_to_read_the_task_still_reaches_a_monitor(
    make_task: MakeTask, tmp_path: Path, content: bytes | None, task_id: str
) -> None:
    env_file = make_task()
    env_file.unlink() if content is None else env_file.write_bytes(content)
    monitor = open_monitor(env_file)
    assert monitor.task_id == task_id
    expected = Path("/out") if content == b"task_id: t7\n" else tmp_path / "out"
    assert Path(os.path.abspath(monitor.path)) == expected / "monitor.txt"


def test_the_monitor_of_a_good_task(make_task: MakeTask, tmp_path: Path) -> None:
    env_file = make_task(env={"output": {"root_dir": str(tmp_path), "monitor_file": "m.txt"}})
    monitor = open_monitor(env_file)
    assert (monitor.path, monitor.task_id) == (tmp_path / "m.txt", "t0001")


def test_flags_and_a_hyper_parameter_set_of_a_task(make_task: Callable[..., Path]) -> None:
    """What tasks of the older YOLOv5 repositories carry beside the form's own keys."""
    flags = "--exist-ok --cos-lr --noplots --device 0 --hyp hyp.scratch-med.yaml"
    task = read_task(make_task(config={"args_options": flags, "obj": "0.9", "lrf": "None"}))
    assert task.train is not None
    settings = task.train
    assert (settings.schedule, settings.plots) == ("cosine", False)
    assert (settings.cls, settings.obj, settings.lrf) == (0.3, 0.9, 0.1)
    told = [warning.split()[0] for warning in task.warnings]
    assert {"--exist-ok", "--device"} <= set(told)
