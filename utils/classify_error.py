"""Classify any exception: one sentence for the user and the platform's return code."""

from __future__ import annotations

import errno

import cv2
import torch

from utils.errors import Code, TaskError
from utils.shutdown import TOLD_TO_STOP, Terminated

# Numbers of the CUDA runtime's errors.
CUDA_OUT_OF_MEMORY = frozenset({2})
CUDA_NO_DEVICE = frozenset({100})
CUDA_MISMATCHES = frozenset({35, 209, 222, 803, 804})
"""Driver too old, no kernel for the architecture, its intermediate code too new, versions of driver
and library that do not fit, a compatibility package that does not know the GPU."""
# Fixed phrases of the messages where torch raises a bare RuntimeError.
HOST_MEMORY = ("DefaultCPUAllocator:", "CUDA error: out of memory in host")
ONEDNN_MEMORY = "could not create a primitive"
"""The whole message of oneDNN without memory; longer texts mean other errors."""
GPU_MEMORY = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
SHARED_MEMORY = ("killed by signal: Bus error", "unable to write to file </torch_")
DEAD_WORKER = ("DataLoader worker (pid",)
MISMATCHES = ("no kernel image", "driver version is insufficient", "driver on your system is too")
NO_GPU = ("Found no NVIDIA driver", "No CUDA GPUs are available", "no CUDA-capable device")


def explain(error: BaseException) -> tuple[Code, str]:
    """Return the return code of an exception and one sentence for the user.

    Classified by type, never by wording, except where torch raises a bare RuntimeError.
    """
    if isinstance(error, TaskError):
        return error.code, error.sentence
    if isinstance(error, Terminated):
        return Code.CONTAINER, TOLD_TO_STOP
    if isinstance(error, KeyboardInterrupt):
        return Code.CONTAINER, "the task was interrupted from the keyboard."
    code = _code_of(error)
    if code is not None:
        return code, _SENTENCES[code, _where(error)]
    if isinstance(error, RuntimeError) and str(error).startswith(DEAD_WORKER):
        return Code.CONTAINER, (
            "a worker process that prepares batches was killed from outside, most often because "
            "the machine ran out of memory: lower workers, or set cache to none; started again, a "
            "training resumes after its last whole epoch."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Code.CONTAINER, (
            f"no space is left on the disk while writing {error.filename or 'a result'}: free some "
            "space and start the task again."
        )
    text = " ".join(str(error).split())[:300]
    return Code.CONTAINER, (
        f"an unexpected {type(error).__name__} stopped the task ({text}): the traceback above "
        "tells where; please report it."
    )


_SENTENCES = {
    (Code.OUT_OF_MEMORY, "gpu"): (
        "the GPU ran out of memory: lower batch_size or img_size, or choose a smaller model."
    ),
    (Code.OUT_OF_MEMORY, "host"): (
        "the machine ran out of memory: set cache to none, or lower batch_size or workers."
    ),
    (Code.OUT_OF_MEMORY, "shared"): (
        "the shared memory /dev/shm is full: set workers to 0, or start the container with a "
        "larger --shm-size (setting shm_size)."
    ),
    (Code.CUDA_MISMATCH, "gpu"): (
        "this build of torch, the driver and the GPU do not fit together: update the driver, or "
        "use an image made for this GPU."
    ),
    (Code.NO_GPU, "gpu"): (
        "the GPU that the task was granted is not there: grant it one, or set gpu_id to '' to run "
        "on the CPU."
    ),
}


def _code_of(error: BaseException) -> Code | None:
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return Code.OUT_OF_MEMORY
    if isinstance(error, OSError):
        no_memory = error.errno == errno.ENOMEM or _where(error) == "shared"
        return Code.OUT_OF_MEMORY if no_memory else None
    if isinstance(error, cv2.error):
        number = getattr(error, "code", None)
        return Code.OUT_OF_MEMORY if number == cv2.Error.STS_NO_MEM else None
    if not isinstance(error, RuntimeError):
        return None
    number = getattr(error, "error_code", None)  # torch.AcceleratorError, from torch 2.8 on
    text = str(error)
    if text == ONEDNN_MEMORY:
        return Code.OUT_OF_MEMORY
    causes = (
        (Code.OUT_OF_MEMORY, CUDA_OUT_OF_MEMORY, HOST_MEMORY + GPU_MEMORY + SHARED_MEMORY),
        (Code.CUDA_MISMATCH, CUDA_MISMATCHES, MISMATCHES),
        (Code.NO_GPU, CUDA_NO_DEVICE, NO_GPU),
    )
    for code, numbers, phrases in causes:
        if number in numbers or any(phrase in text for phrase in phrases):
            return code
    return None


def _where(error: BaseException) -> str:
    """Return whose memory or device it was: gpu, host or shared."""
    if isinstance(error, OSError):
        full = error.errno == errno.ENOSPC and str(error.filename).startswith("/dev/shm")
        return "shared" if full else "host"
    text = str(error)
    host = isinstance(error, MemoryError | cv2.error) or text == ONEDNN_MEMORY
    if host or any(phrase in text for phrase in HOST_MEMORY):
        return "host"
    return "shared" if any(phrase in text for phrase in SHARED_MEMORY) else "gpu"
