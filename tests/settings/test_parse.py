"""Settings: text and typed values agree, older names count, refusals name the rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from settings.detect import InferSettings, MiningSettings
from settings.parse import (
    NOT_SUPPORTED,
    SECTIONS,
    flatten_sections,
    parse_settings,
    read_hyp,
    stock_sets,
)
from settings.train import TrainSettings
from utils.errors import Code, TaskError
from ymir.task import read_task


def test_every_option_as_text_gives_the_same_settings() -> None:
    for kind in (TrainSettings, InferSettings, MiningSettings):
        values = asdict(kind())
        text = {key: str(list(v) if isinstance(v, tuple) else v) for key, v in values.items()}
        assert parse_settings(kind, text)[0] == parse_settings(kind, values)[0] == kind()


@pytest.mark.parametrize(
    ("key", "value", "name", "expected"),
    [
        pytest.param("epochs", "5e1", "epochs", 50, id="text-exponent-int"),
        pytest.param("epochs", 50.0, "epochs", 50, id="whole-float"),
        pytest.param("lr0", "1e-3", "lr0", 0.001, id="yaml-bare-exponent"),
        pytest.param("plots", "False", "plots", False, id="text-false"),
        pytest.param("onnx", "YES", "onnx", True, id="yes"),
        pytest.param("epochs", "None", "epochs", 100, id="none-means-default"),
        pytest.param("cache", "None", "cache", "none", id="none-is-a-choice-of-cache"),
        pytest.param("cache", None, "cache", "auto", id="null-means-default-even-there"),
        pytest.param("cache", False, "cache", "none", id="cache-false"),
        pytest.param("--cache", "val", "cache", "val", id="cache-val"),
        pytest.param("cos_lr", "True", "schedule", "cosine", id="cos-lr"),
        pytest.param("batch_size_per_gpu", "8", "batch_size", 8, id="ymir-batch"),
        pytest.param("--batch", 8, "batch_size", 8, id="command-line-form"),
        pytest.param("num_workers_per_gpu", "4", "workers", 4, id="ymir-workers"),
        pytest.param("map_metric", "0.5:0.95", "map_metric", "map50_95", id="map-range"),
        pytest.param("optimizer", "SGD", "optimizer", "sgd", id="v7-sgd"),
        pytest.param("--batch-size", "-1", "batch_size", -1, id="automatic-batch"),
        pytest.param("freeze", "10", "freeze", (10,), id="freeze-text"),
        pytest.param("freeze", "0 1 2", "freeze", (0, 1, 2), id="freeze-v7-command-line"),
        pytest.param("freeze", ["0", 2], "freeze", (0, 2), id="freeze-list"),
        pytest.param("resume", True, "resume", "True", id="bare-resume"),
        pytest.param("precision", "BF16", "precision", "bfloat16", id="precision-synonym"),
        pytest.param("model_formats", "[]", "model_formats", (), id="no-further-format"),
    ],
)
def test_values_and_aliases(key: str, value: object, name: str, expected: object) -> None:
    parsed, warnings = parse_settings(TrainSettings, {key: value})
    assert getattr(parsed, name) == expected
    assert type(getattr(parsed, name)) is type(expected)
    assert warnings == []


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        pytest.param("epochs", True, "a whole number", id="bool-for-int"),
        pytest.param("mosaic", "1.5", "0 to 1", id="probability"),
        pytest.param("precision", "float8", "one of auto, float32, bfloat16", id="choice"),
        pytest.param("batch_size", -2, "1 to 4096, or -1", id="below-the-automatic-batch"),
        pytest.param("freeze", "first", "a whole number, 0 to 1000", id="word-in-numbers"),
        pytest.param("freeze", -1, "0 to 1000", id="negative-in-numbers"),
        pytest.param("freeze", {"a": 1}, "a list", id="mapping-for-numbers"),
        pytest.param("optimizer", "lion", "one of sgd, adam, adamw", id="optimizer"),
        pytest.param("model", [1], "text", id="list-for-text"),
    ],
)
def test_refusals_name_key_value_and_rule(key: str, value: object, rule: str) -> None:
    with pytest.raises(TaskError) as caught:
        parse_settings(TrainSettings, {key: value})
    assert caught.value.code == Code.CONFIG
    assert key in caught.value.sentence
    assert repr(value) in caught.value.sentence
    assert rule in caught.value.sentence


@pytest.mark.parametrize("value", ["flip, rotate", "['flip','rotate']", ["Flip", "rotate"]])
def test_lists_come_in_every_form(value: object) -> None:
    assert parse_settings(MiningSettings, {"views": value})[0].views == ("flip", "rotate")


@pytest.mark.parametrize("value", ["[]", "[flip", "flip, blur", 3])
def test_lists_that_make_no_sense_are_refused(value: object) -> None:
    with pytest.raises(TaskError, match="views"):
        parse_settings(MiningSettings, {"views": value})


@pytest.mark.parametrize(
    ("values", "field", "expected"),
    [
        pytest.param({"half": "yes"}, "half", True, id="half"),
        pytest.param({"classes": "cat, 3"}, "classes", ("cat", "3"), id="classes-as-words"),
        pytest.param({"classes": [0, 2]}, "classes", ("0", "2"), id="classes-as-numbers"),
        pytest.param({"classes": 0}, "classes", ("0",), id="one-class"),
        pytest.param({"classes": "[]"}, "classes", (), id="all-classes"),
    ],
)
def test_v7s_options_of_detection(values: dict[str, object], field: str, expected: object) -> None:
    for kind in (InferSettings, MiningSettings):
        parsed, warnings = parse_settings(kind, values)
        assert getattr(parsed, field) == expected
        assert warnings == []


def test_option_and_alias_that_disagree_are_refused_naming_both() -> None:
    with pytest.raises(TaskError, match=r"batch_size \(16\).*batch_size_per_gpu \('8'\)"):
        parse_settings(TrainSettings, {"batch_size": 16, "batch_size_per_gpu": "8"})
    agreed, _ = parse_settings(TrainSettings, {"batch_size": 8, "batch_size_per_gpu": "8"})
    assert agreed.batch_size == 8


def test_a_later_layer_wins_even_under_another_name() -> None:
    parsed, _ = parse_settings(TrainSettings, {"batch_size": 16, "lr0": 0.1}, {"batch": "8"})
    assert (parsed.batch_size, parsed.lr0) == (8, 0.1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(
            {"iou_t": 0.2}, ["iou_t has no effect: v7.0 does not use it either"], id="no-effect"
        ),
        pytest.param({"zzzz": 3}, ["unknown setting zzzz, ignored"], id="nothing-near"),
        pytest.param({"evolve": "True"}, ["evolve is not supported yet, ignored"], id="evolve"),
        pytest.param({"evolve": "False", "args_options": ""}, [], id="switched-off-needs-no-word"),
        pytest.param({"gpu_id": "0", "shm_size": "64G", "task_id": "t"}, [], id="platform-keys"),
        pytest.param({"mining_algorithm": "aldd"}, [], id="another-task's-setting"),
    ],
)
def test_warnings(values: dict[str, object], expected: list[str]) -> None:
    assert parse_settings(TrainSettings, values)[1] == expected


def test_sections_of_a_settings_file() -> None:
    shared = {"img_size": 320, "infer": {"conf_thres": 0.4}, "training": {"conf_thres": 0.01}}
    assert flatten_sections(shared, "infer") == {"img_size": 320, "conf_thres": 0.4}
    assert flatten_sections(shared, "mining") == {"img_size": 320}
    with pytest.raises(TaskError, match="infer"):
        flatten_sections({"infer": [1]}, "infer")


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([item.name for item in fields(TrainSettings)] + ["junk", "batch"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
        max_size=4,
    )
)
def test_anything_gives_settings_or_a_task_error(values: dict[str, object]) -> None:
    try:
        parsed, _ = parse_settings(TrainSettings, values)
    except TaskError:
        return
    text = {k: str(list(v) if isinstance(v, tuple) else v) for k, v in asdict(parsed).items()}
    again, _ = parse_settings(TrainSettings, text)
    assert again == parsed


def test_flags_count_more_than_the_keys_beside_them() -> None:
    shared = {"args_options": "--epochs 7 --img 320 --patience 3", "epochs": 1}
    parsed, _ = parse_settings(TrainSettings, shared, {"epochs": 300})
    assert parsed.epochs == 300  # the task's key, over the flags of its settings file
    parsed, _ = parse_settings(TrainSettings, {"epochs": 300, **shared})
    assert (parsed.epochs, parsed.img_size) == (7, 320)


def test_a_set_named_in_the_flags_is_found() -> None:
    task = {"args_options": "--exist-ok --hyp hyp.VOC.yaml --cos-lr", "box": "0.06"}
    parsed, notes = parse_settings(TrainSettings, task)
    assert (parsed.box, parsed.cls, parsed.schedule) == (0.06, 0.21638, "cosine")
    assert "--exist-ok has no effect" in notes[0]


def test_inference_and_mining_read_the_flags_of_detect() -> None:
    for kind in (InferSettings, MiningSettings):
        parsed, notes = parse_settings(
            kind, {"args_options": "--conf-thres 0.4 --save-txt --img 416", "hyp": "no such set"}
        )
        assert (parsed.conf_thres, parsed.img_size) == (0.4, 416)
        assert [note.partition(":")[0] for note in notes] == ["--save-txt has no effect in a task"]


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


def test_scratch_low_is_the_default() -> None:
    values = read_hyp("scratch-low")
    assert {key: getattr(TrainSettings(), key) for key in values} == values


@pytest.mark.parametrize(("place", "name"), list(enumerate(SETS)))
def test_the_stock_sets_are_those_of_v7(place: int, name: str) -> None:
    expected = {key: row[place] for key, row in TABLE.items() if row[place] is not None}
    assert read_hyp(name) == expected


def test_no_augmentation_leaves_images_as_they_are() -> None:
    augmentation = list(TABLE)[list(TABLE).index("hsv_h") :]
    values = read_hyp("no-augmentation")
    assert {key: values[key] for key in augmentation} == dict.fromkeys(augmentation, 0.0)


@pytest.mark.parametrize("name", stock_sets())
def test_every_key_of_a_stock_set_is_known(name: str) -> None:
    assert set(read_hyp(name)) <= FIELDS | NOT_SUPPORTED
    _, warnings = parse_settings(TrainSettings, {"hyp": name})
    assert not [text for text in warnings if "unknown" in text]


@pytest.mark.parametrize(
    "name", ["voc.yaml", "hyp.VOC.yaml", "data/hyps/hyp.VOC.yaml", "configs/hyps/voc.yaml"]
)
def test_every_way_to_name_a_set(name: str) -> None:
    assert read_hyp(name) == read_hyp("voc")


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "my-hyp.yaml"
    path.write_bytes(b"# caf\xe9\nlr0: 1e-2\niou_t: 0.20\nanchors: 3.6\nlr_0: 0.1\n")
    parsed, warnings = parse_settings(TrainSettings, {"--hyp": str(path)})
    assert (parsed.lr0, parsed.anchors) == (0.01, 4)
    assert warnings == [
        "iou_t has no effect: v7.0 does not use it either",
        "unknown setting lr_0, ignored; did you mean lr0?",
    ]


def test_keys_beside_and_above_a_set_count_more_and_those_below_less() -> None:
    shared = {"hyp": "voc", "box": 0.07}
    parsed, _ = parse_settings(TrainSettings, shared, {"cls": "0.9"})
    assert (parsed.box, parsed.cls, parsed.obj) == (0.07, 0.9, 0.51728)
    # The task names another set than its file, which fills in every key as a form does.
    form = {item.name: item.default for item in fields(TrainSettings)}
    for file in (shared, form):
        parsed, notes = parse_settings(TrainSettings, file, {"hyp": "objects365", "cls": 0.9})
        assert (parsed.box, parsed.obj, parsed.cls) == (0.0539, 0.632, 0.9)
        assert not notes


def test_defaults_that_hide_the_set_beside_them_are_named() -> None:
    parsed, (note,) = parse_settings(
        TrainSettings, {"hyp": "voc", "box": 0.05, "obj": "1.0", "cls": 0.7}
    )
    assert (parsed.box, parsed.obj, parsed.cls) == (0.05, 1.0, 0.7)
    assert note == (
        "box, obj: the defaults given beside hyp count more than the set voc; leave these lines "
        "out to train with its values"
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param("- 1\n- 2\n", "must hold keys with values", id="a list"),
        pytest.param("lr0: [", "is not valid YAML", id="not YAML"),
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


CONFIGS = Path(__file__).resolve().parents[2] / "configs"

# What differs from the defaults, per section; the hyper-parameter set of accurate.yaml aside.
DIFFERENCES: dict[str, dict[str, dict[str, object]]] = {
    "default": {"training": {}, "infer": {}, "mining": {}},
    "fast": {
        "training": {
            "model": "yolov5n", "img_size": 320, "batch_size": 32, "epochs": 30, "patience": 10,
        },
        "infer": {"img_size": 320, "batch_size": 32},
        "mining": {"img_size": 320, "batch_size": 32, "views": ("flip", "resize")},
    },
    "accurate": {
        "training": {
            "model": "yolov5m", "img_size": 960, "batch_size": -1, "epochs": 300, "patience": 50,
            "hyp": "scratch-med",
        },
        "infer": {"img_size": 960, "augment": True},
        "mining": {"img_size": 960},
    },
    "cpu": {
        "training": {
            "model": "yolov5n", "img_size": 416, "batch_size": 8, "epochs": 50, "patience": 15,
            "workers": 0,
        },
        "infer": {"img_size": 416, "batch_size": 8, "workers": 0},
        "mining": {"img_size": 416, "batch_size": 8, "workers": 0},
    },
}  # fmt: skip


def test_every_ready_file_has_its_row() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(DIFFERENCES)


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_file_differs_from_the_defaults_as_it_says(name: str, section: str) -> None:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text("utf-8"))
    assert set(content) <= set(SECTIONS)
    kind = SECTIONS[section]
    settings, warnings = parse_settings(kind, content[section])
    assert warnings == []
    defaults = asdict(kind())
    expected = dict(DIFFERENCES[name][section])
    if "hyp" in expected:
        stock, _ = parse_settings(kind, read_hyp(str(expected["hyp"])))
        expected |= {key: value for key, value in asdict(stock).items() if value != defaults[key]}
    found = {key: value for key, value in asdict(settings).items() if value != defaults[key]}
    assert found == expected


def test_a_task_takes_the_file_and_overrides_it(make_task: Callable[..., Path]) -> None:
    config = {"code_config": "configs/fast.yaml", "batch_size": "3"}
    task = read_task(make_task("mining infer", config=config))
    assert task.infer == InferSettings(img_size=320, batch_size=3)
    assert task.mining == MiningSettings(img_size=320, batch_size=3, views=("flip", "resize"))
    assert task.warnings == ()
