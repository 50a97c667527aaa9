"""Every registered backend: torch's maps at any shape, from several threads, and its refusals."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from exporting.neck_onnx import write_neck
from inference.backends.base import AUTO, TORCH, Backend, BackendSpec
from inference.backends.choice import AUTO_ON_CPU, BACKENDS, installed
from inference.network import Network
from settings.detect import DetectionSettings
from tests.conftest import needs_gpu
from utils.errors import Code, TaskError

ON_CPU = ("onnxruntime", "openvino")
SHAPES = ((1, 3, 96, 128), (3, 3, 128, 64), (2, 3, 32, 32))


def build(name: str, network: Network, spec: BackendSpec, folder: Path, **options: bool) -> Backend:
    pytest.importorskip(name, reason="the optional package is not installed")
    neck = folder / "neck.onnx"
    write_neck(network.detector, neck, **options)
    backend = BACKENDS[name].build(neck, spec)
    neck.unlink()  # the backend does not need it any more
    return backend


def maps_of(network: Network, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    with torch.inference_mode():
        return tuple(network.detector.head_inputs(images))


def test_the_setting_offers_what_is_registered() -> None:
    (engine,) = (one for one in fields(DetectionSettings) if one.name == "engine")
    (spec,) = engine.metadata.values()
    assert spec.choices == (TORCH, AUTO, "onnxruntime", "openvino", "tensorrt")
    assert list(BACKENDS) == [*spec.choices[2:]]
    assert set(AUTO_ON_CPU) < set(BACKENDS)


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_maps_are_those_of_torch(
    network: Network, spec: BackendSpec, tmp_path: Path, name: str, precision: str
) -> None:
    """At any batch and shape; channels last as they come, and not overwritten by the next call."""
    backend = build(name, network, replace(spec, precision=precision), tmp_path)
    arithmetic = "float32" if name == "onnxruntime" else precision  # it has no bfloat16
    assert (backend.name, backend.arithmetic) == (name, arithmetic)
    images = [torch.rand(shape).contiguous(memory_format=torch.channels_last) for shape in SHAPES]
    for one, found in zip(images, [backend(one) for one in images], strict=True):
        for actual, expected in zip(found, maps_of(network, one), strict=True):
            assert actual.dtype == torch.float32
            if backend.arithmetic == "float32":
                torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)
            else:
                assert (actual - expected).abs().mean() <= 0.05 * expected.abs().mean()


@pytest.mark.parametrize("name", ON_CPU)
def test_several_threads_at_once(
    network: Network, spec: BackendSpec, tmp_path: Path, name: str
) -> None:
    backend = build(name, network, replace(spec, threads=2), tmp_path)
    images = [torch.rand(1, 3, 64, side) for side in (64, 96, 64, 128, 96, 64)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(backend, images))
    for one, other in zip(found, map(backend, images), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_half_weights_give_the_same_maps(
    network: Network, spec: BackendSpec, tmp_path: Path
) -> None:
    """What a GPU computes in float16; a CPU widens it."""
    backend = build("onnxruntime", network, spec, tmp_path, half=True)
    images = torch.rand(1, 3, 64, 96)
    for one, other in zip(backend(images), maps_of(network, images), strict=True):
        assert (one - other).abs().max() <= 0.05 * other.abs().max()


@pytest.mark.parametrize("name", BACKENDS)
def test_a_missing_package_is_one_sentence(
    spec: BackendSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert name not in installed([name])
    with pytest.raises(TaskError, match=f"{name} needs the package {name},") as caught:
        BACKENDS[name].build(tmp_path / "neck.onnx", spec)
    assert caught.value.code is Code.CONFIG


def test_a_device_that_a_backend_cannot_use_is_one_sentence(
    spec: BackendSpec, gpu_spec: BackendSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in BACKENDS:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    runtime = pytest.importorskip("unittest.mock").MagicMock()
    runtime.get_available_providers.return_value = ["CPUExecutionProvider"]
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    for name, own, words in (
        ("openvino", gpu_spec, "computes on CPUs"),
        ("tensorrt", spec, "computes on NVIDIA GPUs"),
        ("onnxruntime", gpu_spec, "install onnxruntime-gpu"),
    ):
        with pytest.raises(TaskError, match=words) as caught:
            BACKENDS[name].build(tmp_path / "neck.onnx", own)
        assert caught.value.code is Code.CONFIG


@pytest.mark.slow
@needs_gpu
@pytest.mark.parametrize("name", ["onnxruntime", "tensorrt"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_on_a_gpu(
    network: Network, gpu_spec: BackendSpec, tmp_path: Path, name: str, precision: str
) -> None:
    runtime = pytest.importorskip(name)
    if name == "onnxruntime" and "CUDAExecutionProvider" not in runtime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu")
    half = name == "onnxruntime" and precision == "float16"
    spec = replace(gpu_spec, precision=precision)
    backend = build(name, network, spec, tmp_path, half=half)
    for shape in SHAPES:
        images = torch.rand(shape)
        for one, other in zip(backend(images.cuda()), maps_of(network, images), strict=True):
            assert (one.cpu() - other).abs().mean() <= 0.05 * other.abs().mean()
    if name == "tensorrt":
        with pytest.raises(TaskError, match="outside of what the engine was built for"):
            backend(torch.rand(8, 3, 128, 128).cuda())


@pytest.mark.parametrize(
    ("device", "precision", "expected"),
    [
        ("cpu", "bfloat16", "bfloat16"),
        ("cpu", "float16", "float32"),  # half is for GPUs
        ("cuda", "float16", "float16"),
    ],
)
def test_the_number_format_is_that_of_torch(
    spec: BackendSpec, device: str, precision: str, expected: str
) -> None:
    assert replace(spec, device=torch.device(device), precision=precision).arithmetic == expected


def test_empty_maps_have_the_shapes_of_the_network(network: Network, spec: BackendSpec) -> None:
    images = torch.rand(2, 3, 96, 128)
    shapes = [tuple(one.shape) for one in maps_of(network, images)]
    assert [tuple(one.shape) for one in spec.empty_maps(images)] == shapes


def test_a_failure_is_one_sentence() -> None:
    def fail(images: torch.Tensor) -> list[torch.Tensor]:
        raise RuntimeError("no kernel\nof this shape") if len(images) else refusal

    refusal, backend = TaskError(Code.NO_GPU, "there is none."), Backend("any", "float32", fail)
    with pytest.raises(TaskError, match=r"any failed .*\[1, 3, 32, 32\] \(no kernel\)") as caught:
        backend(torch.zeros(1, 3, 32, 32))
    assert caught.value.code is Code.MODEL
    assert "set engine to torch" in caught.value.sentence
    with pytest.raises(TaskError) as caught:
        backend(torch.zeros(0))
    assert caught.value is refusal
