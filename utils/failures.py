"""Any exception, told as one sentence and the platform's return code."""

from __future__ import annotations

import errno

import torch

from utils.errors import Code, TaskError
from utils.termination import Terminated


def explain(error: BaseException) -> tuple[Code, str]:
    """The return code and one sentence for the user; classified by type, never by wording,
    except where CUDA and the loader's workers leave nothing but a message.
    """
    if isinstance(error, TaskError):
        return error.code, error.sentence
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return Code.OUT_OF_MEMORY, (
            "the GPU ran out of memory: lower batch_size or img_size, or choose a smaller model."
        )
    if isinstance(error, MemoryError):
        return Code.OUT_OF_MEMORY, (
            "the machine ran out of memory: set cache to none, or lower batch_size or workers."
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return Code.CONTAINER, (
            f"no space is left on the disk while writing {error.filename or 'a result'}: free some "
            "space and start the task again."
        )
    if isinstance(error, Terminated):
        return Code.CONTAINER, (
            "the task was told to stop (SIGTERM): what was finished is kept, and a training goes "
            "on from there when it is started again."
        )
    if isinstance(error, KeyboardInterrupt):
        return Code.CONTAINER, "the task was interrupted from the keyboard."
    if isinstance(error, RuntimeError) and "no kernel image" in str(error):
        return Code.CUDA_MISMATCH, (
            "this build of torch has no kernels for the GPU: use an image made for this GPU."
        )
    text = " ".join(str(error).split())[:300]
    return Code.CONTAINER, (
        f"an unexpected {type(error).__name__} stopped the task ({text}): the traceback above "
        "tells where; please report it."
    )
