"""What no format can do is refused with what to do instead."""

from __future__ import annotations

import dataclasses

import pytest

from exporting.options import NOT_WRITTEN, ExportOptions, Suppression, refuse_impossible
from utils.errors import Code, TaskError

PLAIN = ExportOptions(("a",))


@pytest.mark.parametrize(
    ("form", "change", "words"),
    [
        *(pytest.param(form, {}, f"{form} is not written here: ", id=form) for form in NOT_WRITTEN),
        pytest.param("onxx", {}, "not known; choose among onnx, torchscript", id="mistyped"),
        pytest.param(
            "torchscript",
            {"suppression": Suppression()},
            "into ONNX files only",
            id="nms elsewhere",
        ),
        pytest.param(
            "onnx", {"simplify": True, "half": True}, "choose one", id="simplify and half"
        ),
    ],
)
def test_refusals(form, change, words):
    with pytest.raises(TaskError, match=words) as caught:
        refuse_impossible(form, dataclasses.replace(PLAIN, **change))
    assert caught.value.code is Code.CONFIG


def test_formats_of_v7_that_are_not_written():
    v7 = "coreml saved_model pb tflite edgetpu tfjs paddle engine"
    assert set(NOT_WRITTEN) == set(v7.split())


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("form", ["onnx", "torchscript", "openvino", "safetensors", "state-dict"])
def test_what_can_be_done_passes(form, half):
    refuse_impossible(form, dataclasses.replace(PLAIN, half=half))
