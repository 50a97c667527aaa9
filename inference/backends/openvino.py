"""Backend `openvino`: on a CPU, in bfloat16 where torch computes in it, else in float32."""

from __future__ import annotations

import threading
from pathlib import Path

import torch
from torch import Tensor

from inference.backends.base import Backend, BackendSpec, BackendType
from utils.errors import Code, TaskError, optional_package

NAME = "openvino"
HINTS = {"float32": "f32", "bfloat16": "bf16"}


def build(neck: Path, spec: BackendSpec) -> Backend:
    """Compile an ONNX file. Raises TaskError(CONFIG) without the package, and on a GPU."""
    openvino = optional_package("openvino", purpose=f"The engine {NAME}")
    if spec.device.type != "cpu":
        raise TaskError(
            Code.CONFIG,
            "The engine openvino computes on CPUs: on a GPU set engine to torch, onnxruntime or "
            "tensorrt.",
        )
    compiled = openvino.Core().compile_model(
        str(neck),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": HINTS[spec.arithmetic],
            # One stream of one thread for each thread that calls.
            "NUM_STREAMS": spec.threads,
            "INFERENCE_NUM_THREADS": spec.threads,
            # Threads bound to cores would meet those of torch there.
            "ENABLE_CPU_PINNING": False,
        },
    )
    local = threading.local()

    def run(images: Tensor) -> list[Tensor]:
        # A request holds the memory of one inference at a time.
        if not hasattr(local, "request"):
            local.request = compiled.create_infer_request()
        maps = local.request.infer(
            [images.contiguous().numpy()], share_inputs=True, share_outputs=False
        )
        return [torch.from_numpy(maps[number]) for number in range(len(spec.levels))]

    return Backend(NAME, spec.arithmetic, run)


BACKEND = BackendType(build)
