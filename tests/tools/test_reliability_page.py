"""docs/reliability.md tells of the cases that the tests run, and keeps what others wrote there."""

from __future__ import annotations

from tests.reliability.bad_input import PARTS
from tools.reliability_page import BEGIN, END, PAGE, page, section


def test_the_page_is_what_the_cases_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run python -m tools.reliability_page"
    assert section() in text


def test_every_case_has_a_row_that_says_what_happens() -> None:
    rows = [line.split(" | ") for line in section().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[1] not in {"what happens", "---"}]
    assert len(rows) == sum(map(len, PARTS.values()))
    assert all(row[1].startswith(("taken", "skipped", "refused, 300")) for row in rows)


def test_other_parts_of_the_page_stay() -> None:
    before = f"# Reliability\n\n## Faults\n\ntext\n\n{BEGIN}\nold\n{END}\n\n## Fuzzing\n\nmore\n"
    after = page(before)
    assert after == before.replace(f"{BEGIN}\nold\n{END}", section())
    assert page(after) == after


def test_a_page_without_this_part_gets_it_at_the_end() -> None:
    assert page("# Reliability\n\ntext\n").endswith(f"text\n\n{section()}\n")
    assert page("").startswith(f"# Reliability\n\n{BEGIN}")
