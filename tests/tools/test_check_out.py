"""The checker accepts a right example and says in words what is wrong with each broken one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

from tests.tools.task_example import TASK_ID, Example, only_finding
from tools.check_out import check_out, main


def test_a_sound_training_is_accepted(
    training: Example, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_out(training.root) == []
    assert main([str(training.root)]) == 0
    assert "as the protocol wants it" in capsys.readouterr().out


MONITOR = [
    pytest.param("", "monitor.columns", "has 1 columns", id="empty"),
    pytest.param(f"{TASK_ID}\t1700000000\t1", "monitor.columns", "has 3 columns", id="three"),
    pytest.param(
        f"{TASK_ID}\t1700000000\t1\t2" + "\t0" * 3, "monitor.columns", "7 col", id="seven"
    ),
    pytest.param("t2\t1700000000.0\t1\t2\t0", "monitor.task_id", "'t2'", id="other task"),
    pytest.param(f"{TASK_ID}\tnoon\t1\t2\t0", "monitor.time", "'noon'", id="time word"),
    pytest.param(f"{TASK_ID}\t1700000000123\t1\t2\t0", "monitor.time", "seconds", id="millis"),
    pytest.param(f"{TASK_ID}\t1700000000\t1.2\t2\t0", "monitor.progress", "'1.2'", id="above 1"),
    pytest.param(f"{TASK_ID}\t1700000000\tnan\t2\t0", "monitor.progress", "'nan'", id="nan"),
    pytest.param(f"{TASK_ID}\t1700000000\t0.4\t2\t0", "monitor.unfinished", "0.4", id="early end"),
    pytest.param(f"{TASK_ID}\t1700000000\t1\t7\t0", "monitor.state", "'7'", id="state 7"),
    pytest.param(f"{TASK_ID}\t1700000000\t1\t2.0\t0", "monitor.state", "'2.0'", id="state float"),
    pytest.param(f"{TASK_ID}\t1700000000\t0\t1\t0", "monitor.pending", "pending", id="pending"),
    pytest.param(f"{TASK_ID}\t1700000000\t0\t1", "monitor.pending", "never", id="never run"),
    pytest.param(f"{TASK_ID}\t1700000000\t1\t2\t300001", "monitor.code", "300001", id="code"),
    pytest.param(f"{TASK_ID}\t1700000000\t1\t4\t300002", "monitor.failed", "300002", id="failed"),
]


@pytest.mark.parametrize(("line", "rule", "words"), MONITOR)
def test_monitor(line: str, rule: str, words: str, looking: Example) -> None:
    looking.monitor(line)
    only_finding(looking.root, rule, words)


def test_monitor_with_text_and_without_a_code(looking: Example) -> None:
    assert check_out(looking.root) == []
    looking.monitor(f"{TASK_ID}\t1700000000.5\t1.00\t2")  # as an older SDK writes it
    assert check_out(looking.root) == []
    looking.monitor(f"{TASK_ID}\t1700000000\t1\t2\t0" + "\nframe" * 98)
    assert check_out(looking.root) == []
    looking.monitor(f"{TASK_ID}\t1700000000\t1\t2\t0" + "\nframe" * 99)
    only_finding(looking.root, "monitor.lines", "at most 99")


def test_monitor_in_another_encoding_or_missing(looking: Example) -> None:
    (looking.out / "monitor.txt").write_bytes(b"t1\t1700000000\t1\t2\t0\tK\xf6ln\n")
    only_finding(looking.root, "monitor.encoding", "not UTF-8")
    (looking.out / "monitor.txt").unlink()
    only_finding(looking.root, "monitor.missing", "no progress is ever seen")


def test_a_failure_is_reported_as_one(looking: Example) -> None:
    for name in ("result.tsv", "infer-result.json"):
        (looking.out / name).unlink()
    only_finding(looking.root, "monitor.not_failed", "not 4", failed=True)
    looking.monitor(f"{TASK_ID}\t1700000000.000001\t0.3\t4\t300002\tno images")
    assert check_out(looking.root, failed=True) == []
    looking.monitor(f"{TASK_ID}\t1700000000.000001\t0.3\t4\t0")
    only_finding(looking.root, "monitor.code", "no code of a failure", failed=True)


def test_tensorboard(training: Example) -> None:
    (events,) = (training.out / "tensorboard").glob("events.*")
    inner = events.rename(events.parent / "run" / events.name)
    assert check_out(training.root) == []
    inner.write_bytes(b"")
    only_finding(training.root, "tensorboard", "no TensorBoard events")


@pytest.mark.parametrize("name", [".result.yaml.12.tmp", "models/x.pt.part", "models/best/.cache"])
def test_strays(name: str, training: Example) -> None:
    (training.out / name).write_text("half")
    only_finding(training.root, "stray", "left behind")


def test_container_paths_are_found_below_the_task(looking: Example) -> None:
    """A task that ran in a container says /in and /out; it is checked outside just as well."""
    for path in (*(looking.root / "in").glob("*.*"), looking.out / "result.tsv"):
        path.write_text(path.read_text().replace(str(looking.root), "/container"))
    assert check_out(looking.root) == []


def test_a_copy_is_judged_and_not_the_folder_it_was_copied_from(looking: Example) -> None:
    copy = looking.root.parent / f"{looking.root.name}-copy"
    shutil.copytree(looking.root, copy)
    (copy / "out" / "result.tsv").unlink()
    (looking.out / "infer-result.json").unlink()
    assert [finding.sentence for finding in check_out(copy)] == [
        f"{copy / 'out' / 'result.tsv'} does not exist; the platform fails the task."
    ]


def test_folders_of_the_machine_that_have_a_containers_names_are_not_read(
    looking: Example, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An empty /in, say: here another folder, since a test may not create one there."""
    container = tmp_path_factory.mktemp("container")
    for name in ("in", "out"):
        (container / name).mkdir()
    for path in (*(looking.root / "in").glob("*.*"), looking.out / "result.tsv"):
        path.write_text(path.read_text().replace(str(looking.root), str(container)))
    assert check_out(looking.root) == []


@pytest.mark.parametrize("place", ["/elsewhere/monitor.txt", "../monitor.txt"])
def test_a_file_outside_of_the_folder_is_no_file_of_the_task(place: str, looking: Example) -> None:
    env_file = looking.root / "in" / "env.yaml"
    env = yaml.safe_load(env_file.read_text())
    env["output"]["monitor_file"] = place
    env_file.write_text(yaml.safe_dump(env))
    only_finding(looking.root, "task.unreadable", "monitor_file")


def test_names_that_are_not_utf_8(looking: Example) -> None:
    """A candidate in the index and in the results by its bytes."""
    old, new = b"ab12.jpg", b"\xc4\xe3\xba\xc3.jpg"
    (looking.root / "in/assets/ab12.jpg").rename(looking.root / "in/assets" / os.fsdecode(new))
    index, scores = looking.root / "in/candidate-index.tsv", looking.out / "result.tsv"
    for path in (index, scores):
        path.write_bytes(path.read_bytes().replace(old, new))
    looking.infer(
        lambda content: content["detection"].update(
            {os.fsdecode(new): content["detection"].pop("ab12.jpg")}
        )
    )
    assert check_out(looking.root) == []


@pytest.mark.parametrize("root", [".", "../in"])
def test_a_task_with_relative_paths(root: str, looking: Example) -> None:
    env_file = looking.root / "in" / "env.yaml"
    env = yaml.safe_load(env_file.read_text())
    names = {"candidate_index_file": "candidate-index.tsv", "config_file": "config.yaml"}
    env |= {"input": {"root_dir": root, **names}, "output": {"root_dir": "../out"}}
    env_file.write_text(yaml.safe_dump(env))
    for path in (looking.root / "in/candidate-index.tsv", looking.out / "result.tsv"):
        path.write_text(path.read_text().replace(f"{looking.root}/in/", ""))
    assert check_out(looking.root) == []
    env["input"]["config_file"] = "../../config.yaml"
    env_file.write_text(yaml.safe_dump(env))
    only_finding(looking.root, "task.unreadable", "config_file")


def test_a_folder_without_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only_finding(tmp_path, "task.unreadable", "no in/env.yaml")
    assert main([str(tmp_path)]) == 1
    assert "task.unreadable" in capsys.readouterr().out
