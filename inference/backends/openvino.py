"""The engine `openvino`: on a CPU, in bfloat16 where torch would compute in it, else in float32.

The optional package is `openvino`.
"""

from __future__ import annotations

import threading
from pathlib import Path

import torch
from torch import Tensor

from inference.backends.base import BackendSpec, Engine
from utils.errors import Code, TaskError, optional_package

NAME = "openvino"
HINTS = {"float32": "f32", "bfloat16": "bf16"}


def arithmetic_of(around: BackendSpec) -> str:
    """The number format it computes in."""
    return around.arithmetic


def build_openvino(trunk: Path, around: BackendSpec) -> Engine:
    """The engine from the trunk's ONNX file.

    TaskError(CONFIG) where the package is missing, and on a GPU.
    """
    openvino = optional_package("openvino", purpose=f"The engine {NAME}")
    if around.device.type != "cpu":
        raise TaskError(
            Code.CONFIG,
            "The engine openvino computes on CPUs: on a GPU set engine to torch, onnxruntime or "
            "tensorrt.",
        )
    compiled = openvino.Core().compile_model(
        str(trunk),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": HINTS[around.arithmetic],
            # One stream of one thread for each lane that calls.
            "NUM_STREAMS": around.lanes,
            "INFERENCE_NUM_THREADS": around.lanes,
            # Threads bound to cores would meet those of torch there.
            "ENABLE_CPU_PINNING": False,
        },
    )
    own = threading.local()

    def run(images: Tensor) -> list[Tensor]:
        # A request holds the memory of one inference at a time.
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        found = own.request.infer(
            [images.contiguous().numpy()], share_inputs=True, share_outputs=False
        )
        return [torch.from_numpy(found[number]) for number in range(len(around.levels))]

    return Engine(NAME, arithmetic_of(around), run)
