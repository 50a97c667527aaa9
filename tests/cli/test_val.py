"""The command line of val.py: splits, thresholds, class numbers, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cli.options import RunName
from cli.val import ValCommand, parse_val_command, with_class_order
from data.dataset_index import DatasetIndex
from data.instances import Instances
from utils.errors import TaskError


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def parse(text: str) -> ValCommand:
    return parse_val_command(f"--weights best.pt {text}".split())


def test_a_command_line_of_v7() -> None:
    command = parse(
        "--data d.yaml --task test --imgsz 320 --conf-thres 0.01 --save-json --device cpu"
    )
    assert (command.description, command.split) == (Path("d.yaml"), "test")
    settings = command.settings
    assert (settings.img_size, settings.conf_thres, settings.iou_thres) == (320, 0.01, 0.6)
    assert (command.save_json, command.save_labels) == (True, False)
    assert command.run == RunName(Path("runs/val"))


@pytest.mark.parametrize(
    ("words", "run", "plots"),
    [
        pytest.param("", RunName(Path("runs/val")), True, id="a run folder"),
        pytest.param("--noplots", RunName(Path("runs/val")), False, id="noplots"),
        pytest.param("--plots false", RunName(Path("runs/val")), False, id="plots false"),
        pytest.param("--report a/b", RunName(Path("a"), "b", exist_ok=True), True, id="report"),
        pytest.param("--nosave", None, True, id="nosave"),
    ],
)
def test_where_files_go(words: str, run: RunName | None, plots: bool) -> None:
    command = parse(f"--index a.tsv {words}")
    assert (command.index_file, command.run) == (Path("a.tsv"), run)
    assert command.settings.plots is plots
    assert (command.settings.conf_thres, command.settings.max_det) == (0.001, 300)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        pytest.param("--task speed", "--task speed is refused", id="speed"),
        pytest.param("--task study", "one of train, val, test", id="study"),
        pytest.param("--nosave --save-txt", "--save-txt wants a file", id="nosave"),
        pytest.param("--save-hybrid", "raise every score", id="hybrid"),
        pytest.param("--weights a.pt b.pt", "name one", id="ensemble"),
        pytest.param("--iou-thres x", "it must be a number", id="value"),
    ],
)
def test_refusals(words: str, sentence: str) -> None:
    with pytest.raises(TaskError, match=sentence):
        parse(f"--data d.yaml {words}")


@pytest.mark.parametrize("words", ["", "--data d.yaml --index a.tsv", "--data d.yaml --what"])
def test_a_wrong_form_ends_with_the_usage(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(words)
    assert "usage: val.py" in capsys.readouterr().err


def labelled(*names: str) -> DatasetIndex:
    boxes = np.tile([0.0, 0.0, 2.0, 2.0], (3, 1))
    return DatasetIndex.build(["a.jpg"], [[4, 4]], Instances(boxes, [0, 1, 1]), [3], names)


def test_classes_are_matched_by_name() -> None:
    same, turned = (with_class_order(labelled(*n), ("a", "b")) for n in (("a", "b"), ("b", "a")))
    assert same.classes.tolist() == [0, 1, 1]
    assert turned.classes.tolist() == [1, 0, 0]
    assert turned.class_names == ("a", "b")


def test_other_classes_are_refused() -> None:
    with pytest.raises(TaskError, match="the data set knows the classes a, c and the weights a, b"):
        with_class_order(labelled("a", "c"), ("a", "b"))


@pytest.mark.parametrize(("val", "is_coco"), [("coco/val2017.txt", True), ("images/val", False)])
def test_cocos_own_split_is_known(val: str, is_coco: bool) -> None:
    Path("d.yaml").write_text(f"val: {val}\nnames: [a]\n")
    assert parse("--data d.yaml").is_coco is is_coco
