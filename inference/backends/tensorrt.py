"""The engine `tensorrt`: on an NVIDIA GPU, in the precision that torch would take.

The optional package is `tensorrt`, from version 10 on. Written after its Python API and not run
yet: no GPU was there. What it computes is compared with torch before it is used, as of every
engine.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from exporting.neck_onnx import INPUT, output_names
from inference.backends.base import BackendSpec, Engine
from utils.errors import Code, TaskError, optional_package

NAME = "tensorrt"
FLAGS = {"float16": "FP16", "bfloat16": "BF16"}


def arithmetic_of(around: BackendSpec) -> str:
    """The number format it may compute in, layer by layer as it finds fastest."""
    return around.arithmetic


def build_tensorrt(trunk: Path, around: BackendSpec) -> Engine:
    """The engine from the trunk's ONNX file, for any shape within the surroundings' limits.

    TaskError(CONFIG) where the package is missing or without a GPU; RuntimeError with what
    TensorRT says where it cannot build the network.
    """
    tensorrt = optional_package("tensorrt", purpose=f"The engine {NAME}")
    if around.device.type != "cuda":
        raise TaskError(
            Code.CONFIG,
            "The engine tensorrt computes on NVIDIA GPUs: grant the task one, or set engine to "
            "torch, onnxruntime or openvino.",
        )
    with torch.cuda.device(around.device):
        return Engine(NAME, arithmetic_of(around), _Compiled(tensorrt, trunk, around))


class _Compiled:
    """The network on the GPU in use, called from one thread; memory is torch's."""

    def __init__(self, tensorrt: ModuleType, trunk: Path, around: BackendSpec) -> None:
        self.around = around
        self.names = output_names(len(around.levels))
        plan = _plan(tensorrt, trunk, around)
        # The engine needs its runtime, and the context its engine, for as long as it lives.
        self.runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
        self.compiled = self.runtime.deserialize_cuda_engine(plan)
        if self.compiled is None:
            raise RuntimeError("TensorRT cannot read the engine it has built")
        self.context = self.compiled.create_execution_context()

    def __call__(self, images: Tensor) -> list[Tensor]:
        images, maps = images.contiguous(), self.around.empty_maps(images)
        if not self.context.set_input_shape(INPUT, tuple(images.shape)):
            raise RuntimeError("the shape is outside of what the engine was built for")
        self.context.set_tensor_address(INPUT, images.data_ptr())
        for name, one in zip(self.names, maps, strict=True):
            self.context.set_tensor_address(name, one.data_ptr())
        # torch's own stream: what follows waits for it, and no memory is given away before.
        stream = torch.cuda.current_stream(self.around.device).cuda_stream
        if not self.context.execute_async_v3(stream):
            raise RuntimeError("the execution failed")
        return maps


def _plan(tensorrt: ModuleType, trunk: Path, around: BackendSpec) -> Any:
    """The network compiled for the GPU in use, serialised."""
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network()
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(trunk.read_bytes()):
        reasons = [str(parser.get_error(number)) for number in range(parser.num_errors)]
        raise RuntimeError("; ".join(reasons) or "TensorRT cannot read the network")
    config = builder.create_builder_config()
    if around.arithmetic in FLAGS:
        config.set_flag(getattr(tensorrt.BuilderFlag, FLAGS[around.arithmetic]))
    else:
        config.clear_flag(tensorrt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    _, channels, *_ = network.get_input(0).shape
    least = around.stride
    most = -(-around.side // around.stride) * around.stride
    profile.set_shape(
        INPUT,
        (1, channels, least, least),
        (around.batch_size, channels, most, most),
        (around.batch_size, channels, most, most),
    )
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RuntimeError("TensorRT cannot build the network for this GPU")
    return plan
