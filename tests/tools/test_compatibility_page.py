"""docs/compatibility.md is what the tables say, and says something about everything."""

from __future__ import annotations

import re

from settings.v7_flags import FLAGS
from tools.compatibility_page import PAGE, page


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tools.compatibility_page"


def test_every_flag_has_a_row_in_its_table() -> None:
    sections = re.split(r"^## ", page(), flags=re.MULTILINE)[1:5]
    for section, flags in zip(sections, FLAGS.values(), strict=True):
        rows = [line for line in section.splitlines() if line.startswith("| `--")]
        assert len(rows) == len(flags)
        for flag in flags:
            assert sum(f"`{flag.names[0]}`" in row.split("|")[1] for row in rows) == 1


def test_every_row_says_what_is_done_and_why() -> None:
    for line in page().splitlines():
        if line.startswith("| `"):
            assert all(cell.strip() for cell in line.split("|")[2:-1])
