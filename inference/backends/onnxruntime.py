"""The engine `onnxruntime`: on a CPU in float32, on a GPU by its CUDA provider.

The optional packages are `onnxruntime`, and `onnxruntime-gpu` for GPUs. On a GPU it computes in
float16 with the setting `half`, else in float32; that part has not been run on a GPU yet.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from exporting.neck_onnx import INPUT, output_names
from inference.backends.base import BackendSpec, Engine
from utils.errors import Code, TaskError, optional_package

NAME = "onnxruntime"
CUDA = "CUDAExecutionProvider"
SILENT = 3
"""Severity of what it prints: errors only."""


def arithmetic_of(around: BackendSpec) -> str:
    """The number format it computes in: it has no bfloat16 for convolutions."""
    return "float16" if around.arithmetic == "float16" else "float32"


def build_onnxruntime(trunk: Path, around: BackendSpec) -> Engine:
    """The engine from the trunk's ONNX file. TaskError(CONFIG) where the package is missing."""
    runtime = optional_package("onnxruntime", purpose=f"The engine {NAME}")
    settings = runtime.SessionOptions()
    settings.log_severity_level = SILENT
    # The lanes are the threads: each call computes in the one that makes it.
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    if around.device.type == "cuda":
        return _on_gpu(runtime, settings, trunk, around)
    session = runtime.InferenceSession(str(trunk), settings, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> list[Tensor]:
        maps = session.run(None, {INPUT: images.contiguous().numpy()})
        return [torch.from_numpy(one) for one in maps]

    return Engine(NAME, arithmetic_of(around), run)


def _on_gpu(runtime: ModuleType, settings: object, trunk: Path, around: BackendSpec) -> Engine:
    """Images and maps stay in torch's memory on the GPU."""
    number = around.device.index or 0
    session = None
    if CUDA in runtime.get_available_providers():
        # Shortened float32 would be a difference from torch of its own.
        options = {"device_id": number, "use_tf32": 0}
        session = runtime.InferenceSession(str(trunk), settings, providers=[(CUDA, options)])
    if session is None or CUDA not in session.get_providers():
        raise TaskError(
            Code.CONFIG,
            "The engine onnxruntime cannot use the GPU: install onnxruntime-gpu of this CUDA in "
            "the place of onnxruntime, or set engine to torch.",
        )
    names = output_names(len(around.levels))

    def run(images: Tensor) -> list[Tensor]:
        images, maps = images.contiguous(), around.empty_maps(images)
        binding = session.io_binding()
        for bind, name, tensor in [
            (binding.bind_input, INPUT, images),
            *((binding.bind_output, name, one) for name, one in zip(names, maps, strict=True)),
        ]:
            bind(
                name=name,
                device_type="cuda",
                device_id=number,
                element_type="float32",
                shape=tuple(tensor.shape),
                buffer_ptr=tensor.data_ptr(),
            )
        # It computes on a stream of its own, which knows nothing of torch's.
        torch.cuda.current_stream(around.device).synchronize()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return maps

    return Engine(NAME, arithmetic_of(around), run)
