"""The device of a task or a rank, its number format, and memory that the allocator keeps."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.pretend_gpu import PretendGpu
from utils import device as devices
from utils.device import (
    allow_tf32,
    autocast,
    compute_dtype,
    gpu_of_rank,
    inference_precision,
    parse_device,
    parse_gpu_ids,
    select_device,
    tried_kernels,
    visible_gpus,
    without_tf32,
)
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.errors import Code, TaskError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SECOND_OF_TWO = DistContext(1, 2, 1, 2)


def pretend(monkeypatch: pytest.MonkeyPatch, *, visible: int, usable: bool = True) -> list[int]:
    """Pretend GPUs; return the list of those that are made the current one."""
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    return taken


@pytest.mark.parametrize(
    ("ids", "chosen"),
    [
        pytest.param([], "cpu", id="none: the CPU, even beside a GPU"),
        pytest.param([1], "cuda:1", id="second"),
        pytest.param([0, 1], "cuda:0", id="several: the first"),
        pytest.param([5], "cuda:0", id="beyond the visible ones"),
    ],
)
def test_ids_count_among_the_visible_gpus(
    monkeypatch: pytest.MonkeyPatch, ids: list[int], chosen: str
) -> None:
    taken = pretend(monkeypatch, visible=2)
    assert str(select_device(ids)) == chosen
    assert [f"cuda:{number}" for number in taken] == [chosen] * (chosen != "cpu")


@pytest.mark.parametrize(
    ("threads", "cpus", "variable", "expected"),
    [
        pytest.param(64, 2, None, 2, id="a pod of 2 CPUs on a host of 64"),
        pytest.param(32, 64, None, 32, id="a thread per core, not per hyper-thread"),
        pytest.param(64, 2, "64", 64, id="as the user says"),
    ],
)
def test_a_process_computes_with_the_cpus_of_its_container(
    monkeypatch: pytest.MonkeyPatch, threads: int, cpus: int, variable: str | None, expected: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr(devices, "available_cpus", lambda: cpus)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        select_device([])
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def test_a_gpu_that_cannot_be_used_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def code() -> Code:
        with pytest.raises(TaskError) as caught:
            select_device([0])
        return caught.value.code

    pretend(monkeypatch, visible=1, usable=False)
    assert code() == Code.CUDA_MISMATCH  # the driver does not fit
    pretend(monkeypatch, visible=0, usable=False)
    assert code() == Code.NO_GPU
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    assert code() == Code.NO_GPU
    (tmp_path / "nvidia0").touch()
    assert code() == Code.CUDA_MISMATCH  # torch was built without CUDA


def computed(precision: str) -> torch.dtype:
    with autocast(CPU, precision):
        return torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype


@pytest.mark.parametrize(
    ("precision", "hardware", "dtype"),
    [
        ("float32", True, torch.float32),
        ("bfloat16", False, torch.bfloat16),
        ("float16", True, torch.float32),
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
    ],
)
def test_precision_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, precision: str, hardware: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: hardware)
    assert computed(precision) == compute_dtype(CPU, precision) == dtype


def test_float16_is_for_gpus() -> None:
    assert compute_dtype(CUDA, "float16") == torch.float16
    if torch.cuda.is_available():
        with autocast(CUDA, "float16"):
            layer = torch.nn.Linear(2, 2).cuda()
            assert layer(torch.ones(1, 2).cuda()).dtype == torch.float16


@pytest.mark.parametrize(
    ("capability", "training", "inference"),
    [
        pytest.param((6, 1), torch.float32, torch.float32, id="no tensor cores"),
        pytest.param((7, 0), torch.float16, torch.float16, id="V100"),
        pytest.param((7, 5), torch.float16, torch.float16, id="T4"),
        pytest.param((8, 0), torch.bfloat16, torch.float16, id="A100"),
        pytest.param((9, 0), torch.bfloat16, torch.float16, id="H100"),
    ],
)
def test_auto_on_a_gpu(
    pretend_gpu: PretendGpu,
    capability: tuple[int, int],
    training: torch.dtype,
    inference: torch.dtype,
) -> None:
    pretend_gpu.capability = capability
    assert compute_dtype(CUDA, "auto") == training
    assert compute_dtype(CUDA, inference_precision(CUDA, "auto")) == inference
    for named in (torch.float32, torch.bfloat16, torch.float16):
        word = str(named).removeprefix("torch.")
        assert compute_dtype(CUDA, word) == compute_dtype(CUDA, inference_precision(CUDA, word))
        assert compute_dtype(CUDA, word) == named


def test_a_cpu_evaluates_in_float32_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: True)
    for precision, seen, evaluated in (
        ("auto", torch.bfloat16, torch.float32),
        ("bfloat16", torch.bfloat16, torch.bfloat16),
    ):
        assert compute_dtype(CPU, inference_precision(CPU, precision)) == seen
        figures = inference_precision(CPU, precision, evaluates=True)
        assert compute_dtype(CPU, figures) == evaluated


def test_tf32_is_as_told_and_off_in_a_comparison() -> None:
    def states() -> set[bool]:
        return {torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32}

    for allowed in (True, False):
        allow_tf32(allowed)
        with without_tf32():
            assert states() == {False}
        assert states() == {allowed}


def test_kernels_are_tried_on_a_gpu_for_fixed_shapes_only() -> None:
    for device, fixed, tried in ((CUDA, True, True), (CUDA, False, False), (CPU, True, False)):
        with tried_kernels(device, fixed_shapes=fixed):
            assert torch.backends.cudnn.benchmark == tried
        assert not torch.backends.cudnn.benchmark


def test_gpu_ids_of_a_command_line() -> None:
    texts = {"": [], "0": [0], "0, 1": [0, 1], "2,": [2], "cpu": [], "cuda:1": [1]}
    assert {text: parse_gpu_ids(text) for text in texts} == texts


@pytest.mark.parametrize("text", ["gpu", "0,cpu", "-1", "mps"])
def test_text_that_names_no_device_is_refused(text: str) -> None:
    with pytest.raises(TaskError, match="neither cpu nor numbers of GPUs"):
        parse_gpu_ids(text)


def test_without_a_word_it_is_the_first_gpu_or_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, visible=0, usable=False)
    assert parse_device(None) == CPU
    pretend(monkeypatch, visible=2)
    assert parse_device(None) == torch.device("cuda", 0)
    assert parse_device(None, SECOND_OF_TWO) == torch.device("cuda", 1)
    assert parse_device("") == parse_device("cpu", SECOND_OF_TWO) == CPU


def test_visible_gpus_are_those_granted_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, visible=3)
    assert visible_gpus([2, 0, 2, 7]) == [2, 0]


@pytest.mark.parametrize(
    ("granted", "processes", "expected"),
    [
        pytest.param([], SECOND_OF_TWO, [], id="none granted: the CPU"),
        pytest.param([2, 0], SINGLE_PROCESS, [2, 0], id="alone: as granted"),
        pytest.param([2, 0], DistContext(0, 2, 0, 2), [2], id="first of two"),
        pytest.param([2, 0], DistContext(3, 4, 1, 2), [0], id="second on the second machine"),
        pytest.param([0, 9, 2], SECOND_OF_TWO, [2], id="one is not there"),
    ],
)
def test_each_rank_has_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch, granted: list[int], processes: DistContext, expected: list[int]
) -> None:
    pretend(monkeypatch, visible=3)
    assert list(gpu_of_rank(granted, processes)) == expected


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, visible=1)
    with pytest.raises(TaskError, match=r"2 processes .* GPUs 0, 1 there are 1: start") as caught:
        gpu_of_rank([0, 1], DistContext(0, 2, 0, 2))
    assert caught.value.code == Code.CONFIG


FREED = """
import resource, torch
from utils.device import keep_freed_memory
def faults():
    for _ in range(5):
        torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def growth():
    first, second, third, fourth = faults(), faults(), faults(), faults()
    return fourth - third
print(growth(), keep_freed_memory() or "", growth())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_not_fetched_anew() -> None:
    """Page faults of five times 48 MB, after it has been done before."""
    done = subprocess.run(
        [sys.executable, "-c", FREED], cwd=ROOT, text=True, capture_output=True, check=True
    )
    before, after = done.stdout.split()
    assert int(after) < int(before) / 4
