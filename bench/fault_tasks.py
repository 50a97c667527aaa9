"""The tiny tasks that faults meet: made, started, and judged by what they leave."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.checkpoint import build_detector, load_checkpoint
from tools.check_out import check_models, check_out
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import TaskError

ROOT = Path(__file__).resolve().parent.parent
TRAINING = {
    "model": "yolov5n",
    "img_size": "64",
    "batch_size": "8",
    "epochs": "3",
    "nominal_batch_size": "8",
    "opset": "17",
    "plots": "no",
}
LOOKING = {"img_size": "640", "batch_size": "1"}
"""Large enough that a signal meets the work and not only the start."""
UNFINISHED = {"monitor.not_failed", "monitor.pending", "monitor.unfinished", "stray"}
"""What a killed process cannot avoid: its last record stands, a temporary file may lie about."""
PENDING = {"monitor.columns"}
"""What the platform's own first record breaks, while it is still there."""


@dataclass(frozen=True)
class Outcome:
    """One disturbed task: what met it and when, how it ended, all that was wrong.

    `ended` is the return code in monitor.txt, or the signal. `ended_in` are seconds from a signal
    to the end, None where there was none.
    """

    kind: str
    fault: str
    after: float
    ended: str
    ended_in: float | None
    reads: int
    kept_model: bool
    wrong: tuple[str, ...]


def make(
    source: SourceDataset,
    task: Path,
    kind: str,
    weights: Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> None:
    """A fresh task: 'training', or 'mining' (with inference, which takes `weights`)."""
    training = kind == "training"
    usual: Mapping[str, object] = TRAINING if training else LOOKING
    write_task(
        source,
        task,
        kinds=("training",) if training else ("mining", "infer"),
        settings={**usual, **(settings or {})},
        weights=[] if training or weights is None else [weights],
        candidates=None if training else "train",
        copy=True,
        overwrite=True,
    )


def start(task: Path, program: Sequence[str] = ("start.py",)) -> subprocess.Popen[bytes]:
    """The task in a process of its own, its output in log.txt beside in/ and out/."""
    with (task / "log.txt").open("ab") as log:
        command = [sys.executable, *program, "--env", str(task / "in" / "env.yaml")]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def last_code(task: Path) -> str:
    """The return code in monitor.txt where the state is 4, else ''."""
    columns = (task / "out" / "monitor.txt").read_text("utf-8").split("\n")[0].split("\t")
    return columns[4] if len(columns) > 4 and columns[3] == "4" else ""


def left_behind(task: Path, *, orderly: bool, failed: bool = True) -> tuple[bool, list[str]]:
    """Whether there is a model, and what is wrong with the outputs of a disturbed task.

    `orderly` says that the process had time to tell of its end and to tidy up, `failed`
    that it did not get to its end.
    """
    findings = check_out(task, failed=failed)
    if not orderly:
        pending = {f.rule for f in findings} >= {"monitor.pending"}
        excused = UNFINISHED | (PENDING if pending else set())
        findings = [finding for finding in findings if finding.rule not in excused]
    wrong = [f"{finding.rule}: {finding.sentence}" for finding in findings]
    if not (task / "out" / "models" / "result.yaml").exists():
        return False, wrong
    wrong += [f"{f.rule}: {f.sentence}" for f in check_models(task)]
    try:
        build_detector(load_checkpoint(task / "out" / "models" / "best" / "best.pt"))
    except TaskError as error:
        wrong.append(error.sentence)
    return True, list(dict.fromkeys(wrong))


def finishes(task: Path) -> list[str]:
    """What is wrong after the task was started again and left alone."""
    wrong = []
    status = start(task).wait()
    if status != 0:
        wrong.append(f"started again it ended with {status}")
    return wrong + [f"finished: {finding.sentence}" for finding in check_out(task)]
