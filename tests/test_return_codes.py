"""Failing tasks end in one sentence with the code of its cause, and every code has a cause."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import start
from models.checkpoint import load_checkpoint, save_checkpoint
from tests.conftest import ROOT, TINY_TRAINING
from tests.task_results import edit, findings, record
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import Code
from ymir import weight_download

Cause = Callable[[Path, pytest.MonkeyPatch], object]
"""Breaks the task in a folder; the weights `best.pt` lie beside it."""


def _in(name: str, text: str | None) -> Cause:
    """Replace (or, for None, remove) a file of in/."""

    def apply(task: Path, _: pytest.MonkeyPatch) -> None:
        path = task / "in" / name
        path.unlink() if text is None else path.write_text(text, "utf-8")

    return apply


def _config(**change: object) -> Cause:
    return lambda task, _: edit(task / "in" / "config.yaml", **change)


def _annotations(text: str | None) -> Cause:
    """Give every training annotation this content; None removes it."""

    def apply(task: Path, _: pytest.MonkeyPatch) -> None:
        for row in (task / "in" / "train-index.tsv").read_text("utf-8").splitlines():
            annotation = task / "in" / row.split("\t")[1]
            annotation.unlink(missing_ok=True)
            if text is not None:
                annotation.write_text(text, "utf-8")

    return apply


def _broken_images(task: Path, _: pytest.MonkeyPatch) -> None:
    for path in (task / "in" / "assets").rglob("*.*"):
        path.write_bytes(b"not an image")


def _weights(write: Callable[[Path], object]) -> Cause:
    def apply(task: Path, _: pytest.MonkeyPatch) -> None:
        write(task.parent / "other.pt")
        edit(task / "in" / "config.yaml", model_params_path=[str(task.parent / "other.pt")])

    return apply


def _driver(visible: int) -> Cause:
    """What torch sees without a GPU, and with one whose driver does not fit."""

    def apply(task: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(torch.cuda, "device_count", lambda: visible)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        edit(task / "in" / "config.yaml", gpu_id="0", gpu_count=1)

    return apply


def _weights_beyond_all_numbers(task: Path, _: pytest.MonkeyPatch) -> None:
    best = task.parent / "best.pt"
    checkpoint = load_checkpoint(best)
    last = max(key for key in checkpoint.state if key.endswith("m.0.weight"))
    state = checkpoint.state | {last: torch.full_like(checkpoint.state[last], 1e38)}
    save_checkpoint(best, replace(checkpoint, state=state))
    edit(task / "in" / "config.yaml", pretrained_model_params=[str(best)])


def _nobody_at_the_other_end(task: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(weight_download, "RELEASE", "http://127.0.0.1:1/")
    edit(task / "in" / "config.yaml", download_weights="true", weights_sha256="a" * 64)


def _a_file_in_the_place_of_a_folder(task: Path, _: pytest.MonkeyPatch) -> None:
    (task / "out" / "models").rmdir()
    (task / "out" / "models").write_text("in the way")


SMALL = {"img_size": "96", "batch_size": "4", "conf_thres": "0.01"}
NO_ANCHORS = {"model": "yolov5-p34", "noautoanchor": "True"}
OUT_OF_RANGE = "7, 1, 1, 9, 9, -1.0, 0.0"
FOREIGN = _weights(lambda path: torch.save({"weight": torch.zeros(3)}, path))
TRAINING: dict[str, tuple[Cause, Code, str]] = {
    "no env.yaml": (_in("env.yaml", None), Code.CONFIG, "env.yaml"),
    "malformed env.yaml": (_in("env.yaml", "a: [1"), Code.CONFIG, "env.yaml"),
    "no config.yaml": (_in("config.yaml", None), Code.CONFIG, "config.yaml"),
    "malformed config.yaml": (_in("config.yaml", "]"), Code.CONFIG, "config.yaml"),
    "wrong type": (_config(epochs="many"), Code.CONFIG, "epochs is 'many'"),
    "out of range": (_config(epochs="0"), Code.CONFIG, "epochs"),
    "no such model": (_config(model="yolov9q"), Code.CONFIG, "yolov9q"),
    "no anchors": (_config(**NO_ANCHORS), Code.CONFIG, "noautoanchor is set"),
    "segmentation": (_config(object_type=3), Code.OBJECT_TYPE, "detection only"),
    "no GPU": (_driver(0), Code.NO_GPU, "no GPU is visible"),
    "another driver": (_driver(1), Code.CUDA_MISMATCH, "driver"),
    "no index": (_in("train-index.tsv", None), Code.DATASET, "train-index.tsv"),
    "empty index": (_in("train-index.tsv", "\n"), Code.DATASET, "train-index.tsv lists no image"),
    "empty validation": (_in("val-index.tsv", ""), Code.DATASET, "val-index.tsv"),
    "no annotations": (_annotations(None), Code.DATASET, "annotation"),
    "malformed annotations": (_annotations("0, a, b"), Code.DATASET, "line 1"),
    "class out of range": (_annotations(OUT_OF_RANGE), Code.DATASET, "7"),
    "no training image": (_broken_images, Code.IMAGE_FORMAT, "can be read"),
    "pretrained gone": (_config(pretrained_model_params=["gone.pt"]), Code.MODEL, "gone.pt"),
    "infinite weights": (_weights_beyond_all_numbers, Code.NOT_A_NUMBER, "not a number"),
    "no network": (_nobody_at_the_other_end, Code.NETWORK, "could not be fetched"),
    "a file in the way": (
        _a_file_in_the_place_of_a_folder,
        Code.CONTAINER,
        "check what lies there",
    ),
}
MINING: dict[str, tuple[Cause, Code, str]] = {
    "no readable candidate": (_broken_images, Code.IMAGE_FORMAT, "image"),
    "no candidates": (_in("candidate-index.tsv", ""), Code.DATASET, "candidate-index"),
    "weights missing": (_weights(lambda path: None), Code.MODEL, "other.pt"),
    "weights are a page": (_weights(lambda p: p.write_bytes(b"<html>")), Code.MODEL, "other.pt"),
    "foreign weights": (FOREIGN, Code.MODEL, "other.pt"),
    "no such algorithm": (_config(mining_algorithm="best"), Code.CONFIG, "cald"),
}
INFERENCE: dict[str, tuple[Cause, Code, str]] = {
    "no such class": (_config(classes="unicorn"), Code.CONFIG, "classes names unicorn"),
}
FAILURES = [
    pytest.param(kind, *failure, id=name)
    for kind, failures in (("training", TRAINING), ("mining", MINING), ("infer", INFERENCE))
    for name, failure in failures.items()
]


def test_every_code_has_its_cause() -> None:
    """Memory that runs out is a test of its own: it takes a process that has little."""
    assert {case.values[2] for case in FAILURES} | {Code.OUT_OF_MEMORY, Code.OK} == set(Code)


@pytest.mark.parametrize(("kind", "cause", "code", "mention"), FAILURES)
def test_failures_end_in_one_sentence(
    drawn: SourceDataset,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    cause: Cause,
    code: Code,
    mention: str,
) -> None:
    task = tmp_path / "task"
    (tmp_path / "best.pt").write_bytes(weights.read_bytes())
    models = [] if kind == "training" else [weights]
    settings = SMALL if models else {**TINY_TRAINING, "plots": "no", "onnx": "no"}
    env_file = write_task(drawn, task, kinds=(kind,), settings=settings, weights=models, copy=True)
    untouched = {path: path.read_text("utf-8") for path in (task / "in").glob("*.yaml")}
    cause(task, monkeypatch)
    assert start.main(["--env", str(env_file)]) == 1
    output = capsys.readouterr().out
    last = output.strip().splitlines()[-1]
    assert last.startswith(f"FAILED ({int(code)}): ")
    assert mention in last
    if code != Code.CONTAINER:
        assert "Traceback" not in output, "a reason that a user can act on is told without"
    assert record(task)[3:5] == ["4", str(int(code))]
    for path, text in untouched.items():  # the checker needs to know the task
        path.write_text(text, "utf-8")
    ours = "monitor.task_id" if mention == "env.yaml" else "nothing"
    assert [f for f in findings(task, failed=True) if not f.startswith(ours)] == []


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
    task = tmp_path / "task"
    settings = {"img_size": "4096", "batch_size": "16", "workers": "0", "plots": "false"}
    kinds, candidates = ("infer",), "train"
    env_file = write_task(
        drawn, task, kinds=kinds, settings=settings, weights=[weights], candidates=candidates
    )
    command = [sys.executable, "-c", NARROW, "--env", str(env_file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1]
    assert re.match(rf"FAILED \({int(Code.OUT_OF_MEMORY)}\): the machine ran out of memory", last)
    assert done.returncode == 1
    assert findings(task, failed=True) == []
