"""TensorRT: refusals anywhere; the network's maps where a GPU and the package are."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from exporting.neck_onnx import write_neck
from inference.backends.tensorrt import build_tensorrt
from utils.errors import Code, TaskError


def test_a_missing_package_is_one_sentence(on_a_gpu, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(TaskError, match="tensorrt needs the package tensorrt,") as caught:
        build_tensorrt(tmp_path / "trunk.onnx", on_a_gpu)
    assert caught.value.code is Code.CONFIG


def test_no_cpu(around, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    with pytest.raises(TaskError, match="computes on NVIDIA GPUs") as caught:
        build_tensorrt(tmp_path / "trunk.onnx", around)
    assert caught.value.code is Code.CONFIG


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_any_batch_and_shape(network, on_a_gpu, tmp_path, precision):
    pytest.importorskip("tensorrt", reason="the optional package is not installed")
    write_neck(network, tmp_path / "trunk.onnx")
    engine = build_tensorrt(tmp_path / "trunk.onnx", replace(on_a_gpu, precision=precision))
    assert engine.arithmetic == precision
    for shape in ((1, 3, 96, 128), (3, 3, 128, 64), (2, 3, 32, 32)):
        images = torch.rand(shape)
        with torch.no_grad():
            for one, other in zip(engine(images.cuda()), network.head_inputs(images), strict=True):
                assert (one.cpu() - other).abs().mean() <= 0.05 * other.abs().mean()
    with pytest.raises(TaskError, match="outside of what the engine was built for"):
        engine(torch.rand(8, 3, 128, 128).cuda())
