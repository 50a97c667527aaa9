"""Classify any exception: one sentence for the user and the platform's return code."""

from __future__ import annotations

import errno
import os

import cv2
import torch

from utils.errors import Code, TaskError
from utils.shutdown import TOLD_TO_STOP, Terminated

# Kinds of trouble, each with its return code and advice.
KINDS = {
    "gpu memory": (
        Code.OUT_OF_MEMORY,
        "the GPU ran out of memory: lower batch_size or img_size, or choose a smaller model.",
    ),
    "host memory": (
        Code.OUT_OF_MEMORY,
        "the machine ran out of memory: set cache to none, or lower batch_size or workers.",
    ),
    "shared memory": (
        Code.OUT_OF_MEMORY,
        "the shared memory /dev/shm is full: set workers to 0, or start the container with a "
        "larger --shm-size (setting shm_size).",
    ),
    "mismatch": (
        Code.CUDA_MISMATCH,
        "this build of torch, the driver and the GPU do not fit together: update the driver, or "
        "use an image made for this GPU.",
    ),
    "no gpu": (
        Code.NO_GPU,
        "the GPU that the task was granted is not there: grant it one, or set gpu_id to '' to run "
        "on the CPU.",
    ),
    "worker": (
        Code.CONTAINER,
        "a worker process that prepares batches was killed from outside, most often because the "
        "machine ran out of memory: lower workers, or set cache to none; started again, a "
        "training resumes after its last whole epoch.",
    ),
}
# Numbers of the CUDA runtime's errors; the mismatches: driver too old, no kernel for the GPU, its
# intermediate code too new, driver and library apart, a compatibility package that lacks the GPU.
CUDA_NUMBERS = {2: "gpu memory", 100: "no gpu"} | dict.fromkeys(
    (35, 209, 222, 803, 804), "mismatch"
)
# Fixed phrases of the messages where torch raises a bare RuntimeError; the first that occurs.
PHRASES = {
    "DefaultCPUAllocator:": "host memory",
    "CUDA error: out of memory in host": "host memory",
    "CUDA error: out of memory": "gpu memory",
    "CUBLAS_STATUS_ALLOC_FAILED": "gpu memory",
    "CUDNN_STATUS_ALLOC_FAILED": "gpu memory",
    "killed by signal: Bus error": "shared memory",
    "unable to write to file </torch_": "shared memory",
    "no kernel image": "mismatch",
    "driver version is insufficient": "mismatch",
    "driver on your system is too": "mismatch",
    "Found no NVIDIA driver": "no gpu",
    "No CUDA GPUs are available": "no gpu",
    "no CUDA-capable device": "no gpu",
    "DataLoader worker (pid": "worker",
}
PLACES = {
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS),
        "give this user access to it, or name another place",
    ),
    **dict.fromkeys(
        (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP),
        "check what lies there, or name another place",
    ),
    errno.ENAMETOOLONG: "name a shorter one",
    errno.ENXIO: "name a file",
    **dict.fromkeys(
        (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EREMOTEIO),
        "its disk or network has a fault: mend that, and start again",
    ),
}
"""By the numbers of errors of the file system: what to do about the file that is named."""
ONEDNN_MEMORY = "could not create a primitive"
"""The whole message of oneDNN without memory; longer texts mean other errors."""


def explain(error: BaseException) -> tuple[Code, str]:
    """Return the return code of an exception and one sentence for the user."""
    text = " ".join(str(error).split())[:300]
    return known_cause(error) or (
        Code.CONTAINER,
        f"an unexpected {type(error).__name__} stopped the task ({text}): the traceback above "
        "tells where; please report it.",
    )


def known_cause(error: BaseException) -> tuple[Code, str] | None:
    """Return code and sentence for what a user or a machine can cause; None for a bug of ours.

    Classified by type, never by wording, except where torch raises a bare RuntimeError.
    """
    if isinstance(error, TaskError):
        return error.code, error.sentence
    if isinstance(error, Terminated):
        return Code.CONTAINER, TOLD_TO_STOP
    if isinstance(error, KeyboardInterrupt):
        return Code.CONTAINER, (
            "the task was interrupted from the keyboard: what was finished is kept, and it goes on "
            "from there when it is started again."
        )
    if kind := _kind_of(error):
        return KINDS[kind]
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Code.CONTAINER, (
            f"no space is left on the disk while writing {_written(error)}: free some "
            "space and start the task again."
        )
    if isinstance(error, OSError) and error.filename is not None and error.errno in PLACES:
        return Code.CONTAINER, (
            f"{os.fsdecode(error.filename)} cannot be used ({error.strerror}): "
            f"{PLACES[error.errno]}."
        )
    return None


def out_of_memory(error: BaseException) -> str | None:
    """Return what ran out of memory, the GPU or the machine; None for any other error."""
    return {"gpu memory": "the GPU", "host memory": "the machine"}.get(_kind_of(error) or "")


def _written(error: OSError) -> str:
    """Return the file that an error is about; of a copy, the second."""
    name = error.filename2 or error.filename
    return "a result" if name is None else os.fsdecode(name)


def _kind_of(error: BaseException) -> str | None:
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "gpu memory"
    if isinstance(error, MemoryError):
        return "host memory"
    if isinstance(error, OSError):
        shared = str(error.filename).startswith("/dev/shm")
        kinds = {errno.ENOMEM: "host memory", errno.ENOSPC: "shared memory" if shared else None}
        return kinds.get(error.errno or 0)
    if isinstance(error, cv2.error):
        return "host memory" if getattr(error, "code", None) == cv2.Error.STS_NO_MEM else None
    if not isinstance(error, RuntimeError):
        return None
    text = str(error)
    if text == ONEDNN_MEMORY:
        return "host memory"
    number = getattr(error, "error_code", -1)  # torch.AcceleratorError, from torch 2.8 on
    return CUDA_NUMBERS.get(number) or next(
        (kind for phrase, kind in PHRASES.items() if phrase in text), None
    )
