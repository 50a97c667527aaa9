"""The arithmetic and the text of the speed tables; expected numbers by hand."""

from __future__ import annotations

import pytest

from bench.tables import (
    Row,
    Spread,
    comparison,
    milliseconds_per_image,
    parse_result,
    spread,
    turns,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([4.0], Spread(4.0, 4.0, 4.0), id="one"),
        pytest.param([3.0, 1.0, 2.0], Spread(1.0, 2.0, 3.0), id="odd, unsorted"),
        pytest.param([4.0, 1.0, 2.0, 3.0], Spread(1.0, 2.5, 4.0), id="even"),
    ],
)
def test_spread(values: list[float], expected: Spread) -> None:
    assert spread(values) == expected


def test_spread_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no measurements"):
        spread([])


def test_milliseconds_per_image_take_the_middle_pass() -> None:
    assert milliseconds_per_image([9.0, 1.0, 2.0], 8) == pytest.approx(250.0)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        pytest.param(0, [], id="none"),
        pytest.param(1, [("ours", "peer")], id="one"),
        pytest.param(3, [("ours", "peer"), ("peer", "ours"), ("ours", "peer")], id="three"),
    ],
)
def test_turns(pairs: int, expected: list[tuple[str, str]]) -> None:
    assert turns(pairs) == expected


def test_ratio_is_taken_within_each_pair() -> None:
    assert Row("x", (10.0, 20.0), (30.0, 30.0)).ratios() == (3.0, 1.5)


def test_unequal_numbers_of_measurements_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Row("x", (10.0, 20.0), (30.0,)).ratios()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param('{"benchmark": "a", "seconds": [1]}', [1], id="alone"),
        pytest.param('hello\n{"benchmark": "a", "seconds": [2]}\nbye\n', [2], id="among others"),
        pytest.param(
            '{"benchmark": "a", "seconds": [1]}\n{"benchmark": "a", "seconds": [3]}',
            [3],
            id="the last",
        ),
        pytest.param('{"benchmark": "a", "seconds": [4]}\n{"other": 1}\n7', [4], id="foreign JSON"),
    ],
)
def test_parse_result(output: str, expected: list[int]) -> None:
    assert parse_result(output)["seconds"] == expected


@pytest.mark.parametrize(
    "output",
    [
        pytest.param("", id="empty"),
        pytest.param("Traceback\n[1, 2]\n{broken", id="no object"),
        pytest.param('{"seconds": [1]}', id="no marker"),
    ],
)
def test_parse_result_refuses(output: str) -> None:
    with pytest.raises(ValueError, match="no result"):
        parse_result(output)


def test_comparison_table() -> None:
    table = comparison([Row("epoch", (10.0, 20.0, 15.0), (30.0, 30.0, 30.0), "7 and 7 objects")])
    lines = table.splitlines()
    assert len(lines) == 3
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2] == (
        "| epoch | 10.00 / 15.00 | 30.00 / 30.00 | 1.50 / **2.00** / 3.00 | 7 and 7 objects |"
    )
