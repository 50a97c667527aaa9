"""Every exception has the return code of its cause, and no other."""

from __future__ import annotations

import errno

import cv2
import numpy as np
import pytest
import torch

from utils.classify_error import explain
from utils.errors import Code, TaskError
from utils.shutdown import Terminated


class Accelerator(RuntimeError):
    """An error of the CUDA runtime as torch raises it from 2.8 on: with its number."""

    def __init__(self, number: int) -> None:
        super().__init__("CUDA error: something happened")
        self.error_code = number


WORKER = "DataLoader worker (pid 7) is killed by signal: "
CASES = [
    (TaskError(Code.DATASET, "the index is empty."), Code.DATASET, "is empty"),
    (torch.cuda.OutOfMemoryError("CUDA out of memory"), Code.OUT_OF_MEMORY, "GPU ran out"),
    (Accelerator(2), Code.OUT_OF_MEMORY, "GPU ran out"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), Code.OUT_OF_MEMORY, "GPU ran out"),
    (RuntimeError("CUDA error: out of memory in host"), Code.OUT_OF_MEMORY, "machine ran out"),
    (MemoryError(), Code.OUT_OF_MEMORY, "cache"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), Code.OUT_OF_MEMORY, "machine ran out"),
    (RuntimeError(WORKER + "Bus error. Out of it"), Code.OUT_OF_MEMORY, "/dev/shm"),
    (RuntimeError("could not create a primitive"), Code.OUT_OF_MEMORY, "machine ran out"),
    (RuntimeError("could not create a primitive descriptor"), Code.CONTAINER, "RuntimeError"),
    (RuntimeError(WORKER + "Killed. "), Code.CONTAINER, "a worker process"),
    (OSError(errno.ENOSPC, "full", "/dev/shm/x"), Code.OUT_OF_MEMORY, "shm_size"),
    (OSError(errno.ENOSPC, "full", "best.pt"), Code.CONTAINER, "disk while writing best.pt"),
    (OSError(errno.ENOSPC, "full", "a.jpg", None, "b.jpg"), Code.CONTAINER, "writing b.jpg:"),
    (OSError(errno.EDQUOT, "quota", "best.pt"), Code.CONTAINER, "disk while writing best.pt"),
    (RuntimeError("CUDA error: no kernel image is"), Code.CUDA_MISMATCH, "made for this GPU"),
    (Accelerator(35), Code.CUDA_MISMATCH, "driver"),
    (RuntimeError("The NVIDIA driver on your system is too old"), Code.CUDA_MISMATCH, "driver"),
    (Accelerator(100), Code.NO_GPU, "gpu_id"),
    (RuntimeError("No CUDA GPUs are available"), Code.NO_GPU, "gpu_id"),
    (KeyboardInterrupt(), Code.CONTAINER, "interrupted"),
    (Terminated(), Code.CONTAINER, "told to stop (SIGTERM)"),
    (Accelerator(700), Code.CONTAINER, "Accelerator"),
    # Words about memory in other errors.
    (ValueError("CUDA out of memory"), Code.CONTAINER, "ValueError"),
    (KeyError("CUDA error: out of memory"), Code.CONTAINER, "KeyError"),
    (RuntimeError("this is not CUDA out of memory"), Code.CONTAINER, "RuntimeError"),
    (RuntimeError("CUDA error: an illegal memory access"), Code.CONTAINER, "RuntimeError"),
    (FileNotFoundError(2, "No such file", "out of memory.jpg"), Code.CONTAINER, "check what"),
    (OSError(errno.EACCES, "denied", "x"), Code.CONTAINER, "x cannot be used (denied)"),
    (cv2.error("odd"), Code.CONTAINER, "error"),
]


@pytest.mark.parametrize(("error", "code", "words"), CASES, ids=repr)
def test_each_failure_has_its_code_and_a_sentence(
    error: BaseException, code: Code, words: str
) -> None:
    found, sentence = explain(error)
    assert found == code
    assert words in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    "allocate",
    [
        pytest.param(lambda: torch.empty(2**50), id="torch"),
        pytest.param(lambda: np.zeros(2**50), id="numpy"),
        pytest.param(
            lambda: cv2.resize(np.zeros((1, 1, 3), np.uint8), (2**31 - 1, 2**20)), id="opencv"
        ),
        pytest.param(lambda: bytearray(2**60), id="python"),
    ],
)
def test_memory_that_really_is_not_there(allocate: object) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the library raises
        allocate()  # type: ignore[operator]
    code, sentence = explain(caught.value)
    assert (code, "machine ran out" in sentence) == (Code.OUT_OF_MEMORY, True)


@pytest.mark.skipif(
    torch.cuda.is_available() or torch.version.cuda is None, reason="a GPU, or a torch for none"
)
def test_a_gpu_that_really_is_not_there() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(1, device="cuda")
    assert explain(caught.value)[0] == Code.NO_GPU
