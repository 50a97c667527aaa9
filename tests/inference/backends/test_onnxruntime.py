"""ONNX Runtime: the network's maps at any shape, from several threads, and its refusals."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from exporting.neck_onnx import write_neck
from inference.backends.onnxruntime import arithmetic_of, build_onnxruntime
from tests.inference.backends.conftest import same_maps
from utils.errors import Code, TaskError


@pytest.fixture
def trunk(network, tmp_path):
    path = tmp_path / "trunk.onnx"
    write_neck(network, path)
    return path


def test_any_batch_and_shape(network, around, trunk):
    pytest.importorskip("onnxruntime")
    engine = build_onnxruntime(trunk, around)
    trunk.unlink()  # the engine does not need it any more
    assert engine.arithmetic == "float32"
    same_maps(engine, network)


def test_several_threads_at_once(network, around, trunk):
    pytest.importorskip("onnxruntime")
    engine = build_onnxruntime(trunk, replace(around, lanes=2))
    images = [torch.rand(1, 3, 64, side) for side in (64, 96, 64, 128, 96, 64)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(engine, images))
    for one, other in zip(found, map(engine, images), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_half_weights_give_the_same_maps(network, around, tmp_path):
    """What a GPU would compute in float16; a CPU widens it."""
    pytest.importorskip("onnxruntime")
    write_neck(network, tmp_path / "half.onnx", half=True)
    images = torch.rand(1, 3, 64, 96)
    found = build_onnxruntime(tmp_path / "half.onnx", around)(images)
    with torch.no_grad():
        for one, other in zip(found, network.head_inputs(images), strict=True):
            assert (one - other).abs().max() <= 0.05 * other.abs().max()


def test_bfloat16_becomes_float32(around):
    assert arithmetic_of(replace(around, precision="bfloat16")) == "float32"


def test_a_missing_package_is_one_sentence(around, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(TaskError, match="onnxruntime needs the package onnxruntime,") as caught:
        build_onnxruntime(tmp_path / "trunk.onnx", around)
    assert caught.value.code is Code.CONFIG


def test_a_package_without_gpus_is_one_sentence(on_a_gpu, tmp_path, monkeypatch):
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(runtime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(TaskError, match="install onnxruntime-gpu") as caught:
        build_onnxruntime(tmp_path / "trunk.onnx", on_a_gpu)
    assert caught.value.code is Code.CONFIG


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(network, on_a_gpu, trunk):
    runtime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in runtime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu")
    engine = build_onnxruntime(trunk, on_a_gpu)
    images = torch.rand(2, 3, 64, 96)
    found = engine(images.cuda())
    with torch.no_grad():
        for one, other in zip(found, network.head_inputs(images), strict=True):
            torch.testing.assert_close(one.cpu(), other, rtol=1e-2, atol=1e-2)
