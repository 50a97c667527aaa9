"""Settings: text and typed values agree, older names count, refusals name the rule."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from settings.detect import InferSettings, MiningSettings
from settings.parse import SECTIONS, flatten_sections, parse_settings
from settings.train import TrainSettings
from utils.errors import Code, TaskError

DEFAULTS = Path(__file__).resolve().parents[2] / "configs" / "default.yaml"


@pytest.mark.parametrize("section", SECTIONS)
def test_default_yaml_equals_the_data_classes(section: str) -> None:
    kind = SECTIONS[section]
    values = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))[section]
    assert set(values) == {item.name for item in fields(kind)}
    parsed, warnings = parse_settings(kind, values)
    assert parsed == kind()
    assert warnings == []
    assert all(
        values[k] == (list(v) if isinstance(v, tuple) else v) for k, v in asdict(kind()).items()
    )


def test_default_yaml_explains_every_setting() -> None:
    for line in DEFAULTS.read_text(encoding="utf-8").splitlines():
        if line.startswith("  ") and ":" in line.split("#")[0]:
            assert "  #" in line or " # " in line, line


def test_every_option_as_text_gives_the_same_settings() -> None:
    for kind in (TrainSettings, InferSettings, MiningSettings):
        values = asdict(kind())
        text = {key: str(list(v) if isinstance(v, tuple) else v) for key, v in values.items()}
        assert parse_settings(kind, text)[0] == parse_settings(kind, values)[0] == kind()


@pytest.mark.parametrize(
    ("key", "value", "name", "expected"),
    [
        pytest.param("epochs", "50", "epochs", 50, id="text-int"),
        pytest.param("epochs", "5e1", "epochs", 50, id="text-exponent-int"),
        pytest.param("epochs", 50.0, "epochs", 50, id="whole-float"),
        pytest.param("lr0", "1e-3", "lr0", 0.001, id="yaml-bare-exponent"),
        pytest.param("lr0", 1, "lr0", 1.0, id="int-for-float"),
        pytest.param("plots", "False", "plots", False, id="text-false"),
        pytest.param("plots", "off", "plots", False, id="off"),
        pytest.param("plots", 0, "plots", False, id="zero"),
        pytest.param("onnx", "YES", "onnx", True, id="yes"),
        pytest.param("epochs", "None", "epochs", 100, id="none-means-default"),
        pytest.param("epochs", "", "epochs", 100, id="empty-means-default"),
        pytest.param("cache", "None", "cache", "none", id="none-is-a-choice-of-cache"),
        pytest.param("cache", None, "cache", "ram", id="null-means-default-even-there"),
        pytest.param("cache", "true", "cache", "ram", id="cache-true"),
        pytest.param("cache", False, "cache", "none", id="cache-false"),
        pytest.param("cache", "disk", "cache", "disk", id="cache-disk"),
        pytest.param("--cache", "val", "cache", "val", id="cache-val"),
        pytest.param("multi-scale", "True", "multi_scale", True, id="multi-scale"),
        pytest.param("image-weights", True, "image_weights", True, id="image-weights"),
        pytest.param("single_cls", 1, "single_cls", True, id="single-cls"),
        pytest.param("mixup", "0.1", "mixup", 0.1, id="mixup"),
        pytest.param("cos_lr", "True", "schedule", "cosine", id="cos-lr"),
        pytest.param("cos_lr", False, "schedule", "linear", id="cos-lr-off"),
        pytest.param("batch_size_per_gpu", "8", "batch_size", 8, id="ymir-batch"),
        pytest.param("batch-size", 8, "batch_size", 8, id="dashes"),
        pytest.param("--batch", 8, "batch_size", 8, id="command-line-form"),
        pytest.param("imgsz", "320", "img_size", 320, id="imgsz"),
        pytest.param("num_workers_per_gpu", "4", "workers", 4, id="ymir-workers"),
        pytest.param("cfg", "yolov5n", "model", "yolov5n", id="cfg"),
        pytest.param("conf", "0.3", "conf_thres", 0.3, id="conf"),
        pytest.param("map_metric", "0.5:0.95", "map_metric", "map50_95", id="map-range"),
        pytest.param("optimizer", "SGD", "optimizer", "sgd", id="v7-sgd"),
        pytest.param("optimizer", "AdamW", "optimizer", "adamw", id="v7-adamw"),
        pytest.param("--batch-size", "-1", "batch_size", -1, id="automatic-batch"),
        pytest.param("freeze", 10, "freeze", (10,), id="freeze-number"),
        pytest.param("freeze", "10", "freeze", (10,), id="freeze-text"),
        pytest.param("freeze", "0 1 2", "freeze", (0, 1, 2), id="freeze-v7-command-line"),
        pytest.param("freeze", "[0, 2]", "freeze", (0, 2), id="freeze-list-text"),
        pytest.param("freeze", ["0", 2], "freeze", (0, 2), id="freeze-list"),
        pytest.param("freeze", "[]", "freeze", (), id="freeze-nothing"),
        pytest.param("save-period", "10", "save_period", 10, id="save-period"),
        pytest.param("noval", "True", "noval", True, id="noval"),
        pytest.param("resume", True, "resume", "True", id="bare-resume"),
        pytest.param("resume", "runs/last.pt", "resume", "runs/last.pt", id="resume-path"),
        pytest.param("precision", "BF16", "precision", "bfloat16", id="precision-synonym"),
        pytest.param("simplify", "True", "onnx_simplify", True, id="simplify"),
        pytest.param("model_formats", "[]", "model_formats", (), id="no-further-format"),
        pytest.param(
            "model_formats",
            "openvino, State_Dict",
            "model_formats",
            ("openvino", "state-dict"),
            id="further-formats",
        ),
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
        pytest.param("epochs", "many", "a whole number, 1 to 100000", id="word-for-int"),
        pytest.param("epochs", "50.5", "a whole number", id="fraction-for-int"),
        pytest.param("epochs", 0, "1 to 100000", id="below-range"),
        pytest.param("epochs", True, "a whole number", id="bool-for-int"),
        pytest.param("lr0", "nan", "a number", id="nan"),
        pytest.param("lr0", "inf", "a number", id="infinite"),
        pytest.param("lr0", {"a": 1}, "a number", id="mapping"),
        pytest.param("mosaic", "1.5", "0 to 1", id="probability"),
        pytest.param("plots", "maybe", "true or false", id="unknown-word"),
        pytest.param("precision", "float8", "one of auto, float32, bfloat16", id="choice"),
        pytest.param("batch_size", 0, "1 to 4096, or -1", id="no-batch"),
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


def test_other_mining_algorithms_are_refused_with_what_there_is() -> None:
    with pytest.raises(TaskError, match="one of cald, aldd, diverse, entropy, ") as caught:
        parse_settings(MiningSettings, {"mining_algorithm": "best"})
    assert caught.value.code == Code.CONFIG


@pytest.mark.parametrize(
    "value", ["flip, rotate", "[flip, rotate]", "['flip','rotate']", ["flip", "rotate"]]
)
def test_lists_come_in_every_form(value: object) -> None:
    assert parse_settings(MiningSettings, {"views": value})[0].views == ("flip", "rotate")


@pytest.mark.parametrize("value", ["[]", [], "[flip", "flip, blur", 3])
def test_lists_that_make_no_sense_are_refused(value: object) -> None:
    with pytest.raises(TaskError, match="views"):
        parse_settings(MiningSettings, {"views": value})


@pytest.mark.parametrize(
    ("values", "field", "expected"),
    [
        pytest.param({"agnostic-nms": "True"}, "agnostic_nms", True, id="agnostic"),
        pytest.param({"half": "yes"}, "half", True, id="half"),
        pytest.param({"classes": "cat, 3"}, "classes", ("cat", "3"), id="classes-as-words"),
        pytest.param({"classes": [0, 2]}, "classes", ("0", "2"), id="classes-as-numbers"),
        pytest.param({"classes": 0}, "classes", ("0",), id="one-class"),
        pytest.param({"classes": "0"}, "classes", ("0",), id="one-class-as-text"),
        pytest.param({"classes": "[]"}, "classes", (), id="all-classes"),
        pytest.param({"classes": None}, "classes", (), id="all-classes-by-none"),
        pytest.param({"tile_size": "640"}, "tile_size", 640, id="tiles"),
    ],
)
def test_v7s_options_of_detection(values: dict[str, object], field: str, expected: object) -> None:
    for kind in (InferSettings, MiningSettings):
        parsed, warnings = parse_settings(kind, values)
        assert getattr(parsed, field) == expected
        assert warnings == []


def test_three_looks_are_for_inference_only() -> None:
    assert parse_settings(InferSettings, {"augment": "True"})[0].augment
    assert not hasattr(parse_settings(MiningSettings, {"augment": "True"})[0], "augment")


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
            {"epoch": 3}, ["unknown setting epoch, ignored; did you mean epochs?"], id="typo"
        ),
        pytest.param(
            {"iou_t": 0.2}, ["iou_t has no effect: v7.0 does not use it either"], id="no-effect"
        ),
        pytest.param({"zzzz": 3}, ["unknown setting zzzz, ignored"], id="nothing-near"),
        pytest.param(
            {"args_options": "--exist-ok"},
            ["--exist-ok has no effect in a task: the platform says where a task writes"],
            id="flags-without-meaning",
        ),
        pytest.param({"evolve": "True"}, ["evolve is not supported yet, ignored"], id="evolve"),
        pytest.param({"evolve": "False", "args_options": ""}, [], id="switched-off-needs-no-word"),
        pytest.param({"gpu_id": "0", "shm_size": "64G", "task_id": "t"}, [], id="platform-keys"),
        pytest.param({"mining_algorithm": "aldd"}, [], id="another-task's-setting"),
        pytest.param(
            {"img_size": 300}, ["img_size 300 is not a multiple of 32: 320 is used"], id="rounded"
        ),
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
