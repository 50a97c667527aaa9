"""The faults that are injected into tasks: a table, and the two ways to inject one."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.fault_tasks import (
    MonitorWatch,
    Outcome,
    check_outputs,
    free_disk,
    make_task,
    restart_and_check,
    return_code,
    small_disk,
    start_task,
)
from tools.sources import SourceDataset
from utils.errors import Code

DISK, BLOCK = 96, 4096
"""MiB of a small disk, enough for a tiny training; bytes left free by some faults."""
TOO_LATE = ", too late"
"""Suffix of a fault's name where the task was complete before the signal."""
GRACE = 10.0
"""Seconds from SIGTERM to SIGKILL that a container is given."""


@dataclass(frozen=True)
class Fault:
    """One fault: what happens to which kind of task, at which place, and the code to be reported.

    `code` OK means that the task must go on to its end, since it can do without what was lost.
    """

    kind: str
    name: str
    do: str
    at: str
    """`file:NAME`, the n-th time that a file of this name is about to be replaced, or
    `MODULE:FUNCTION`, the n-th call of a function."""
    code: Code
    nth: int = 1
    leave: int = 0
    """Bytes left free on a full disk."""
    settings: Mapping[str, str] = field(default_factory=dict)
    disk: str = "out"
    """Folder of the task that becomes a disk of its own, where one is needed."""

    @property
    def needs_disk(self) -> bool:
        """Whether it needs a disk that can be filled."""
        return self.do == "full"


SCALARS = "reporting.tensorboard:TensorBoardLogger.scalars"
PAGE = "reporting.candidate_report:CandidateReport.write"
OWN, CURVES = "a full disk of TensorBoard's own", "out/tensorboard"
PLOTS, NO_CACHE, WORKERS = {"plots": "yes"}, {"cache": "none"}, {"workers": "2"}
ONNX = {"onnx": "yes", "opset": "17"}
BATCH, PIXELS = "training.step:network_input", "inference.network:Network.pixels"
FULL: tuple[tuple[str, str, str, int, int, Mapping[str, str]], ...] = (
    ("training", "best.pt", "file:best.pt", 1, BLOCK, {}),
    ("training", "last.pt", "file:last.pt", 2, BLOCK, {}),
    ("training", "last.state", "file:last.state", 2, BLOCK, {}),
    ("training", "result.yaml", "file:result.yaml", 3, 0, {}),
    ("training", "monitor.txt", "file:monitor.txt", 3, 0, {}),
    ("training", "results.csv", "reporting.results_csv:CsvLogger.on_epoch_end", 2, 0, {}),
    ("training", "TensorBoard", SCALARS, 2, 0, {}),
    ("training", "a picture", "file:pr_curve.png", 1, 0, PLOTS),
    ("training", "report.html", "file:report.html", 1, 0, PLOTS),
    ("training", "best.onnx", "file:best.onnx", 1, BLOCK, ONNX),
    ("mining", "result.tsv", "file:result.tsv", 1, 0, {}),
    ("mining", "infer-result.json", "file:infer-result.json", 1, 0, {}),
    ("mining", "monitor.txt", "file:monitor.txt", 1, 0, {}),
)
FAULTS = (
    Fault("training", "a worker process dies", "worker", BATCH, Code.CONTAINER, 5, 0, WORKERS),
    Fault("training", "no memory for batch 5", "memory", BATCH, Code.OK, 5),
    Fault("training", "NaN in step 5", "nan", BATCH, Code.OK, 5),
    Fault("training", "images disappear, none kept", "vanish", BATCH, Code.DATASET, 5, 0, NO_CACHE),
    Fault("training", "images disappear, all kept", "vanish", BATCH, Code.DATASET, 5),
    Fault("mining", "no memory for batch 2", "memory", PIXELS, Code.OK, 2, 0, {"batch_size": "4"}),
    Fault("mining", "no memory for one image", "memory", PIXELS, Code.OUT_OF_MEMORY, 2),
    Fault("mining", "images disappear", "vanish", PIXELS, Code.DATASET, 1),
    *(
        Fault(kind, f"the disk is full: {what}", "full", at, Code.CONTAINER, nth, leave, settings)
        for kind, what, at, nth, leave, settings in FULL
    ),
    Fault("mining", "the disk is full: report.html", "full", PAGE, Code.OK, settings=PLOTS),
    Fault("training", OWN, "full", SCALARS, Code.OK, nth=2, disk=CURVES),
    Fault("mining", OWN, "full", PAGE, Code.OK, settings=PLOTS, disk=CURVES),
)


def run_with_fault(source: SourceDataset, task: Path, fault: Fault, weights: Path) -> Outcome:
    """Run a fresh task with this fault, check what is left, and start it again without."""
    make_task(source, task, fault.kind, weights, fault.settings)
    with contextlib.ExitStack() as stack:
        if fault.needs_disk:
            stack.enter_context(small_disk(task / fault.disk, mebibytes=DISK))
        watch = stack.enter_context(MonitorWatch(task / "out" / "monitor.txt"))
        began = time.monotonic()
        program = ["-m", "bench.fault_injection", "--fault", str(FAULTS.index(fault))]
        status = start_task(task, program).wait()
        after = time.monotonic() - began
        free_disk(task / fault.disk)
        code = return_code(task)
        goes_on = fault.code == Code.OK
        kept, wrong = check_outputs(task, orderly=True, failed=not goes_on)
        if (status, code) != ((0, "") if goes_on else (1, str(int(fault.code)))):
            wrong.append(f"it ended with status {status} and code {code or 'none'}")
        gone = task / "in" / "gone"
        if gone.exists():
            gone.rename(task / "in" / "assets")
        wrong += restart_and_check(task, watch)
    ended = code or str(status)
    return Outcome(fault.kind, fault.name, after, ended, None, watch.reads, kept, tuple(wrong))


def run_with_signal(task: Path, kind: str, number: signal.Signals, moment: float) -> Outcome:
    """Start the task, send the signal, check what is left, and start it again.

    SIGKILL is sent `moment` seconds after the start; SIGTERM as long after monitor.txt first
    reports progress.
    """
    terminated = number == signal.SIGTERM
    with MonitorWatch(task / "out" / "monitor.txt") as watch:
        process, began = start_task(task), time.monotonic()
        while terminated and not watch.progress and process.poll() is None:
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        finished, sent_at = process.poll() is not None, time.monotonic()
        process.send_signal(number)
        status = process.wait()
        after, ended_in = sent_at - began, time.monotonic() - sent_at
        # A task whose results were complete at SIGTERM, but not gone yet, ends normally.
        finished = finished or (terminated and status == 0)
        kept, wrong = check_outputs(task, orderly=terminated or finished, failed=not finished)
        if terminated and status != (0 if finished else 1):
            wrong.append(f"it ended with {status}")
        ended = return_code(task) or ("0" if finished else number.name)
        if terminated and ended_in > GRACE:
            wrong.append(f"it took {ended_in:.1f} s to end")
        wrong += restart_and_check(task, watch)
    name = f"{number.name} at a random moment" + (TOO_LATE if finished else "")
    seconds = None if finished else ended_in
    return Outcome(kind, name, after, ended, seconds, watch.reads, kept, tuple(wrong))
