"""OpenVINO: the network's maps at any shape, from several threads, in both formats; refusals."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from exporting.neck_onnx import write_neck
from inference.backends.openvino import build_openvino
from tests.inference.backends.conftest import same_maps
from utils.errors import Code, TaskError


@pytest.fixture
def trunk(network, tmp_path):
    pytest.importorskip("openvino", reason="the optional package is not installed")
    path = tmp_path / "trunk.onnx"
    write_neck(network, path)
    return path


def test_any_batch_and_shape(network, around, trunk):
    engine = build_openvino(trunk, around)
    trunk.unlink()  # the engine does not need it any more
    assert engine.arithmetic == "float32"
    same_maps(engine, network)


def test_bfloat16_stays_near(network, around, trunk):
    engine = build_openvino(trunk, replace(around, precision="bfloat16"))
    assert engine.arithmetic == "bfloat16"
    images = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        for one, other in zip(engine(images), network.head_inputs(images), strict=True):
            assert one.dtype == torch.float32
            assert (one - other).abs().mean() <= 0.05 * other.abs().mean()


def test_several_threads_at_once(network, around, trunk):
    engine = build_openvino(trunk, replace(around, lanes=2))
    images = [torch.rand(1, 3, 64, side) for side in (64, 96, 64, 128, 96, 64)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(engine, images))
    for one, other in zip(found, map(engine, images), strict=True):
        for mine, theirs in zip(one, other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_results_outlive_the_next_call(around, trunk):
    engine = build_openvino(trunk, around)
    first = engine(torch.zeros(1, 3, 64, 64))
    kept = [one.clone() for one in first]
    engine(torch.ones(1, 3, 64, 64))
    assert all(torch.equal(one, other) for one, other in zip(first, kept, strict=True))


def test_a_missing_package_is_one_sentence(around, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(TaskError, match="openvino needs the package openvino,") as caught:
        build_openvino(tmp_path / "trunk.onnx", around)
    assert caught.value.code is Code.CONFIG


def test_no_gpu(on_a_gpu, tmp_path):
    pytest.importorskip("openvino", reason="the optional package is not installed")
    with pytest.raises(TaskError, match="computes on CPUs") as caught:
        build_openvino(tmp_path / "trunk.onnx", on_a_gpu)
    assert caught.value.code is Code.CONFIG
