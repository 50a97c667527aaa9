"""What a finished task left in out/, checked against the protocol, in plain words.

python -m tools.check_out TASKDIR [--failed]
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.check_candidates import check_infer_result, check_mining_result
from tools.check_models import check_training_result
from tools.task_files import Finding, TaskFiles, read_task_files

RETURN_CODES = frozenset(
    {300001, 300002, 300003, 300004, 300005, 300101, 300102, 300103, 300201, 300301, 160004}
)
PENDING, RUNNING, DONE, ERROR = 1, 2, 3, 4
TEMPORARY_ENDINGS = (".tmp", ".temp", ".part", ".partial", ".lock", ".swp", "~")
FREE_LINES = 99
SHOWN_PER_RULE = 3


def check_out(task_dir: Path, *, failed: bool = False) -> list[Finding]:
    """Everything that breaks the protocol in the outputs of the task at `task_dir`.

    `failed` says that the task was meant to fail: then monitor.txt must hold state 4 and a return
    code, and result files may be absent, but those that exist must be whole and valid.
    """
    try:
        task = read_task_files(task_dir)
    except (OSError, ValueError) as error:
        return [Finding("task.unreadable", f"The task itself cannot be read: {error}.")]
    findings = list(_check_monitor(task, failed=failed))
    checks = (
        (task.training, "training_result_file", check_training_result),
        (task.mining and not task.training, "mining_result_file", check_mining_result),
        (task.infer and not task.training, "infer_result_file", check_infer_result),
    )
    for asked, key, check in checks:
        if asked and (not failed or task.output[key].exists()):
            findings += check(task)
    if task.training and not failed:
        findings += _check_tensorboard(task.output["tensorboard_dir"])
    findings += _check_strays(task.output["root_dir"])
    return findings


def _check_monitor(task: TaskFiles, *, failed: bool) -> Iterator[Finding]:
    path = task.output["monitor_file"]
    if not path.is_file():
        yield Finding("monitor.missing", f"{path} does not exist, so no progress is ever seen.")
        return
    try:
        line, *free = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        yield Finding("monitor.encoding", f"{path} is not UTF-8.")
        return
    if len(free) > FREE_LINES + 1:
        yield Finding(
            "monitor.lines",
            f"monitor.txt has {len(free)} lines; after the record the platform shows at most "
            f"{FREE_LINES}.",
        )
    columns = line.split("\t")
    if columns[3:] == [str(PENDING)]:  # the platform's own record has no code
        columns.append("0")
    if not 5 <= len(columns) <= 6:
        yield Finding(
            "monitor.columns",
            f"The first line of monitor.txt has {len(columns)} columns, not 5 or 6 (task id, "
            f"time, progress, state, return code, message): {line!r}.",
        )
        if len(columns) < 4:
            return
        columns = [*columns, "0"]
    if columns[0] != task.task_id:
        yield Finding(
            "monitor.task_id",
            f"monitor.txt speaks of the task {columns[0]!r}, but this one is {task.task_id!r}.",
        )
    stamp, progress = (_number(column) for column in columns[1:3])
    state, code = (int(c) if c.strip().lstrip("-").isdigit() else -1 for c in columns[3:5])
    if not 1e9 < stamp < 1e11:
        yield Finding(
            "monitor.time", f"The time in monitor.txt is no UNIX time in seconds: {columns[1]!r}."
        )
    if not 0 <= progress <= 1:
        yield Finding(
            "monitor.progress",
            f"The progress in monitor.txt is no number from 0 to 1: {columns[2]!r}.",
        )
    elif state in (RUNNING, DONE) and not failed and progress < 0.995:
        yield Finding(
            "monitor.unfinished", f"The task ended, but its last progress is {columns[2]}, not 1."
        )
    yield from _check_state(columns[3], state, columns[4], code, failed=failed)


def _check_state(
    state_text: str, state: int, code_text: str, code: int, *, failed: bool
) -> Iterator[Finding]:
    if state not in (PENDING, RUNNING, DONE, ERROR):
        yield Finding(
            "monitor.state", f"The state in monitor.txt is none of 1 to 4: {state_text!r}."
        )
        return
    if state == PENDING:
        yield Finding(
            "monitor.pending", "monitor.txt still says pending (1): the task never reported."
        )
    if state == ERROR and code not in RETURN_CODES:
        yield Finding(
            "monitor.code",
            f"monitor.txt says failed (4) with {code_text!r}, which is no code of a failure.",
        )
    if state != ERROR and code != 0:
        yield Finding(
            "monitor.code", f"The return code is {code_text!r}, though the state is no error."
        )
    if state == ERROR and not failed:
        yield Finding(
            "monitor.failed", f"monitor.txt says that the task failed (4) with code {code_text}."
        )
    if failed and state != ERROR:
        yield Finding(
            "monitor.not_failed",
            f"The task failed, but monitor.txt says state {state_text}, not 4.",
        )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _check_tensorboard(folder: Path) -> Iterator[Finding]:
    """Event files lie directly in the folder or one level below (each sub-folder is a run)."""
    pattern = "events.out.tfevents.*"
    files = [*folder.glob(pattern), *folder.glob(f"*/{pattern}")]
    if not any(file.stat().st_size for file in files):
        yield Finding(
            "tensorboard",
            f"{folder} and its sub-folders hold no TensorBoard events, so no curves are shown.",
        )


def _check_strays(root: Path) -> Iterator[Finding]:
    for path in sorted(root.rglob("*")):
        if path.name.endswith(TEMPORARY_ENDINGS) or path.name.startswith("."):
            yield Finding("stray", f"{path} looks like a temporary file that was left behind.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is wrong with a task's outputs; status 1 if anything is."""
    parser = argparse.ArgumentParser(
        prog="tools.check_out",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task_dir", type=Path, help="folder with in/ and out/")
    parser.add_argument("--failed", action="store_true", help="the task was meant to fail")
    options = parser.parse_args(arguments)
    findings = check_out(options.task_dir, failed=options.failed)
    shown: Counter[str] = Counter()
    for finding in findings:
        shown[finding.rule] += 1
        if shown[finding.rule] <= SHOWN_PER_RULE:
            print(f"{finding.rule}: {finding.sentence}")
    for rule, count in shown.items():
        if count > SHOWN_PER_RULE:
            print(f"{rule}: {count - SHOWN_PER_RULE} more of this kind")
    if not findings:
        print(f"{options.task_dir / 'out'} is as the protocol wants it.")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
