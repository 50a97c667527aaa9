"""What docs/reliability.md says of the contract and of bad input, written from the tests' tables.

python -m tools.reliability_page
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.reliability.bad_input import PARTS
from tests.reliability.case import Case, Fate
from tests.reliability.checklist import CHECKLIST, Clause
from utils.atomic import write_text

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- bad input: begin -->", "<!-- bad input: end -->"
CLAUSES_BEGIN, CLAUSES_END = "<!-- contract: begin -->", "<!-- contract: end -->"
TITLE = "# Reliability\n"
CLAUSES = """\
## The contract

`python -m tools.reliability_page` writes this part from
[tests/reliability/checklist.py](../tests/reliability/checklist.py): the checklist of the protocol,
the tests that hold each line of it, and the rules by which `python -m tools.check_out TASKDIR` sees
it in what a task has left (`-` where the line is about what goes in). That checker judges the tasks
of the tests; every one of its rules stands here and is tried with a broken example.
"""
INTRODUCTION = """\
## Bad input

`python -m tools.reliability_page` writes this part from the cases in
[tests/reliability](../tests/reliability), and each of them is a test:
{count} cases, of which {taken} are taken, {skipped} skipped and {refused} refused.

- **taken**: read, and figures such as those given hold; what was left out of it is counted in the
  log.
- **skipped and named**: this image is left out of the training, with the file and the reason in the
  log; as a candidate it keeps its line, last in `result.tsv` and empty in `infer-result.json`. More
  of them than the setting `max_bad_fraction` allows end the task with 300002; if not one image can
  be read it is 300003.
- **refused**: the task ends with this return code and a sentence, before anything is trained.

The words in quotes are part of what is said. An absolute path in an index may lead anywhere, since
the platform chooses where its folders are mounted; a path may not climb out by `..`. In the cases
of images and annotations there is one good image beside the one in question; `case boxes` are its
boxes as x1, y1, x2, y2, `corner` its first pixel in BGR, `training` its height and width at a
training size of 64.

Whole tasks over such files, among good ones and alone, are in
[test_whole_tasks.py](../tests/reliability/test_whole_tasks.py): mining and inference give every
candidate its line, a training leaves out what it must and ends well, and one with images that are
all cut off within ends with 300003 before its first step.
"""


def clauses() -> str:
    """The part on the contract, between its two marks."""
    head = ["| | line | tests | rules of the checker |", "|---|---|---|---|"]
    rows = [_clause(clause) for clause in CHECKLIST]
    return "\n".join([CLAUSES_BEGIN, "", CLAUSES, *head, *rows, "", CLAUSES_END])


def section() -> str:
    """The part on bad input, between its two marks."""
    cases = [case for part in PARTS.values() for case in part]
    counts = {fate.name.lower(): sum(case.fate is fate for case in cases) for fate in Fate}
    parts = [INTRODUCTION.format(count=len(cases), **counts)]
    parts += [_part(title, part) for title, part in PARTS.items()]
    return "\n".join([BEGIN, "", *parts, END])


def page(before: str) -> str:
    """The page with these parts in place of those in `before`; the others stay."""
    text = _replaced(before or TITLE, clauses(), CLAUSES_BEGIN, CLAUSES_END)
    return _replaced(text, section(), BEGIN, END)


def _replaced(before: str, part: str, begin: str, end: str) -> str:
    """A part at its place, or at the end where it has none yet."""
    if begin not in before or end not in before:
        return before + "\n" + part + "\n"
    head, _, rest = before.partition(begin)
    return head + part + rest.partition(end)[2]


def _clause(clause: Clause) -> str:
    names = [_link(*name.split("::")) for name in clause.tests]
    rules = ", ".join(f"`{rule}*`" if rule[-1] == "." else f"`{rule}`" for rule in clause.rules)
    return f"| {clause.number} | {clause.words} | {', '.join(names)} | {rules or '-'} |"


def _link(file: str, function: str) -> str:
    return f"[{function}](../{file})"


def _part(title: str, cases: Iterable[Case]) -> str:
    rows = [(case.name, _fate(case), _said(case)) for case in cases]
    table = [("case", "what happens", "what is said, and figures"), ("---",) * 3, *rows]
    lines = ["| " + " | ".join(map(_cell, row)) + " |" for row in table]
    return f"### {title}\n\n" + "\n".join(lines) + "\n"


def _fate(case: Case) -> str:
    return case.fate.value if case.code is None else f"{case.fate.value}, {int(case.code)}"


def _said(case: Case) -> str:
    return "; ".join([*(f"“{words}”" for words in case.says), *_figures(case.facts)])


def _figures(facts: Mapping[str, object]) -> list[str]:
    return [f"{name.replace('_', ' ')} {value}" for name, value in facts.items()]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def main() -> None:
    """Write both parts."""
    before = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    write_text(PAGE, page(before))
    print(PAGE)


if __name__ == "__main__":
    main()
