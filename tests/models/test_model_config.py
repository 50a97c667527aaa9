"""Model files: the stock ones against the reference, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.model_config import parse_model_config, read_model_config
from utils.errors import Code, TaskError

STOCK = sorted(
    path.relative_to(Path(__file__).parents[2]).as_posix()
    for path in (Path(__file__).parents[2] / "models").rglob("*.yaml")
)


def test_every_model_of_the_reference_is_there(golden):
    names = json.loads(golden("models.json").read_text())
    assert set(STOCK) == {name for name in names if name != "_meta"}


@pytest.mark.parametrize("name", STOCK)
def test_stock_configs_equal_the_reference(name, golden):
    """Numbers of tests/golden/models.json: YOLOv5 v7.0 building its own configs."""
    expected = json.loads(golden("models.json").read_text())[name]
    config = read_model_config(name)
    assert config.nc == expected["nc"] == 80
    assert list(config.strides) == expected["stride"]
    assert sorted(config.kept) == sorted(set(expected["save"]))
    assert list(config.head_sources) == expected["detect_from"]
    assert list(config.head_channels) == expected["detect_in_channels"]
    pixels = [[size for pair in level for size in pair] for level in expected["anchors_px"]]
    assert [list(level) for level in config.anchors] == pixels
    blocks = [layer.block.removeprefix("nn.") for layer in config.layers]
    assert [*blocks, "Detect"] == [block for block, _ in expected["blocks"]]
    assert str(config.activation) == (expected["activation"] or "nn.SiLU()")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("yolov5s", 32), ("yolov5n6", 64), ("yolov5-p7", 128), ("yolov5-p34", 32)],
)
def test_inputs_suit_the_coarsest_map(name, expected):
    """The levels of p34 end at stride 16, and its backbone at 32."""
    assert read_model_config(name).input_multiple == expected


@pytest.mark.parametrize(
    ("asked", "stem"),
    [
        pytest.param("s", "yolov5s", id="size"),
        pytest.param("yolov5s.yaml", "yolov5s", id="file name"),
        pytest.param("models/yolov5s.yaml", "yolov5s", id="with folder"),
        pytest.param("n6", "hub/yolov5n6", id="four levels"),
        pytest.param("yolov3-tiny", "hub/yolov3-tiny", id="another family"),
        pytest.param("models/hub/yolov5n6.yaml", "hub/yolov5n6", id="with hub folder"),
    ],
)
def test_stock_names(asked, stem, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    file = Path(__file__).parents[2] / "models" / f"{stem}.yaml"
    assert read_model_config(asked) == read_model_config(file)


def test_class_count_and_activation_are_replaced_and_recorded(tiny_definition):
    before = json.dumps(tiny_definition)
    own = parse_model_config({**tiny_definition, "activation": "nn.ReLU()"})
    assert str(own.activation) == "nn.ReLU()"
    other = parse_model_config(own.definition, nc=7, activation="LeakyReLU(0.2)")
    assert (other.nc, other.definition["nc"], str(other.activation)) == (7, 7, "nn.LeakyReLU(0.2)")
    assert parse_model_config(other.definition) == other
    assert own.definition["activation"] == "nn.ReLU()"
    assert json.dumps(tiny_definition) == before


def test_channel_rounding_has_no_exception_for_a_class_count():
    """Defect 19 of v7.0: with 251 classes, 768 channels stayed unscaled. Ours scales them."""
    assert read_model_config("yolov5n6", nc=251).layers[7].channels == 192


@pytest.mark.parametrize("anchors", [1, 3])
def test_a_number_of_anchors_gives_placeholders(tiny_definition, anchors):
    """Rule of v7.0: 0, 1, 2, ... pixels on every level, to be replaced before training."""
    config = parse_model_config({**tiny_definition, "anchors": anchors})
    assert config.anchors == (tuple(range(2 * anchors)),) * 2


def test_copies_in_a_chain_and_an_activation_of_a_row(tiny_definition):
    rows = list(tiny_definition["backbone"])
    rows[1] = [-1, 2, "Conv", [8, 3, 2, 1, 1, 1, "nn.ReLU()"]]
    layer = parse_model_config({**tiny_definition, "backbone": rows}).layers[1]
    assert (layer.repeats, layer.reduction) == (2, 8)
    assert str(layer.arguments[-1]) == "nn.ReLU()"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"nc": 0}, "nc must be", id="no classes"),
        pytest.param({"nc": True}, "nc must be", id="truth value as count"),
        pytest.param({"depth_multiple": "x"}, "depth_multiple", id="depth is text"),
        pytest.param({"activation": "nn.PReLU()"}, "activation", id="unknown activation"),
        pytest.param({"activation": "exit()"}, "activation", id="activation as program text"),
        pytest.param({"anchors": 0}, "anchors", id="no anchors"),
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
        pytest.param({"backbone": [[-1, 1, "SPP", [8, ["5"]]]]}, "list of numbers", id="texts"),
        pytest.param({"backbone": [[-1, 1, "Conv", [8, {}]]]}, "number or a word", id="mapping"),
        pytest.param(
            {"backbone": [[-1, 1, "Conv", [8, 1, 1, 0, 1, 1, "nn.Foo()"]]]},
            "nn.Foo",
            id="unknown activation of a row",
        ),
        pytest.param({"backbone": [[-1, 2, "Conv", [8]]]}, "copies in a chain", id="two widths"),
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
        parse_model_config({**tiny_definition, **changes})
    assert caught.value.code is Code.CONFIG


def test_missing_key_is_named(tiny_definition):
    del tiny_definition["head"]
    with pytest.raises(TaskError, match="'head' is missing"):
        parse_model_config(tiny_definition)


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
        read_model_config(path)


@pytest.mark.parametrize("name", ["yolov9", "/nowhere/yolov5s.yaml", "../yolov5s.yaml"])
def test_unknown_files_never_become_a_stock_model(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError, match="no model file"):
        read_model_config(name)
