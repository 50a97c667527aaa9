"""Tiny tasks for fault tests: how they are made, started, watched and checked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from models.checkpoint import build_detector, load_checkpoint
from tools.check_out import check_models, check_out
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import TaskError

ROOT = Path(__file__).resolve().parent.parent
TRAINING = {"model": "yolov5n", "img_size": "64", "batch_size": "8", "nominal_batch_size": "8"}
TRAINING |= {"epochs": "3", "onnx": "no", "plots": "no"}
MINING = {"img_size": "640", "batch_size": "1"}
"""Images large enough that a signal arrives during the work and not only during the start."""
UNFINISHED = {"monitor.not_failed", "monitor.pending", "monitor.unfinished", "stray"}
"""Findings that a killed process cannot avoid: no last record, a temporary file left over."""
RECORD = re.compile(
    rb"[^\t\n]+\t\d+(\.\d+)?\t(0(\.\d+)?|1(\.0+)?)\t[1-4]\t\d+(\t[^\t\n]*)?\n(.*\n)?", re.DOTALL
)
"""A complete monitor.txt: five or six columns with numbers in place, a line end, free text."""
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
BALLAST = "ballast"


@dataclass(frozen=True)
class Outcome:
    """One disturbed task: the fault, when it happened, how the task ended, everything wrong.

    `ended` is the return code in monitor.txt, or the signal. `ended_in` is the time from a signal
    to the end in seconds, None where there was no signal.
    """

    kind: str
    fault: str
    after: float
    ended: str
    ended_in: float | None
    reads: int
    kept_model: bool
    wrong: tuple[str, ...]


def make_task(
    source: SourceDataset,
    task: Path,
    kind: str,
    weights: Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> None:
    """Write a fresh task: 'training', or 'mining' (with inference, which takes `weights`)."""
    training = kind == "training"
    usual: Mapping[str, object] = TRAINING if training else MINING
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


def start_task(task: Path, program: Sequence[str] = ("start.py",)) -> subprocess.Popen[bytes]:
    """Start the task in a child process; its output goes to log.txt beside in/ and out/."""
    with (task / "log.txt").open("ab") as log:
        command = [sys.executable, *program, "--env", str(task / "in" / "env.yaml")]
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def return_code(task: Path) -> str:
    """Return the code in monitor.txt where the state is 4 (failed), else ''."""
    columns = (task / "out" / "monitor.txt").read_text("utf-8").split("\n")[0].split("\t")
    return columns[4] if len(columns) > 4 and columns[3] == "4" else ""


def check_outputs(task: Path, *, orderly: bool, failed: bool = True) -> tuple[bool, list[str]]:
    """Return whether a disturbed task left a model, and what is wrong with its outputs.

    `orderly`: the process had time to report its end and to tidy up. `failed`: it did not finish.
    """
    findings = check_out(task, failed=failed)
    if not orderly:
        findings = [finding for finding in findings if finding.rule not in UNFINISHED]
    wrong = [f"{finding.rule}: {finding.sentence}" for finding in findings]
    if not (task / "out" / "models" / "result.yaml").exists():
        return False, wrong
    wrong += [f"{f.rule}: {f.sentence}" for f in check_models(task)]
    try:
        build_detector(load_checkpoint(task / "out" / "models" / "best" / "best.pt"))
    except TaskError as error:
        wrong.append(error.sentence)
    return True, list(dict.fromkeys(wrong))


@dataclass
class MonitorWatch:
    """Context manager that reads monitor.txt about 1000 times a second and checks each record.

    Every one after that of the start must be complete, its time later and its progress no lower
    than before; after `restarted` progress may begin at 0 again. `broken` keeps broken ones.
    """

    path: Path
    reads: int = 0
    records: int = 0
    broken: list[bytes] = field(default_factory=list)
    progress: float = 0.0
    """That of the last record."""

    def __enter__(self) -> MonitorWatch:
        self._record = self.path.read_bytes()
        self._time = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def restarted(self) -> None:
        """Accept that progress begins anew, since another process writes from here on."""
        self.progress = 0.0

    def _watch(self) -> None:
        while not self._over.wait(0.001):
            try:
                record = self.path.read_bytes()
            except OSError as error:
                record = repr(error).encode()
            self.reads += 1
            if record == self._record:
                continue
            self._record = record
            self.records += 1
            if not self._is_valid(record):
                self.broken.append(record)

    def _is_valid(self, record: bytes) -> bool:
        if not RECORD.fullmatch(record):
            return False
        columns = record.split(b"\t")
        time, progress = float(columns[1]), float(columns[2])
        rises = time > self._time and progress >= self.progress
        self._time, self.progress = time, progress
        return rises


def restart_and_check(task: Path, watch: MonitorWatch) -> list[str]:
    """Start the task again without a fault; return what is wrong with it and its records."""
    watch.restarted()
    status = start_task(task).wait()
    wrong = [f"started again it ended with {status}"] if status else []
    wrong += [f"finished: {finding.sentence}" for finding in check_out(task)]
    return wrong + [f"a record of monitor.txt was {one[:80]!r}" for one in watch.broken[:3]]


def can_enter(namespace: Sequence[str] = NAMESPACE) -> bool:
    """Whether this machine lets an unprivileged process have mounts, or a network, of its own."""
    if shutil.which(namespace[0]) is None or shutil.which("mount") is None:
        return False
    return subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode == 0


@contextmanager
def small_disk(folder: Path, *, mebibytes: int) -> Iterator[None]:
    """Move `folder` and its content onto a tmpfs of its own for a block."""
    kept = folder.with_name(f"{folder.name}.before")
    folder.rename(kept)
    folder.mkdir()
    size = f"size={mebibytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", str(folder)], check=True)
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
        kept.rename(folder)


def fill_disk(folder: Path, *, leave: int = 0) -> None:
    """Allocate everything that is free on the disk of `folder`, except for `leave` bytes."""
    disk = os.statvfs(folder)
    with (folder / BALLAST).open("ab") as file:
        free = disk.f_bavail * disk.f_frsize - leave
        if free > 0:
            os.posix_fallocate(file.fileno(), file.tell(), free)


def free_disk(folder: Path) -> None:
    """Give back what `fill_disk` has allocated."""
    (folder / BALLAST).unlink(missing_ok=True)
