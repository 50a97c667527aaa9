from __future__ import annotations

import errno

import pytest
import torch

from utils.errors import Code, TaskError
from utils.failures import explain


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
            "batch_size",
            id="GPU memory",
        ),
        pytest.param(MemoryError(), Code.OUT_OF_MEMORY, "cache", id="host memory"),
        pytest.param(
            OSError(errno.ENOSPC, "full", "best.pt"), Code.CONTAINER, "best.pt", id="disk full"
        ),
        pytest.param(
            RuntimeError("CUDA error: no kernel image is available"),
            Code.CUDA_MISMATCH,
            "kernels",
            id="no kernel",
        ),
        pytest.param(KeyboardInterrupt(), Code.CONTAINER, "interrupted", id="interrupted"),
        pytest.param(
            ValueError("not out of memory"),
            Code.CONTAINER,
            "ValueError",
            id="wording alone is no out of memory",
        ),
        pytest.param(
            OSError(errno.EACCES, "denied", "x"),
            Code.CONTAINER,
            "PermissionError",
            id="another OS error",
        ),
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
