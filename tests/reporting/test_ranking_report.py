"""How a ranking falls and what it covers, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reporting.page import Page
from reporting.ranking_report import add_choice, coverage, ranking, steps_of
from tests.reporting.page_reader import read_page_file

SHOWN = [[0, 0], [2], [], [1, 0, 7]]


def shown(position: int) -> np.ndarray:
    return np.array(SHOWN[position], np.int64)


def test_order_is_that_of_the_result_file() -> None:
    assert ranking([0.1, None, 0.5000001, 0.5, -1.0, 0.9]).tolist() == [5, 2, 3, 0, 4, 1]


def test_images_that_show_a_class_are_counted_once_each() -> None:
    found = [row.tolist() for row in coverage([3, 2, 0, 1], shown, 3)]
    assert found == [[1, 1, 0], [1, 1, 0], [2, 1, 0], [2, 1, 1]]


@pytest.mark.parametrize(
    ("count", "steps"), [(1, [1]), (10, [10]), (11, [10, 11]), (500, [10, 30, 100, 300, 500])]
)
def test_steps(count: int, steps: list[int]) -> None:
    assert steps_of(count) == steps


def test_the_section(tmp_path: Path) -> None:
    page = Page("x")
    add_choice(page, [0.5, None, 0.25, 0.75], shown, ("<a>", "b", "c"))
    text = read_page_file(page.write(tmp_path / "p.html")).text
    assert "How many to label" in text
    assert "k = 3 <a> 2 b 1 c 0" in text  # the unreadable image is none of the three


def test_nothing_to_rank(tmp_path: Path) -> None:
    page = Page("x")
    add_choice(page, [None, None], shown, ())
    assert "How many" not in page.render()
