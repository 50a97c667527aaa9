"""The template of a live-code repository does every kind of task as the protocol wants it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tools.check_out import check_out
from tools.draw_dataset import CLASS_NAMES as NAMES
from tools.make_task import write_task
from tools.sources import SourceDataset

TEMPLATE = Path(__file__).resolve().parent.parent.parent / "template"


def run(env_file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TEMPLATE / "start.py"), str(env_file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_small() -> None:
    assert len((TEMPLATE / "start.py").read_text().splitlines()) < 150


@pytest.mark.parametrize("kinds", [("training",), ("mining",), ("infer",), ("mining", "infer")])
def test_every_kind_of_task(drawn: SourceDataset, tmp_path: Path, kinds: tuple[str, ...]) -> None:
    env_file = write_task(drawn, tmp_path / "task", kinds=kinds, limit=3)
    done = run(env_file)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == f"DONE: the results are in {tmp_path / 'task' / 'out'}"
    assert check_out(tmp_path / "task") == []


def test_items_and_progress_come_from_the_sdk(drawn: SourceDataset, tmp_path: Path) -> None:
    task = tmp_path / "task"
    done = run(write_task(drawn, task, limit=2))
    assert "2 images to train on, 2 to validate on" in done.stdout
    result = yaml.safe_load((task / "out" / "models" / "result.yaml").read_text())
    assert result == {"model": ["best.pt"], "map": 0.5, "class_aps": dict.fromkeys(NAMES, 0.5)}
    columns = (task / "out" / "monitor.txt").read_text().rstrip().split("\t")
    assert columns[2:] == ["1.00", "2"]


@pytest.mark.parametrize(("name", "wanted"), [("a", 0.5), ("b", 0.9)])
def test_code_config_chooses_and_the_form_overrides(
    drawn: SourceDataset, tmp_path: Path, name: str, wanted: float
) -> None:
    for folder, more, expected in (("one", {}, wanted), ("two", {"confidence": "0.7"}, 0.7)):
        chosen = {"code_config": f"configs/{name}.yaml", **more}
        root = tmp_path / folder
        run(write_task(drawn, root, kinds=("infer",), limit=1, settings=chosen))
        content = json.loads((root / "out" / "infer-result.json").read_text())
        (record,) = content["detection"].values()
        assert record["annotations"][0]["score"] == expected


WRONG = [
    pytest.param({"code_config": "../start.py"}, "code_config must name", id="outside"),
    pytest.param({"code_config": "configs/c.yaml"}, "code_config must name", id="absent"),
    pytest.param({"confidence": "much"}, "confidence must be a number", id="no number"),
]


@pytest.mark.parametrize(("settings", "words"), WRONG)
def test_a_mistake_ends_in_a_sentence(
    drawn: SourceDataset, tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    done = run(write_task(drawn, tmp_path / "task", kinds=("infer",), limit=1, settings=settings))
    assert done.returncode == 1
    assert words in done.stdout.splitlines()[-1]
    assert "\t4\t300001" in (tmp_path / "task" / "out" / "monitor.txt").read_text()
    assert check_out(tmp_path / "task", failed=True) == []


def test_no_task_is_a_sentence(tmp_path: Path) -> None:
    done = run(tmp_path / "env.yaml")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(f"There is no task at {tmp_path / 'env.yaml'}: give")


def test_both_configs_have_the_same_keys() -> None:
    a, b = (yaml.safe_load((TEMPLATE / "configs" / f"{n}.yaml").read_text()) for n in "ab")
    assert a.keys() == b.keys()
    assert a != b
