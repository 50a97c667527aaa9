"""The table of everything: ratios in the direction in which more is better."""

from __future__ import annotations

from bench.summary import Line, row, table

SPEED = Line("files", "other", "images/s", (10.0, 12.0, 9.0), (5.0, 4.0, 6.0), remark="same")
MEMORY = Line("memory", "other", "MiB", (500.0,), (750.0,), more_is_better=False)


def test_ratios_say_how_many_times_as_good() -> None:
    assert SPEED.ratios() == (2.0, 3.0, 1.5)
    assert MEMORY.ratios() == (1.5,)


def test_a_row_by_hand() -> None:
    assert row(SPEED) == ("| files | images/s | 10 | other | 5 | 1.50 / **2.00** / 3.00 | same |")


def test_every_line_has_the_columns_of_the_head() -> None:
    rows = table([SPEED, MEMORY]).splitlines()
    assert len(rows) == 4
    assert {one.count("|") for one in rows} == {8}
