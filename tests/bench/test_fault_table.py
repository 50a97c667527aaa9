"""The outcomes of faults: kept, counted, and put into their part of the page."""

from __future__ import annotations

from pathlib import Path

from bench.fault_table import BEGIN, END, PAGE, page, remember, remembered, section, table
from bench.fault_tasks import Outcome

ONE = Outcome("training", "SIGKILL", 1.0, "SIGKILL", 0.1, 1000, True, ())
TWO = Outcome("training", "SIGKILL", 3.0, "SIGKILL", 0.3, 20, False, ("bad",))
FULL = Outcome("mining", "the disk is full", 9.0, "160004", None, 7, False, ())


def test_the_table_counts() -> None:
    rows = table([ONE, FULL, TWO]).splitlines()[2:]
    assert rows == [
        "| training | SIGKILL | 2 | none | 1,020 | 1 | 0.3 | 1 |",
        "| mining | the disk is full | 1 | 160004 | 7 | 0 |  | 0 |",
    ]


def test_outcomes_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    assert remembered(path) == []
    for one in (ONE, TWO, FULL):
        remember(path, one)
    assert remembered(path) == [ONE, TWO, FULL]


def test_other_parts_of_the_page_stay() -> None:
    before = f"# Reliability\n\n{BEGIN}\nold\n{END}\n\n## Fuzzing\n\nmore\n"
    after = page(before, section([ONE]))
    assert after == before.replace(f"{BEGIN}\nold\n{END}", section([ONE]))
    assert page("# Reliability\n", section([ONE])).startswith(f"# Reliability\n\n{BEGIN}")


def test_the_page_tells_of_no_failure() -> None:
    """Every row of the table in the docs ends with a count of nothing wrong."""
    part = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    rows = [line for line in part.splitlines() if line.startswith("| ")][1:]
    assert all(row.endswith("| 0 |") for row in rows)
