from __future__ import annotations

from pathlib import Path

import pytest
import torch

from utils import device as devices
from utils.device import autocast, describe, device_of, gpu_ids_of, has_bfloat16, select_device
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
    assert gpu_ids_of(text) == ids


@pytest.mark.parametrize("text", ["gpu", "0,cpu", "-1", "mps"])
def test_words_that_name_no_device_are_refused(text: str) -> None:
    with pytest.raises(TaskError, match="neither cpu nor numbers of GPUs"):
        gpu_ids_of(text)


@pytest.mark.parametrize(("visible", "kind"), [(True, "cuda"), (False, "cpu")])
def test_no_word_means_the_first_gpu_or_the_cpu(
    visible: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(visible))
    assert device_of(None).type == kind
    assert device_of("").type == device_of("cpu").type == "cpu"
