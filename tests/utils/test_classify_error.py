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


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        pytest.param(
            TaskError(Code.DATASET, "the index is empty."),
            Code.DATASET,
            "is empty",
            id="a task error keeps its own",
        ),
        pytest.param(
            torch.cuda.OutOfMemoryError("CUDA out of memory"),
            Code.OUT_OF_MEMORY,
            "GPU ran out",
            id="GPU memory",
        ),
        pytest.param(Accelerator(2), Code.OUT_OF_MEMORY, "GPU ran out", id="number of no memory"),
        pytest.param(
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
            Code.OUT_OF_MEMORY,
            "GPU ran out",
            id="GPU memory of a library",
        ),
        pytest.param(MemoryError(), Code.OUT_OF_MEMORY, "cache", id="host memory"),
        pytest.param(
            OSError(errno.ENOMEM, "Cannot allocate memory"),
            Code.OUT_OF_MEMORY,
            "machine ran out",
            id="no memory for a process",
        ),
        pytest.param(
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. Out of it"),
            Code.OUT_OF_MEMORY,
            "/dev/shm",
            id="shared memory",
        ),
        pytest.param(
            RuntimeError("could not create a primitive"),
            Code.OUT_OF_MEMORY,
            "machine ran out",
            id="memory of a convolution on the CPU",
        ),
        pytest.param(
            RuntimeError("could not create a primitive descriptor for a convolution"),
            Code.CONTAINER,
            "RuntimeError",
            id="an impossible convolution",
        ),
        pytest.param(
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            Code.CONTAINER,
            "a worker process",
            id="a dead worker",
        ),
        pytest.param(
            OSError(errno.ENOSPC, "full", "/dev/shm/x"),
            Code.OUT_OF_MEMORY,
            "shm_size",
            id="shared memory full",
        ),
        pytest.param(
            OSError(errno.ENOSPC, "full", "best.pt"), Code.CONTAINER, "best.pt", id="disk full"
        ),
        pytest.param(
            OSError(errno.EDQUOT, "quota", "best.pt"), Code.CONTAINER, "best.pt", id="quota"
        ),
        pytest.param(
            RuntimeError("CUDA error: no kernel image is available"),
            Code.CUDA_MISMATCH,
            "an image made for this GPU",
            id="no kernel",
        ),
        pytest.param(Accelerator(209), Code.CUDA_MISMATCH, "driver", id="number of no kernel"),
        pytest.param(Accelerator(35), Code.CUDA_MISMATCH, "driver", id="number of an old driver"),
        pytest.param(
            RuntimeError("The NVIDIA driver on your system is too old (found version 11040)."),
            Code.CUDA_MISMATCH,
            "driver",
            id="old driver",
        ),
        pytest.param(Accelerator(100), Code.NO_GPU, "gpu_id", id="number of no device"),
        pytest.param(
            RuntimeError("No CUDA GPUs are available"), Code.NO_GPU, "gpu_id", id="no device"
        ),
        pytest.param(KeyboardInterrupt(), Code.CONTAINER, "interrupted", id="interrupted"),
        pytest.param(Terminated("SIGTERM"), Code.CONTAINER, "told to stop (SIGTERM)", id="SIGTERM"),
        pytest.param(Accelerator(700), Code.CONTAINER, "Accelerator", id="another CUDA error"),
        pytest.param(
            ValueError("out of memory"),
            Code.CONTAINER,
            "ValueError",
            id="wording alone is no out of memory",
        ),
        pytest.param(
            RuntimeError("this is not CUDA out of memory"),
            Code.CONTAINER,
            "RuntimeError",
            id="nor are the words in another error of that type",
        ),
        pytest.param(
            OSError(errno.EACCES, "denied", "x"),
            Code.CONTAINER,
            "PermissionError",
            id="another OS error",
        ),
        pytest.param(cv2.error("odd"), Code.CONTAINER, "error", id="another error of OpenCV"),
    ],
)
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


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_really_is_not_there() -> None:
    with pytest.raises((RuntimeError, AssertionError)) as caught:
        torch.zeros(1, device="cuda")
    if torch.version.cuda is not None:
        assert explain(caught.value)[0] == Code.NO_GPU


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ValueError("CUDA out of memory"), id="a value"),
        pytest.param(RuntimeError("the list of images is out of memory order"), id="an order"),
        pytest.param(FileNotFoundError(2, "No such file", "out of memory.jpg"), id="a file's name"),
        pytest.param(OSError(errno.ENOSPC, "No space left", "/out/memory.pt"), id="a full disk"),
        pytest.param(KeyError("CUDA error: out of memory"), id="a key"),
        pytest.param(RuntimeError("CUDA error: an illegal memory access"), id="a wrong access"),
        pytest.param(TaskError(Code.DATASET, "no memory of this image."), id="a data set"),
    ],
)
def test_words_about_memory_are_no_lack_of_it(error: Exception) -> None:
    assert explain(error)[0] != Code.OUT_OF_MEMORY
