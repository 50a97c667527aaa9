"""The number format torch would take, the shapes of maps, and one sentence for any failure."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import inference.backends.base as module
from inference.backends.base import Engine, first_line
from utils.errors import Code, TaskError


@pytest.mark.parametrize(
    ("device", "precision", "hardware", "expected"),
    [
        ("cpu", "float32", True, "float32"),
        ("cpu", "auto", True, "bfloat16"),
        ("cpu", "auto", False, "float32"),
        ("cpu", "bfloat16", False, "bfloat16"),
        ("cpu", "float16", False, "float32"),  # half is a matter of GPUs
        ("cuda", "float16", True, "float16"),
        ("cuda", "auto", True, "bfloat16"),
    ],
)
def test_the_number_format_is_that_of_torch(
    around, monkeypatch, device, precision, hardware, expected
):
    monkeypatch.setattr(module, "has_bfloat16", lambda _: hardware)
    own = replace(around, device=torch.device(device), precision=precision)
    assert own.arithmetic == expected


def test_empty_maps_have_the_shapes_of_the_networks(around, network):
    images = torch.rand(2, 3, 96, 128)
    shapes = [tuple(one.shape) for one in network.head_inputs(images)]
    assert [tuple(one.shape) for one in around.empty_maps(images)] == shapes


def test_a_failure_is_one_sentence():
    def fail(_):
        raise RuntimeError("no kernel\nof this shape")

    with pytest.raises(
        TaskError, match=r"openvino failed .*\[1, 3, 32, 32\] \(no kernel\)"
    ) as caught:
        Engine("openvino", "float32", fail)(torch.zeros(1, 3, 32, 32))
    assert caught.value.code is Code.MODEL
    assert "set engine to torch" in caught.value.sentence


def test_a_sentence_passes_as_it_is():
    refusal = TaskError(Code.NO_GPU, "there is none.")

    def fail(_):
        raise refusal

    with pytest.raises(TaskError) as caught:
        Engine("tensorrt", "float32", fail)(torch.zeros(1))
    assert caught.value is refusal


def test_an_error_without_words_has_its_kind():
    assert first_line(ValueError()) == "ValueError()"
