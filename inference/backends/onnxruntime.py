"""Backend `onnxruntime`: on a CPU in float32, on a GPU by its CUDA provider.

The optional packages are `onnxruntime`, and `onnxruntime-gpu` for GPUs. On a GPU it computes in
float16 with the setting `half`, else in float32; that part has not been run on a GPU yet.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from exporting.neck_onnx import INPUT, output_names
from inference.backends.base import Backend, BackendSpec, BackendType, Run
from utils.errors import Code, TaskError, optional_package

NAME = "onnxruntime"
CUDA = "CUDAExecutionProvider"
LOG_ERRORS = 3
"""Log severity: errors only."""


def build(neck: Path, spec: BackendSpec) -> Backend:
    """Open an ONNX file. Raises TaskError(CONFIG) without the package, or its part for GPUs."""
    runtime = optional_package("onnxruntime", purpose=f"The engine {NAME}")
    options = runtime.SessionOptions()
    options.log_severity_level = LOG_ERRORS
    # Each call computes in the thread that makes it.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    on_gpu = spec.device.type == "cuda"
    run = (_run_on_gpu if on_gpu else _run_on_cpu)(runtime, options, neck, spec)
    # It has no bfloat16 for convolutions.
    return Backend(NAME, "float16" if spec.arithmetic == "float16" else "float32", run)


def _run_on_cpu(runtime: ModuleType, options: object, neck: Path, spec: BackendSpec) -> Run:
    session = runtime.InferenceSession(str(neck), options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> list[Tensor]:
        maps = session.run(None, {INPUT: images.contiguous().numpy()})
        return [torch.from_numpy(one) for one in maps]

    return run


def _run_on_gpu(runtime: ModuleType, options: object, neck: Path, spec: BackendSpec) -> Run:
    """Images and maps stay in torch's memory on the GPU."""
    number = spec.device.index or 0
    session = None
    if CUDA in runtime.get_available_providers():
        # TF32 would be a difference from torch of its own.
        provider = (CUDA, {"device_id": number, "use_tf32": 0})
        session = runtime.InferenceSession(str(neck), options, providers=[provider])
    if session is None or CUDA not in session.get_providers():
        raise TaskError(
            Code.CONFIG,
            "The engine onnxruntime cannot use the GPU: install onnxruntime-gpu of this CUDA in "
            "the place of onnxruntime, or set engine to torch.",
        )
    names = output_names(len(spec.levels))

    def run(images: Tensor) -> list[Tensor]:
        images, maps = images.contiguous(), spec.empty_maps(images)
        binding = session.io_binding()
        for name, tensor in zip([INPUT, *names], [images, *maps], strict=True):
            bind = binding.bind_input if name == INPUT else binding.bind_output
            bind(
                name=name,
                device_type="cuda",
                device_id=number,
                element_type="float32",
                shape=tuple(tensor.shape),
                buffer_ptr=tensor.data_ptr(),
            )
        # It computes on a CUDA stream of its own, which does not wait for torch's.
        torch.cuda.current_stream(spec.device).synchronize()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return maps

    return run


BACKEND = BackendType(build, half_weights=True)
