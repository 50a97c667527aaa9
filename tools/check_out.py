"""Check what a finished task left in out/ against the YMIR protocol, in plain sentences.

python -m tools.check_out TASKDIR [--failed]

Written from the protocol alone, without the bridge, so that no mistake of the bridge hides here.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    if not __package__:  # python tools/check_out.py
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tools.parsers import check_out_parser
    from utils.shutdown import listen_for_interrupts

    listen_for_interrupts()  # before the seconds that the imports take
    check_out_parser().parse_args()  # so that help and mistyped flags do not wait either

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

from tools import check_results
from tools.check_results import Findings
from tools.parsers import check_out_parser
from utils.command import run_command

RETURN_CODES = {str(code) for code in (*range(300001, 300006), 300101, 300102, 300103, 300201)}
RETURN_CODES |= {"300301", "160004"}
KINDS = ("training", "mining", "infer")
PENDING, RUNNING, DONE, ERROR = "1", "2", "3", "4"
TEMPORARY_SUFFIXES = (".tmp", ".temp", ".part", ".partial", ".lock", ".swp", "~")
MAX_FREE_LINES = 99
SHOWN_PER_RULE = 3
OUTPUT_FILES = {  # keys of env.yaml, and where the files lie below out/ by default
    **{"root_dir": "", "models_dir": "models", "tensorboard_dir": "tensorboard"},
    **{"training_result_file": "models/result.yaml", "mining_result_file": "result.tsv"},
    **{"infer_result_file": "infer-result.json", "monitor_file": "monitor.txt"},
}


class Finding(NamedTuple):
    """One thing that breaks the protocol: a short rule name and a plain sentence."""

    rule: str
    sentence: str


@dataclass(frozen=True)
class TaskFiles:
    """A task as env.yaml and config.yaml state it, with every path below the checked folder.

    `candidates` maps each line of the candidate index to its file, None for a file outside in/.
    """

    task_id: str
    protocol: tuple[int, ...]
    kinds: frozenset[str]
    class_names: tuple[str, ...]
    candidates: Mapping[str, Path | None]
    output: Mapping[str, Path]


def read_task_files(task_dir: Path) -> TaskFiles:
    """Read TASKDIR/in/env.yaml (or TASKDIR/env.yaml) and the config file it names.

    Paths below the roots that env.yaml states (/in and /out in a container) are read below
    TASKDIR/in and TASKDIR/out, and no others are: a copy of a task is checked by its own files.
    Raises OSError or ValueError when the task cannot be read.
    """
    places = (task_dir / "in" / "env.yaml", task_dir / "env.yaml")
    env_file = next((path for path in places if path.is_file()), None)
    if env_file is None:
        raise ValueError(f"{task_dir} holds no in/env.yaml, so nobody knows what was asked")
    env = _read_mapping(env_file)
    declared_in, declared_out = env.get("input") or {}, env.get("output") or {}
    root_in = Path(str(declared_in.get("root_dir") or "/in"))
    root_out = Path(str(declared_out.get("root_dir") or "/out"))

    def place(key: str, written: str, root: Path, folder: str) -> Path:
        path = _moved(written, root, task_dir / folder)
        if path is None:
            raise ValueError(f"{env_file} has {key} outside of the folder of the task")
        return path

    config_name = str(declared_in.get("config_file") or "config.yaml")
    config = _read_mapping(place("config_file", config_name, root_in, "in"))
    lines: list[str] = []
    if index := str(declared_in.get("candidate_index_file") or ""):
        # surrogateescape: file names need not be UTF-8.
        file = place("candidate_index_file", index, root_in, "in")
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
        columns = (line.rstrip("\r").split("\t")[0] for line in text.split("\n"))
        lines = [path for path in columns if path.strip()]
    version = str(env.get("protocol_version") or "0")
    return TaskFiles(
        task_id=str(env.get("task_id", config.get("task_id", ""))),
        protocol=tuple(int(part) for part in version.split(".")),
        kinds=frozenset(kind for kind in KINDS if env.get(f"run_{kind}") is True),
        class_names=tuple(str(name) for name in config.get("class_names") or ()),
        candidates={line: _moved(line, root_in, task_dir / "in") for line in lines},
        output={
            key: place(key, str(declared_out.get(key) or name), root_out, "out")
            for key, name in OUTPUT_FILES.items()
        },
    )


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no readable YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no mapping")
    return content


def _moved(written: str, declared_root: Path, actual_root: Path) -> Path | None:
    """Return the file below `actual_root` that a written path means; None if it leaves the root."""
    normal = Path(os.path.normpath(declared_root / written))
    root = Path(os.path.normpath(declared_root))
    below = normal.relative_to(root) if normal.is_relative_to(root) else None
    return None if below is None or ".." in below.parts else actual_root / below


def check_out(task_dir: Path, *, failed: bool = False) -> list[Finding]:
    """Return everything that breaks the protocol in the outputs of the task at `task_dir`.

    `failed` says that the task was meant to fail: then monitor.txt must hold state 4 and a return
    code, and result files may be absent, but those that exist must be whole and valid.
    """
    try:
        task = read_task_files(Path(task_dir))
    except (OSError, ValueError) as error:
        return [Finding("task.unreadable", f"The task itself cannot be read: {error}.")]
    out, known = task.output, (task.candidates, task.class_names, task.protocol)
    mining, infer = out["mining_result_file"], out["infer_result_file"]
    results = {
        "training": (out["training_result_file"], _check_models(task)),
        "mining": (mining, check_results.check_mining(mining, task.candidates)),
        "infer": (infer, check_results.check_infer(infer, *known)),
    }
    training = "training" in task.kinds
    kinds = ["training"] if training else [kind for kind in KINDS if kind in task.kinds]
    checks = [results[kind][1] for kind in kinds if not failed or results[kind][0].exists()]
    checks += [_check_tensorboard(out["tensorboard_dir"])] if training and not failed else []
    checks = [_check_monitor(task, failed=failed), *checks, _check_strays(out["root_dir"])]
    return [Finding(*pair) for check in checks for pair in check]


def check_models(task_dir: Path) -> list[Finding]:
    """Return what is wrong with result.yaml of a task and with the files that it lists."""
    return [Finding(*pair) for pair in _check_models(read_task_files(task_dir))]


def _check_models(task: TaskFiles) -> Findings:
    result, models_dir = task.output["training_result_file"], task.output["models_dir"]
    return check_results.check_training(result, models_dir, task.protocol)


def _check_monitor(task: TaskFiles, *, failed: bool) -> Findings:
    path = task.output["monitor_file"]
    if not path.is_file():
        yield "monitor.missing", f"{path} does not exist, so no progress is ever seen."
        return
    try:
        line, *free = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        yield "monitor.encoding", f"{path} is not UTF-8."
        return
    if len(free) > MAX_FREE_LINES + 1:
        yield "monitor.lines", f"monitor.txt has {len(free)} lines; at most {MAX_FREE_LINES} show."
    columns = line.split("\t")
    if not 4 <= len(columns) <= 6:
        wanted = "4 to 6 (task id, time, progress, state, return code, message)"
        yield "monitor.columns", f"{line!r} has {len(columns)} columns, not {wanted}."
        return
    # The platform's own record and those of older SDKs have no return code.
    task_id, time, progress, state, code = [*columns, "0"][:5]
    if task_id != task.task_id:
        yield "monitor.task_id", f"monitor.txt has the task {task_id!r}, not {task.task_id!r}."
    if not 1e9 < _number(time) < 1e11:
        yield "monitor.time", f"The time in monitor.txt is no UNIX time in seconds: {time!r}."
    if not 0 <= _number(progress) <= 1:
        yield "monitor.progress", f"The progress is no number from 0 to 1: {progress!r}."
    elif state in (RUNNING, DONE) and not failed and _number(progress) < 0.995:
        yield "monitor.unfinished", f"The task ended, but its last progress is {progress}, not 1."
    if state not in (PENDING, RUNNING, DONE, ERROR):
        yield "monitor.state", f"The state in monitor.txt is none of 1 to 4: {state!r}."
        return
    if state == PENDING:
        yield "monitor.pending", "monitor.txt says pending (1): the task never reported."
    if state == ERROR and code not in RETURN_CODES:
        yield "monitor.code", f"The state is failed (4), but {code!r} is no code of a failure."
    if state != ERROR and code != "0":
        yield "monitor.code", f"The return code is {code!r}, though the state is no error."
    if state == ERROR and not failed:
        yield "monitor.failed", f"monitor.txt says that the task failed (4) with code {code}."
    if failed and state != ERROR:
        yield "monitor.not_failed", f"The task failed, but monitor.txt says state {state}, not 4."


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _check_tensorboard(folder: Path) -> Findings:
    """Check for event files directly in the folder or one level below (a sub-folder is a run)."""
    pattern = "events.out.tfevents.*"
    files = [*folder.glob(pattern), *folder.glob(f"*/{pattern}")]
    if not any(file.stat().st_size for file in files):
        yield "tensorboard", f"{folder} and its sub-folders hold no TensorBoard events."


def _check_strays(root: Path) -> Findings:
    for path in sorted(root.rglob("*")):
        if path.name.endswith(TEMPORARY_SUFFIXES) or path.name.startswith("."):
            yield "stray", f"{path} looks like a temporary file that was left behind."


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is wrong with a task's outputs; status 1 if anything is."""
    options = check_out_parser().parse_args(arguments)
    findings = check_out(options.task_dir, failed=options.failed)
    for rule, count in Counter(finding.rule for finding in findings).items():
        same = [finding for finding in findings if finding.rule == rule]
        print(*(f"{rule}: {finding.sentence}" for finding in same[:SHOWN_PER_RULE]), sep="\n")
        if count > SHOWN_PER_RULE:
            print(f"{rule}: {count - SHOWN_PER_RULE} more of this kind")
    if not findings:
        print(f"{options.task_dir / 'out'} is as the protocol wants it.")
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
