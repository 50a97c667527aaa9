"""Model files: the stock ones against the reference, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.blocks import BLOCKS
from models.layout import RULES, parse_layout, read_layout, scaled_channels, scaled_repeats
from utils.errors import Code, TaskError

STOCK = [f"models/yolov5{s}.yaml" for s in "nsmlx"] + [
    f"models/hub/yolov5{s}6.yaml" for s in "nsmlx"
]


@pytest.mark.parametrize("name", STOCK)
def test_stock_layouts_equal_the_reference(name, golden):
    """Numbers of tests/golden/models.json: YOLOv5 v7.0 building its own configs."""
    expected = json.loads(golden("models.json").read_text())[name]
    layout = read_layout(name)
    assert layout.nc == expected["nc"] == 80
    assert list(layout.strides) == expected["stride"]
    assert sorted(layout.kept) == sorted(set(expected["save"]))
    assert list(layout.head_sources) == expected["detect_from"]
    assert list(layout.head_channels) == expected["detect_in_channels"]
    pixels = [[size for pair in level for size in pair] for level in expected["anchors_px"]]
    assert [list(level) for level in layout.anchors] == pixels


def test_every_rule_has_its_block():
    assert RULES.keys() == BLOCKS.keys()


@pytest.mark.parametrize(
    ("asked", "stem"),
    [
        pytest.param("s", "yolov5s", id="size"),
        pytest.param("yolov5s", "yolov5s", id="name"),
        pytest.param("yolov5s.yaml", "yolov5s", id="file name"),
        pytest.param("models/yolov5s.yaml", "yolov5s", id="with folder"),
        pytest.param("n6", "hub/yolov5n6", id="four levels"),
        pytest.param("models/hub/yolov5n6.yaml", "hub/yolov5n6", id="with hub folder"),
    ],
)
def test_stock_names(asked, stem, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    file = Path(__file__).parents[2] / "models" / f"{stem}.yaml"
    assert read_layout(asked) == read_layout(file)


def test_class_count_is_replaced_and_recorded():
    layout = read_layout("yolov5n", nc=3)
    assert layout.nc == 3
    assert layout.definition["nc"] == 3
    assert parse_layout(layout.definition) == layout


def test_definition_is_left_as_it_is(tiny_definition):
    before = json.dumps(tiny_definition)
    parse_layout(tiny_definition, nc=7)
    assert json.dumps(tiny_definition) == before


def test_channel_rounding_has_no_exception_for_a_class_count():
    """Defect 19 of v7.0: with 251 classes, 768 channels stayed unscaled. Ours scales them."""
    assert read_layout("yolov5n6", nc=251).layers[7].channels == 192


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    [(64, 0.25, 16), (768, 0.75, 576), (1024, 1.25, 1280), (20, 0.25, 8), (36, 0.25, 16)],
)
def test_scaled_channels(channels, width, expected):
    assert scaled_channels(channels, width) == expected


@pytest.mark.parametrize(
    ("number", "depth", "expected"), [(1, 1.33, 1), (3, 0.33, 1), (9, 0.67, 6), (9, 1.33, 12)]
)
def test_scaled_repeats(number, depth, expected):
    assert scaled_repeats(number, depth) == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"nc": 0}, "nc must be", id="no classes"),
        pytest.param({"nc": True}, "nc must be", id="truth value as count"),
        pytest.param({"depth_multiple": "x"}, "depth_multiple", id="depth is text"),
        pytest.param({"activation": "nn.Mish()"}, "activation", id="unknown activation"),
        pytest.param({"anchors": 3}, "anchors", id="anchors as a number"),
        pytest.param({"anchors": [[10, 13, 16]] * 2}, "pairs", id="odd anchors"),
        pytest.param({"anchors": [[0, 13]] * 2}, "above zero", id="zero anchor"),
        pytest.param({"anchors": [[1, 2]]}, "2 detection levels", id="too few levels"),
        pytest.param({"anchors": [[1, 2], [1, 2, 3, 4]]}, "same number", id="ragged anchors"),
        pytest.param({"backbone": []}, "backbone", id="no backbone"),
        pytest.param({"backbone": [[-1, 1, "Conv"]]}, "is not", id="short row"),
        pytest.param({"backbone": [[-1, 1, "Convv", [8]]]}, "Convv", id="unknown block"),
        pytest.param({"backbone": [[-1, 0, "Conv", [8]]]}, "repeat", id="no repeats"),
        pytest.param({"backbone": [[5, 1, "Conv", [8]]]}, "earlier layer", id="later layer"),
        pytest.param({"backbone": [[-2, 1, "Conv", [8]]]}, "earlier layer", id="before the start"),
        pytest.param({"backbone": [["a", 1, "Conv", [8]]]}, "layer numbers", id="text source"),
        pytest.param(
            {"backbone": [[-1, 1, "Conv", ["a"]]]}, "must be a number", id="text channels"
        ),
        pytest.param({"backbone": [[-1, 1, "Conv", [[1]]]]}, "not a number", id="nested argument"),
        pytest.param({"backbone": [[-1, 1, "Conv", 8]]}, "list", id="arguments not a list"),
        pytest.param({"head": [[-1, 1, "Conv", [8]]]}, "must be Detect", id="no head"),
        pytest.param({"head": [[[4], 1, "Detect", [80, "anchors"]]]}, "arguments", id="own count"),
        pytest.param(
            {"head": [[[-1, 0], 1, "Concat", [1]], [[4], 1, "Detect", ["nc", "anchors"]]]},
            "different strides",
            id="sizes differ",
        ),
    ],
)
def test_refusals_say_what_is_wrong(tiny_definition, changes, words):
    with pytest.raises(TaskError, match=words) as caught:
        parse_layout({**tiny_definition, **changes})
    assert caught.value.code is Code.CONFIG


def test_missing_key_is_named(tiny_definition):
    del tiny_definition["head"]
    with pytest.raises(TaskError, match="'head' is missing"):
        parse_layout(tiny_definition)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("just text", "not a mapping", id="text"),
        pytest.param("a: [1", "cannot be read as YAML", id="broken YAML"),
        pytest.param("!!python/object/apply:os.getcwd []", "cannot be read", id="python tag"),
    ],
)
def test_files_that_are_no_definitions(tmp_path, content, words):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(TaskError, match=words):
        read_layout(path)


@pytest.mark.parametrize("name", ["yolov9", "/nowhere/yolov5s.yaml", "../yolov5s.yaml"])
def test_unknown_files_never_become_a_stock_model(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError, match="no model file"):
        read_layout(name)
