"""What no format can do is refused with what to do instead."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from exporting.options import (
    FORMAT_NAMES,
    NOT_WRITTEN,
    ExportOptions,
    refuse_impossible,
)
from ops.nms import NmsConfig
from utils.errors import Code, TaskError

PLAIN, ANY = ExportOptions(("a",)), NmsConfig()


@pytest.mark.parametrize(
    ("form", "change", "words"),
    [
        *(pytest.param(form, {}, f"{form} is not written here: ", id=form) for form in NOT_WRITTEN),
        pytest.param("onxx", {}, "not known; choose among onnx, torchscript", id="mistyped"),
        pytest.param(
            "torchscript",
            {"nms": NmsConfig()},
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


@pytest.mark.parametrize("form", FORMAT_NAMES)
def test_what_can_be_done_passes(form):
    """Every combination that is refused is one of the two that the rules name."""
    for half, simplify, nms in itertools.product((False, True), (False, True), (None, ANY)):
        options = dataclasses.replace(PLAIN, half=half, simplify=simplify, nms=nms)
        try:
            refuse_impossible(form, options)
            refused = False
        except TaskError:
            refused = True
        assert refused == ((half and simplify) if form == "onnx" else nms is not None)
