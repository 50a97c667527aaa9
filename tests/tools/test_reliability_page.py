"""docs/reliability.md tells of the cases that the tests run, and keeps what others wrote there."""

from __future__ import annotations

from tests.reliability.bad_input import PARTS
from tests.reliability.checklist import CHECKLIST
from tools.reliability_page import (
    BEGIN,
    CLAUSES_BEGIN,
    CLAUSES_END,
    END,
    PAGE,
    clauses,
    page,
    section,
)


def test_the_page_is_what_the_cases_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "run python -m tools.reliability_page"
    assert section() in text
    assert clauses() in text


def test_every_line_of_the_contract_has_a_row_with_its_tests() -> None:
    rows = [line for line in clauses().splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(CHECKLIST)
    for row, clause in zip(rows, CHECKLIST, strict=True):
        assert row.count("](../tests/") == len(clause.tests)


def test_every_case_has_a_row_that_says_what_happens() -> None:
    rows = [line.split(" | ") for line in section().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[1] not in {"what happens", "---"}]
    assert len(rows) == sum(map(len, PARTS.values()))
    assert all(row[1].startswith(("taken", "skipped", "refused, 300")) for row in rows)


def test_other_parts_of_the_page_stay() -> None:
    contract, bad = f"{CLAUSES_BEGIN}\nold\n{CLAUSES_END}", f"{BEGIN}\nold\n{END}"
    before = f"# Reliability\n\n## Faults\n\ntext\n\n{bad}\n\n{contract}\n\n## Fuzzing\n\nmore\n"
    after = page(before)
    assert after == before.replace(bad, section()).replace(contract, clauses())
    assert page(after) == after


def test_a_page_without_these_parts_gets_them_at_the_end() -> None:
    assert page("# Reliability\n\ntext\n").endswith(f"text\n\n{clauses()}\n\n{section()}\n")
    assert page("").startswith(f"# Reliability\n\n{CLAUSES_BEGIN}")
