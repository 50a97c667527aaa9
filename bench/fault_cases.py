"""The faults that happen at a given place: a table, and one of them carried out.

python -m bench.fault_cases NAME KIND DATA TASKDIR WEIGHTS     # prints the outcome as JSON
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.fault_disk import make_room, on_small_disk
from bench.fault_tasks import Outcome, finishes, last_code, left_behind, make, start
from bench.fault_watch import Watch
from tools.sources import SourceDataset, read_source
from utils.errors import Code

DISK = 96
"""MiB: enough for a tiny training, little to fill."""
BLOCK = 4096


@dataclass(frozen=True)
class Fault:
    """What happens to which kind of task, where, and the return code that tells of it.

    `code` 0 means that the task may go on to its end, since it can do without what was lost.
    """

    kind: str
    name: str
    do: str
    at: str
    code: Code
    nth: int = 1
    leave: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    disk: str = "out"
    """The folder of the task that is a disk of its own, where one is needed."""

    @property
    def needs_disk(self) -> bool:
        """Whether it takes a disk that can be filled."""
        return self.do == "full"

    @property
    def words(self) -> list[str]:
        """The command line that makes it happen."""
        number, leave = str(self.nth), str(self.leave)
        place = ["--do", self.do, "--at", self.at, "--nth", number, "--leave", leave]
        place += ["--disk", self.disk]
        return ["-m", "bench.fault_inside", *place]


PAGE = "reporting.candidate_report:CandidateReport.write"
OWN, CURVES = "a full disk of TensorBoard's own", "out/tensorboard"
PLOTS = {"plots": "yes"}
NO_CACHE = {"cache": "none"}
WORKERS = {"workers": "2"}
BATCH, LOOK = "train:network_input", "inference.network:Looks.pixels"
TRAINING = (
    Fault("training", "a worker process dies", "worker", BATCH, Code.CONTAINER, 5, 0, WORKERS),
    Fault("training", "no memory for batch 5", "memory", BATCH, Code.OUT_OF_MEMORY, 5),
    Fault("training", "NaN in step 5", "nan", BATCH, Code.NOT_A_NUMBER, 5),
    Fault("training", "images disappear, none kept", "vanish", BATCH, Code.DATASET, 5, 0, NO_CACHE),
    Fault("training", "images disappear, all kept", "vanish", BATCH, Code.DATASET, 5),
)
MINING = (
    Fault("mining", "no memory for batch 2", "memory", LOOK, Code.OUT_OF_MEMORY, 2),
    Fault("mining", "images disappear", "vanish", LOOK, Code.DATASET, 1),
)
FULL: tuple[tuple[str, str, str, int, int, Mapping[str, str]], ...] = (
    ("training", "best.pt", "file:best.pt", 1, BLOCK, {}),
    ("training", "last.pt", "file:last.pt", 2, BLOCK, {}),
    ("training", "last.state", "file:last.state", 2, BLOCK, {}),
    ("training", "result.yaml", "file:result.yaml", 3, 0, {}),
    ("training", "monitor.txt", "file:monitor.txt", 3, 0, {}),
    ("training", "results.csv", "reporting.results_csv:CsvLogger.epoch", 2, 0, {}),
    ("training", "TensorBoard", "reporting.tensorboard:TensorBoardLogger.scalars", 2, 0, {}),
    ("training", "a picture", "file:pr_curve.png", 1, 0, PLOTS),
    ("training", "report.html", "file:report.html", 1, 0, PLOTS),
    ("training", "best.onnx", "file:best.onnx", 1, BLOCK, {}),
    ("mining", "result.tsv", "file:result.tsv", 1, 0, {}),
    ("mining", "infer-result.json", "file:infer-result.json", 1, 0, {}),
    ("mining", "monitor.txt", "file:monitor.txt", 1, 0, {}),
)
FAULTS = (
    *TRAINING,
    *MINING,
    *(
        Fault(kind, f"the disk is full: {what}", "full", at, Code.CONTAINER, nth, leave, settings)
        for kind, what, at, nth, leave, settings in FULL
    ),
    Fault("mining", "the disk is full: report.html", "full", PAGE, Code.OK, settings=PLOTS),
    Fault(
        "training",
        OWN,
        "full",
        "reporting.tensorboard:TensorBoardLogger.scalars",
        Code.OK,
        nth=2,
        disk=CURVES,
    ),
    Fault("mining", OWN, "full", PAGE, Code.OK, settings=PLOTS, disk=CURVES),
)


def carry_out(source: SourceDataset, task: Path, fault: Fault, weights: Path) -> Outcome:
    """A fresh task with this fault; what is left, and whether it finishes when started again."""
    make(source, task, fault.kind, weights, fault.settings)
    with contextlib.ExitStack() as stack:
        if fault.needs_disk:
            stack.enter_context(on_small_disk(task / fault.disk, mebibytes=DISK))
        watch = stack.enter_context(Watch(task / "out" / "monitor.txt"))
        began = time.monotonic()
        status = start(task, fault.words).wait()
        after = time.monotonic() - began
        make_room(task / fault.disk)
        code = last_code(task)
        goes_on = fault.code == Code.OK
        kept, wrong = left_behind(task, orderly=True, failed=not goes_on)
        if (status, code) != ((0, "") if goes_on else (1, str(int(fault.code)))):
            wrong.append(f"it ended with status {status} and code {code or 'none'}")
        gone = task / "in" / "gone"
        if gone.exists():
            gone.rename(task / "in" / "assets")
        watch.started_again()
        wrong += finishes(task)
    wrong += [f"a record of monitor.txt was {record[:80]!r}" for record in watch.broken[:3]]
    ended = code or str(status)
    return Outcome(fault.kind, fault.name, after, ended, None, watch.reads, kept, tuple(wrong))


def main(words: Sequence[str] | None = None) -> int:
    """Carry out one fault; status 1 if anything was wrong."""
    name, kind, data, task, weights = sys.argv[1:] if words is None else words
    fault = next(one for one in FAULTS if (one.name, one.kind) == (name, kind))
    outcome = carry_out(read_source(Path(data)), Path(task).resolve(), fault, Path(weights))
    print(json.dumps(asdict(outcome)))
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
