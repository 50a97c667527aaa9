"""Hyper-parameter sets: v7.0's values, every way to name one, what counts more, refusals."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from settings.hyp_file import read_hyp, stock_sets
from settings.option_names import NOT_SUPPORTED
from settings.parse import parse_settings
from settings.train import TrainSettings
from utils.errors import Code, TaskError

# Training.md section 2 of the specification of v7.0: name to scratch-low, -med, -high, VOC, O365.
TABLE = {
    "lr0": (0.01, 0.01, 0.01, 0.00334, 0.00258),
    "lrf": (0.01, 0.1, 0.1, 0.15135, 0.17),
    "momentum": (0.937, 0.937, 0.937, 0.74832, 0.779),
    "weight_decay": (0.0005, 0.0005, 0.0005, 0.00025, 0.00058),
    "warmup_epochs": (3.0, 3.0, 3.0, 3.3835, 1.33),
    "warmup_momentum": (0.8, 0.8, 0.8, 0.59462, 0.86),
    "warmup_bias_lr": (0.1, 0.1, 0.1, 0.18657, 0.0711),
    "box": (0.05, 0.05, 0.05, 0.02, 0.0539),
    "cls": (0.5, 0.3, 0.3, 0.21638, 0.299),
    "cls_pw": (1.0, 1.0, 1.0, 0.5, 0.825),
    "obj": (1.0, 0.7, 0.7, 0.51728, 0.632),
    "obj_pw": (1.0, 1.0, 1.0, 0.67198, 1.0),
    "anchor_t": (4.0, 4.0, 4.0, 3.3744, 3.44),
    "anchors": (None, None, None, 3, 3),
    "fl_gamma": (0.0, 0.0, 0.0, 0.0, 0.0),
    "hsv_h": (0.015, 0.015, 0.015, 0.01041, 0.0188),
    "hsv_s": (0.7, 0.7, 0.7, 0.54703, 0.704),
    "hsv_v": (0.4, 0.4, 0.4, 0.27739, 0.36),
    "degrees": (0.0, 0.0, 0.0, 0.0, 0.0),
    "translate": (0.1, 0.1, 0.1, 0.04591, 0.0902),
    "scale": (0.5, 0.9, 0.9, 0.75544, 0.491),
    "shear": (0.0, 0.0, 0.0, 0.0, 0.0),
    "perspective": (0.0, 0.0, 0.0, 0.0, 0.0),
    "flipud": (0.0, 0.0, 0.0, 0.0, 0.0),
    "fliplr": (0.5, 0.5, 0.5, 0.5, 0.5),
    "mosaic": (1.0, 1.0, 1.0, 0.85834, 1.0),
    "mixup": (0.0, 0.1, 0.1, 0.04266, 0.0),
    "copy_paste": (0.0, 0.0, 0.1, 0.0, 0.0),
}
SETS = ("scratch-low", "scratch-med", "scratch-high", "voc", "objects365")
FIELDS = {item.name for item in fields(TrainSettings)}

# A file as people have it, v7.0's own keys and spelling.
OWN = """# my run
lr0: 1e-2
lrf: 0.2
iou_t: 0.20
anchor_t: 3.0
anchors: 3.6
hsv_h: 0.02
"""


@pytest.mark.parametrize(("place", "name"), list(enumerate(SETS)))
def test_the_stock_sets_are_those_of_v7(place: int, name: str) -> None:
    expected = {key: row[place] for key, row in TABLE.items() if row[place] is not None}
    assert read_hyp(name) == expected


def test_no_augmentation_leaves_images_as_they_are() -> None:
    augmentation = list(TABLE)[list(TABLE).index("hsv_h") :]
    values = read_hyp("no-augmentation")
    assert {key: values[key] for key in augmentation} == dict.fromkeys(augmentation, 0.0)


def test_scratch_low_is_the_default() -> None:
    named, _ = parse_settings(TrainSettings, {"hyp": "scratch-low"})
    plain, _ = parse_settings(TrainSettings)
    assert {n: getattr(named, n) for n in FIELDS - {"hyp"}} == {
        n: getattr(plain, n) for n in FIELDS - {"hyp"}
    }


@pytest.mark.parametrize("name", stock_sets())
def test_every_key_of_a_stock_set_is_known(name: str) -> None:
    assert set(read_hyp(name)) <= FIELDS | NOT_SUPPORTED
    _, warnings = parse_settings(TrainSettings, {"hyp": name})
    assert not [text for text in warnings if "unknown" in text]


@pytest.mark.parametrize(
    "name",
    [
        "scratch-med",
        "scratch-med.yaml",
        "hyp.scratch-med.yaml",
        "data/hyps/hyp.scratch-med.yaml",
        "configs/hyps/scratch-med.yaml",
    ],
)
def test_every_way_to_name_a_set(name: str) -> None:
    assert read_hyp(name) == read_hyp("scratch-med")


def test_v7_names_with_capitals() -> None:
    assert read_hyp("hyp.VOC.yaml") == read_hyp("voc")
    assert read_hyp("hyp.Objects365.yaml") == read_hyp("objects365")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "my-hyp.yaml"
    path.write_text(OWN)
    parsed, warnings = parse_settings(TrainSettings, {"hyp": str(path)})
    assert (parsed.lr0, parsed.lrf, parsed.anchor_t, parsed.anchors) == (0.01, 0.2, 3.0, 4)
    assert warnings == ["iou_t has no effect: v7.0 does not use it either"]


def test_every_key_of_a_task_or_its_file_counts_more_than_the_set() -> None:
    shared = {"hyp": "voc", "box": 0.07}
    parsed, _ = parse_settings(TrainSettings, shared, {"cls": "0.9"})
    assert (parsed.box, parsed.cls, parsed.obj) == (0.07, 0.9, 0.51728)
    # A task may name another set than its file; the file's own keys still count more.
    parsed, _ = parse_settings(TrainSettings, shared, {"hyp": "objects365"})
    assert (parsed.box, parsed.obj) == (0.07, 0.632)


def test_unknown_keys_of_a_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "my-hyp.yaml"
    path.write_text("lr_0: 0.1\n")
    _, warnings = parse_settings(TrainSettings, {"hyp": str(path)})
    assert warnings == ["unknown setting lr_0, ignored; did you mean lr0?"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param("- 1\n- 2\n", "must hold keys with values", id="a list"),
        pytest.param("lr0: [", "cannot be read as YAML", id="not YAML"),
        pytest.param("lr0: fast\n", "lr0 is 'fast'; it must be a number", id="a word"),
        pytest.param("anchors: many\n", "anchors is 'many'; it must be a number", id="anchors"),
    ],
)
def test_files_that_make_no_sense_are_refused(content: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "my-hyp.yaml"
    path.write_text(content)
    with pytest.raises(TaskError, match=r"my-hyp|setting") as caught:
        parse_settings(TrainSettings, {"hyp": str(path)})
    assert caught.value.code == Code.CONFIG
    assert sentence in caught.value.sentence


def test_a_missing_set_is_refused_with_those_there_are() -> None:
    with pytest.raises(TaskError, match="one of no-augmentation, objects365, scratch-high"):
        read_hyp("hyp.scratch-huge.yaml")
    with pytest.raises(TaskError, match=r"no hyper-parameter file elsewhere/voc\.yaml"):
        read_hyp("elsewhere/voc.yaml")
