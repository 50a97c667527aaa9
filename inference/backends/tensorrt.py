"""Backend `tensorrt`: on an NVIDIA GPU, in the number format that torch takes.

The optional package is `tensorrt`, from version 10 on. Written after its Python API and not run
yet: no GPU was there. Its parity with torch is checked before it is used, as of every backend.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from exporting.neck_onnx import INPUT, output_names
from inference.backends.base import Backend, BackendSpec, BackendType
from utils.errors import Code, TaskError, optional_package

NAME = "tensorrt"
FLAGS = {"float16": "FP16", "bfloat16": "BF16"}


def build(neck: Path, spec: BackendSpec) -> Backend:
    """Compile an ONNX file for any shape within the limits of `spec`.

    TensorRT may take the number format or float32 in each layer, as it finds fastest. Raises
    TaskError(CONFIG) without the package or a GPU, RuntimeError with TensorRT's message if it
    cannot build the network.
    """
    tensorrt = optional_package("tensorrt", purpose=f"The engine {NAME}")
    if spec.device.type != "cuda":
        raise TaskError(
            Code.CONFIG,
            "The engine tensorrt computes on NVIDIA GPUs: grant the task one, or set engine to "
            "torch, onnxruntime or openvino.",
        )
    with torch.cuda.device(spec.device):
        return Backend(NAME, spec.arithmetic, _Compiled(tensorrt, neck, spec))


class _Compiled:
    """The compiled network on the current GPU, called from one thread; memory is torch's."""

    def __init__(self, tensorrt: ModuleType, neck: Path, spec: BackendSpec) -> None:
        self.spec = spec
        self.names = output_names(len(spec.levels))
        plan = _plan(tensorrt, neck, spec)
        # The engine needs its runtime, and the context its engine, while it lives.
        self.runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
        self.compiled = self.runtime.deserialize_cuda_engine(plan)
        if self.compiled is None:
            raise RuntimeError("TensorRT cannot read the engine it has built")
        self.context = self.compiled.create_execution_context()

    def __call__(self, images: Tensor) -> list[Tensor]:
        images, maps = images.contiguous(), self.spec.empty_maps(images)
        if not self.context.set_input_shape(INPUT, tuple(images.shape)):
            raise RuntimeError("the shape is outside of what the engine was built for")
        self.context.set_tensor_address(INPUT, images.data_ptr())
        for name, one in zip(self.names, maps, strict=True):
            self.context.set_tensor_address(name, one.data_ptr())
        # On torch's stream: what follows waits for it, and no memory is reused before.
        stream = torch.cuda.current_stream(self.spec.device).cuda_stream
        if not self.context.execute_async_v3(stream):
            raise RuntimeError("the execution failed")
        return maps


def _plan(tensorrt: ModuleType, neck: Path, spec: BackendSpec) -> Any:
    """Compile the network for the current GPU and serialise it."""
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network()
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(neck.read_bytes()):
        reasons = [str(parser.get_error(number)) for number in range(parser.num_errors)]
        raise RuntimeError("; ".join(reasons) or "TensorRT cannot read the network")
    config = builder.create_builder_config()
    if spec.arithmetic in FLAGS:
        config.set_flag(getattr(tensorrt.BuilderFlag, FLAGS[spec.arithmetic]))
    else:
        config.clear_flag(tensorrt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    _, channels, *_ = network.get_input(0).shape
    side = -(-spec.side // spec.stride) * spec.stride
    largest = (spec.batch_size, channels, side, side)
    profile.set_shape(INPUT, (1, channels, spec.stride, spec.stride), largest, largest)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("TensorRT cannot build the network for this GPU")
    return plan


BACKEND = BackendType(build)
