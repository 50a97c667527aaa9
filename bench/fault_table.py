"""The outcomes of faults, line by line in a file, and as the table in docs/reliability.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.fault_tasks import ROOT, Outcome
from utils.atomic import write_text

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
INTRODUCTION = """\
## Faults

`python -m bench.faults --page` writes this part: it does to tiny tasks (drawn images, yolov5n at
64 pixels, on the CPU) what the platform, the machine and the data may do to one. After each fault
the results that are there must be as `tools/check_out.py` wants them, the best weights so far must
load, monitor.txt must tell of the fault by its return code (SIGKILL leaves no time for that), and
the task started again must finish with valid results. Meanwhile monitor.txt is read without pause:
every record must be whole, its time later and its progress no less than before.

The full disk is a real one, mounted for the one task (tmpfs in a mount namespace) and filled to the
last byte, or the last block, in the moment when the file named is about to be written. Too little
memory is a real limit of the process, set when a batch becomes larger. A worker process gets
SIGKILL. The folder of the images is moved away. NaN is put into the images of one step. With `0` in
monitor.txt the task could do without what was lost and went on to its end.

Found by these and mended: a failure beside living worker processes never ended (the thread that
waits for SIGTERM waited for them); a training whose images had disappeared went on with grey ones;
a full disk was called an unexpected error, and its return code found no room in monitor.txt; a
convolution without memory was called an unexpected error; SIGTERM was taken for a key pressed; an
export that was killed left its folder for ever; trouble with TensorBoard's folder ended a training.
"""
HEAD = (
    "| task | fault | times | code in monitor.txt | reads of monitor.txt | with a model | "
    "longest end, s | wrong |"
)


def remember(path: Path, outcome: Outcome) -> None:
    """Add an outcome to the file."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(outcome)) + "\n")


def remembered(path: Path) -> list[Outcome]:
    """All outcomes of the file, none if it is not there."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        Outcome(**{**(row := json.loads(line)), "wrong": tuple(row["wrong"])}) for line in lines
    ]


def table(outcomes: Sequence[Outcome]) -> str:
    """A row per task and fault: how many, codes, reads, models kept, the slowest end, failures."""
    lines = [HEAD, "|---|---|---|---|---|---|---|---|"]
    for key in dict.fromkeys((one.kind, one.fault) for one in outcomes):
        group = [one for one in outcomes if (one.kind, one.fault) == key]
        ends = [one.ended_in for one in group if one.ended_in is not None]
        told = [one.ended if one.ended.isdigit() else "none" for one in group]
        lines.append(
            f"| {key[0]} | {key[1]} | {len(group)} | {', '.join(sorted(set(told)))} | "
            f"{sum(one.reads for one in group):,} | {sum(one.kept_model for one in group)} | "
            f"{f'{max(ends):.1f}' if ends else ''} | {sum(bool(one.wrong) for one in group)} |"
        )
    return "\n".join(lines)


def section(outcomes: Sequence[Outcome]) -> str:
    """The whole part, between its two marks."""
    return "\n".join([BEGIN, "", INTRODUCTION, table(outcomes), "", END])


def page(before: str, part: str) -> str:
    """The page with this part in place of the one in `before`, or at its end; the rest stays."""
    if BEGIN not in before or END not in before:
        return before.rstrip("\n") + "\n\n" + part + "\n"
    head, _, rest = before.partition(BEGIN)
    return head + part + rest.partition(END)[2]


def write_page(outcomes: Sequence[Outcome]) -> None:
    """Put the table into docs/reliability.md."""
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8"), section(outcomes)))
