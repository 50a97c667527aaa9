"""Tasks killed at random moments: what they leave is valid, and started again they finish.

    python -m bench.faults --kills 30 --terms 10 --out runs/faults

Half of the signals meet a tiny training, half a mining task with inference, each at a moment drawn
over the time that the undisturbed task takes. Meanwhile monitor.txt is read a thousand times a
second and every record must be whole. After the signal the results that there are must be as the
protocol wants them and the best weights must load; then the task is started again and must finish.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.checkpoint import build_detector, load_checkpoint
from tools.check_models import check_training_result
from tools.check_out import check_out
from tools.draw_dataset import draw_dataset
from tools.make_task import write_task
from tools.sources import SourceDataset, read_source
from tools.task_files import read_task_files
from utils.errors import TaskError

ROOT = Path(__file__).resolve().parent.parent
TRAINING = {
    "model": "yolov5n",
    "img_size": "64",
    "batch_size": "8",
    "epochs": "3",
    "opset": "17",
    "plots": "no",
}
LOOKING = {"img_size": "64", "batch_size": "4"}
TOLD = 10.0
"""Seconds from SIGTERM to the end that a container is given."""
UNFINISHED = {"monitor.not_failed", "monitor.pending", "monitor.unfinished", "stray"}
"""What a killed process cannot avoid: its last record stands, a temporary file may lie about."""


@dataclass
class Watch:
    """Reads monitor.txt again and again; counts the reads and keeps records that are not whole."""

    path: Path
    reads: int = 0
    broken: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Watch:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._over.wait(0.001):
            content = self.path.read_bytes()
            self.reads += 1
            if not is_whole(content):
                self.broken.append(content)


def is_whole(record: bytes) -> bool:
    """Whether monitor.txt is complete: four to six columns, numbers in place, a line end last."""
    columns = record.split(b"\n")[0].split(b"\t")
    try:
        sound = 0 <= float(columns[2]) <= 1 and int(columns[3]) in (1, 2, 3, 4)
    except (IndexError, ValueError):
        return False
    return sound and 4 <= len(columns) <= 6 and record.endswith(b"\n")


@dataclass(frozen=True)
class Outcome:
    """One disturbed task: when the signal came, how long the end took, all that was wrong."""

    kind: str
    sent: str
    after: float
    ended_in: float
    reads: int
    kept_model: bool
    wrong: tuple[str, ...]


def start(task: Path) -> subprocess.Popen[bytes]:
    """The task in a process of its own, its output in log.txt beside in/ and out/."""
    with (task / "log.txt").open("ab") as log:
        command = [sys.executable, "start.py", "--env", str(task / "in" / "env.yaml")]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def left_behind(task: Path, *, told: bool) -> tuple[bool, list[str]]:
    """Whether there is a model, and what is wrong with the outputs of an interrupted task."""
    findings = [f for f in check_out(task, failed=True) if told or f.rule not in UNFINISHED]
    wrong = [f"{finding.rule}: {finding.sentence}" for finding in findings]
    result = task / "out" / "models" / "result.yaml"
    if not result.exists():
        return False, wrong
    wrong += [f.sentence for f in check_training_result(read_task_files(task))]
    try:
        build_detector(load_checkpoint(task / "out" / "models" / "best" / "best.pt"))
    except TaskError as error:
        wrong.append(error.sentence)
    return True, list(dict.fromkeys(wrong))


def disturb(task: Path, kind: str, number: signal.Signals, after: float) -> Outcome:
    """Start the task, send the signal `after` seconds, look at what is left, let it finish."""
    told = number == signal.SIGTERM
    wrong = []
    with Watch(task / "out" / "monitor.txt") as watch:
        process = start(task)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after)
        finished = process.poll() is not None
        sent_at = time.monotonic()
        process.send_signal(number)
        status = process.wait()
        ended_in = time.monotonic() - sent_at
        # A signal before Python has come to start.py ends it as it ends any process.
        orderly = told and status == 1
        kept, problems = (False, []) if finished else left_behind(task, told=orderly)
        wrong += problems
        if told and ended_in > TOLD:
            wrong.append(f"it took {ended_in:.1f} s to end")
        again = start(task).wait()
    if again != 0:
        wrong.append(f"started again it ended with {again}")
    wrong += [f"finished: {finding.sentence}" for finding in check_out(task)]
    wrong += [f"a record of monitor.txt was {record[:80]!r}" for record in watch.broken[:3]]
    sent = f"{number.name} (too late)" if finished else number.name
    return Outcome(kind, sent, after, ended_in, watch.reads, kept, tuple(wrong))


def table(outcomes: Sequence[Outcome]) -> str:
    """A row per task and signal: how many, the moments, reads, models kept, the slowest end."""
    lines = [
        "| task | signal | times | moments, s | reads of monitor.txt | with a model | "
        "longest end, s | wrong |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((one.kind, one.sent) for one in outcomes):
        group = [one for one in outcomes if (one.kind, one.sent) == key]
        moments = [one.after for one in group]
        lines.append(
            f"| {key[0]} | {key[1]} | {len(group)} | {min(moments):.1f} to {max(moments):.1f} | "
            f"{sum(one.reads for one in group)} | {sum(one.kept_model for one in group)} | "
            f"{max(one.ended_in for one in group):.1f} | {sum(bool(one.wrong) for one in group)} |"
        )
    return "\n".join(lines)


def make(source: SourceDataset, task: Path, kind: str, weights: Path) -> None:
    """A fresh task of a kind: 'training' or 'mining'."""
    settings: Mapping[str, object] = TRAINING if kind == "training" else LOOKING
    write_task(
        source,
        task,
        kinds=("training",) if kind == "training" else ("mining", "infer"),
        settings=settings,
        weights=[] if kind == "training" else [weights],
        candidates=None if kind == "training" else "train",
        overwrite=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Disturb as many tasks as asked, print the table; status 1 if anything was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--terms", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/faults"))
    options = parser.parse_args(arguments)
    out = options.out.resolve()
    draw_dataset(out / "data", images=24, size_wh=(160, 120), seed=1)
    source = read_source(out / "data")
    weights = out / "model" / "out" / "models" / "best" / "best.pt"
    lasts = {}
    for kind, task in (("training", out / "model"), ("mining", out / "looked")):
        make(source, task, kind, weights)
        began = time.monotonic()
        if start(task).wait() != 0:
            print(f"the undisturbed {kind} failed: see {task / 'log.txt'}")
            return 1
        lasts[kind] = time.monotonic() - began
        print(f"an undisturbed {kind} takes {lasts[kind]:.1f} s", flush=True)
    chance = random.Random(options.seed)
    outcomes = []
    signals = [signal.SIGKILL] * options.kills + [signal.SIGTERM] * options.terms
    for index, number in enumerate(signals):
        kind = ("training", "mining")[index % 2]
        task = out / f"{index:03d}-{kind}"
        make(source, task, kind, weights)
        outcome = disturb(task, kind, number, chance.uniform(0.0, lasts[kind]))
        outcomes.append(outcome)
        print(f"{task.name}: {number.name} after {outcome.after:.2f} s", *outcome.wrong, flush=True)
    print(table(outcomes), flush=True)
    return 1 if any(one.wrong for one in outcomes) else 0


if __name__ == "__main__":
    raise SystemExit(main())
