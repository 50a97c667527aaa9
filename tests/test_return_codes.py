"""Every return code of the protocol has a cause that a whole task can meet, and its own alone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

import start
from models.checkpoint import load_checkpoint, save_checkpoint
from tasks import training
from tests.conftest import ROOT, TINY_TRAINING
from tools.check_out import check_out
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import Code

Cause = Callable[[Path, pytest.MonkeyPatch], None]


def _config(**change: object) -> Cause:
    def apply(task: Path, _: pytest.MonkeyPatch) -> None:
        path = task / "in" / "config.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text("utf-8")) | change), "utf-8")

    return apply


def _empty_index(task: Path, _: pytest.MonkeyPatch) -> None:
    (task / "in" / "train-index.tsv").write_text("")


def _no_image(task: Path, _: pytest.MonkeyPatch) -> None:
    for path in (task / "in" / "assets").rglob("*.*"):
        path.write_bytes(b"not an image")


def _driver(visible: int) -> Cause:
    """What torch sees without a GPU, and with one whose driver does not fit."""

    def apply(task: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(torch.cuda, "device_count", lambda: visible)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        _config(gpu_id="0", gpu_count=1)(task, patch)

    return apply


def _weights_beyond_all_numbers(task: Path, patch: pytest.MonkeyPatch) -> None:
    best = next((task.parent / "trained").glob("*.pt"))
    checkpoint = load_checkpoint(best)
    last = max(key for key in checkpoint.state if key.endswith("m.0.weight"))
    state = checkpoint.state | {last: torch.full_like(checkpoint.state[last], 1e38)}
    save_checkpoint(best, replace(checkpoint, state=state))
    _config(pretrained_model_params=[str(best)])(task, patch)


def _nobody_at_the_other_end(task: Path, patch: pytest.MonkeyPatch) -> None:
    nowhere = partial(training.download_weights, release="http://127.0.0.1:1/")
    patch.setattr(training, "download_weights", nowhere)
    _config(download_weights="true", weights_sha256="a" * 64)(task, patch)


def _a_file_in_the_place_of_a_folder(task: Path, _: pytest.MonkeyPatch) -> None:
    (task / "out" / "models").rmdir()
    (task / "out" / "models").write_text("in the way")


CAUSES: dict[Code, tuple[Cause, str]] = {
    Code.CONFIG: (_config(epochs="many"), "epochs is 'many'"),
    Code.DATASET: (_empty_index, "train-index.tsv lists no image"),
    Code.IMAGE_FORMAT: (_no_image, "can be read"),
    Code.MODEL: (_config(pretrained_model_params=["gone.pt"]), "gone.pt"),
    Code.OBJECT_TYPE: (_config(object_type=3), "detection only"),
    Code.CUDA_MISMATCH: (_driver(1), "driver"),
    Code.NO_GPU: (_driver(0), "no GPU is visible"),
    Code.NOT_A_NUMBER: (_weights_beyond_all_numbers, "not a number"),
    Code.NETWORK: (_nobody_at_the_other_end, "could not be fetched"),
    Code.CONTAINER: (_a_file_in_the_place_of_a_folder, "stopped the task"),
}


def test_every_code_has_its_cause() -> None:
    """Memory that runs out is a test of its own: it takes a process that has little."""
    assert set(CAUSES) | {Code.OUT_OF_MEMORY, Code.OK} == set(Code)


@pytest.mark.parametrize("code", CAUSES)
def test_a_task_ends_with_the_code_of_its_cause(
    drawn: SourceDataset,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: Code,
) -> None:
    cause, words = CAUSES[code]
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "best.pt").write_bytes(weights.read_bytes())
    settings = {**TINY_TRAINING, "plots": "false", "onnx": "false"}
    env_file = write_task(drawn, tmp_path / "task", settings=settings, copy=True)
    cause(tmp_path / "task", monkeypatch)
    assert start.main(["--env", str(env_file)]) == 1
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith(f"FAILED ({int(code)}): ")
    assert words in last
    findings = check_out(tmp_path / "task", failed=True)
    broken_by_us = {"file"} if code == Code.CONTAINER else set()
    assert [f for f in findings if f.rule not in broken_by_us] == []
    columns = (tmp_path / "task/out/monitor.txt").read_text("utf-8").split("\n")[0].split("\t")
    assert columns[3:5] == ["4", str(int(code))]


NARROW = """
import resource, sys
import start
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (700 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(start.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_that_runs_out(drawn: SourceDataset, weights: Path, tmp_path: Path) -> None:
    env_file = write_task(
        drawn,
        tmp_path / "task",
        kinds=("infer",),
        settings={"img_size": "4096", "batch_size": "16", "workers": "0", "plots": "false"},
        weights=[weights],
        candidates="train",
    )
    done = subprocess.run(
        [sys.executable, "-c", NARROW, "--env", str(env_file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stdout.strip().splitlines()[-1]
    assert re.match(rf"FAILED \({int(Code.OUT_OF_MEMORY)}\): the machine ran out of memory", last)
    assert done.returncode == 1
    assert check_out(tmp_path / "task", failed=True) == []
