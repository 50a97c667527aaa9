from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from utils import device as devices
from utils.device import (
    autocast,
    compute_dtype,
    describe,
    gpu_of_rank,
    has_bfloat16,
    parse_device,
    parse_gpu_ids,
    select_device,
    visible_gpus,
)
from utils.distributed import SINGLE_PROCESS, DistContext
from utils.errors import Code, TaskError


def pretend(monkeypatch: pytest.MonkeyPatch, *, visible: int, usable: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)


def test_no_ids_mean_the_cpu_even_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, visible=2)
    assert select_device([]) == torch.device("cpu")


@pytest.mark.parametrize(
    ("ids", "chosen"),
    [
        pytest.param([0], 0, id="first"),
        pytest.param([1], 1, id="second"),
        pytest.param([0, 1], 0, id="several: the first"),
        pytest.param([5], 0, id="beyond the visible ones"),
    ],
)
def test_ids_count_among_the_visible(
    monkeypatch: pytest.MonkeyPatch, ids: list[int], chosen: int
) -> None:
    pretend(monkeypatch, visible=2)
    assert select_device(ids) == torch.device("cuda", chosen)


@pytest.mark.parametrize(
    ("visible", "usable", "code"),
    [
        pytest.param(0, False, Code.NO_GPU, id="none visible"),
        pytest.param(1, False, Code.CUDA_MISMATCH, id="driver does not fit"),
    ],
)
def test_a_gpu_that_cannot_be_had_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, visible: int, usable: bool, code: Code
) -> None:
    pretend(monkeypatch, visible=visible, usable=usable)
    with pytest.raises(TaskError) as caught:
        select_device([0])
    assert caught.value.code == code


def test_a_torch_without_cuda_beside_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, visible=0, usable=False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    with pytest.raises(TaskError, match="no GPU is visible") as caught:
        select_device([0])
    assert caught.value.code == Code.NO_GPU
    (tmp_path / "nvidia0").touch()
    with pytest.raises(TaskError, match="built without CUDA") as caught:
        select_device([0])
    assert caught.value.code == Code.CUDA_MISMATCH


def test_float32_is_never_cast() -> None:
    layer = torch.nn.Linear(2, 2)
    with autocast(torch.device("cpu"), "float32"):
        assert layer(torch.ones(1, 2)).dtype == torch.float32
    with autocast(torch.device("cpu"), "bfloat16"):
        assert layer(torch.ones(1, 2)).dtype == torch.bfloat16


def test_float16_is_for_gpus() -> None:
    assert compute_dtype(torch.device("cpu"), "float16") == torch.float32
    assert compute_dtype(torch.device("cuda"), "float16") == torch.float16
    with autocast(torch.device("cpu"), "float16"):
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32
    if torch.cuda.is_available():
        with autocast(torch.device("cuda"), "float16"):
            layer = torch.nn.Linear(2, 2).cuda()
            assert layer(torch.ones(1, 2).cuda()).dtype == torch.float16


@pytest.mark.parametrize(("bfloat16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_follows_the_hardware(
    monkeypatch: pytest.MonkeyPatch, bfloat16: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: bfloat16)
    with autocast(torch.device("cpu"), "auto"):
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype
    assert compute_dtype(torch.device("cpu"), "auto") == dtype


def test_words() -> None:
    assert describe(torch.device("cpu")).startswith("CPU (")
    assert isinstance(has_bfloat16(torch.device("cpu")), bool)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        ("0", [0]),
        ("0, 1", [0, 1]),
        ("2,", [2]),
        ("cpu", []),
        ("cuda:1", [1]),
        ("cuda", [0]),
    ],
)
def test_ids_of_a_command_line(text: str, ids: list[int]) -> None:
    assert parse_gpu_ids(text) == ids


@pytest.mark.parametrize("text", ["gpu", "0,cpu", "-1", "mps"])
def test_words_that_name_no_device_are_refused(text: str) -> None:
    with pytest.raises(TaskError, match="neither cpu nor numbers of GPUs"):
        parse_gpu_ids(text)


@pytest.mark.parametrize(("visible", "kind"), [(True, "cuda"), (False, "cpu")])
def test_no_word_means_the_first_gpu_or_the_cpu(
    visible: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(visible))
    assert parse_device(None).type == kind
    assert parse_device("").type == parse_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("granted", "visible", "expected"),
    [
        pytest.param([0, 1], 2, [0, 1], id="all there"),
        pytest.param([3, 1], 4, [3, 1], id="their order is kept"),
        pytest.param([0, 0, 1, 0], 2, [0, 1], id="each once"),
        pytest.param([1, 2, 7], 2, [1], id="beyond the visible ones"),
        pytest.param([5], 2, [], id="none of them"),
        pytest.param([0], 0, [], id="no GPU"),
    ],
)
def test_which_of_the_granted_gpus_are_there(
    monkeypatch: pytest.MonkeyPatch, granted: list[int], visible: int, expected: list[int]
) -> None:
    pretend(monkeypatch, visible=visible)
    assert visible_gpus(granted) == expected


@pytest.mark.parametrize(
    ("granted", "processes", "expected"),
    [
        pytest.param([], DistContext(1, 2, 1, 2), [], id="none granted: the CPU"),
        pytest.param([2, 0], SINGLE_PROCESS, [2, 0], id="alone: as granted"),
        pytest.param([2, 0], DistContext(0, 2, 0, 2), [2], id="first of two"),
        pytest.param([2, 0], DistContext(1, 2, 1, 2), [0], id="second of two"),
        pytest.param([2, 0], DistContext(3, 4, 1, 2), [0], id="second on the second machine"),
        pytest.param([0, 9, 2], DistContext(1, 2, 1, 2), [2], id="one is not there"),
    ],
)
def test_each_process_has_a_gpu_of_its_own(
    monkeypatch: pytest.MonkeyPatch, granted: list[int], processes: DistContext, expected: list[int]
) -> None:
    pretend(monkeypatch, visible=3)
    assert list(gpu_of_rank(granted, processes)) == expected


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, visible=1)
    with pytest.raises(TaskError, match=r"2 processes .* GPUs 0, 1 there are 1: start") as caught:
        gpu_of_rank([0, 1], DistContext(0, 2, 0, 2))
    assert caught.value.code == Code.CONFIG


def test_without_a_word_several_processes_share_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, visible=2)
    assert parse_device(None, DistContext(1, 2, 1, 2)) == torch.device("cuda", 1)
    assert parse_device(None) == torch.device("cuda", 0)
    assert parse_device("cpu", DistContext(1, 2, 1, 2)) == torch.device("cpu")


FREED = """
import resource, torch
from utils.device import keep_freed_memory
kept = keep_freed_memory() if {keep} else True
def faults():
    for _ in range(5):
        torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first, second, third, fourth = faults(), faults(), faults(), faults()
print(kept, fourth - third)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_not_fetched_anew() -> None:
    """Page faults of five times 48 MB, after it has been done before."""

    def page_faults(*, keep: bool) -> tuple[str, int]:
        command = [sys.executable, "-c", FREED.format(keep=keep)]
        done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True)
        kept, faults = done.stdout.split()
        return kept, int(faults)

    kept, faults = page_faults(keep=True)
    if kept == "False":
        pytest.skip("this C library has no mallopt")
    assert faults < page_faults(keep=False)[1] / 4
