"""Agreement with torch: row by row, what is tolerated, and what is not."""

from __future__ import annotations

import pytest
import torch

from inference.backends.agreement import (
    ROUNDING,
    SHORT,
    agreement,
    compared,
    relative,
    tolerance_of,
)
from inference.backends.base import Engine

ROW = [50.0, 40.0, 20.0, 10.0, 0.9, 0.8, 0.1]


@pytest.mark.parametrize(
    ("changed", "overlap", "difference"),
    [
        ({}, 1.0, 0.0),
        ({0: 60.0}, 1 / 3, 0.0),  # half a width to the right
        ({4: 0.8}, 1.0, 0.08),  # 0.9 * 0.8 - 0.8 * 0.8
        ({6: 0.5}, 1.0, 0.36),  # any class counts
        ({0: torch.nan}, 0.0, 0.0),
        ({4: torch.nan}, 1.0, torch.inf),
        ({2: torch.inf}, 0.0, 0.0),
    ],
    ids=["equal", "box", "objectness", "class", "no number", "no score", "no width"],
)
def test_one_row(changed, overlap, difference):
    expected = torch.tensor([[ROW]])
    found = expected.clone()
    for column, value in changed.items():
        found[..., column] = value
    own, score = compared(found, expected)
    assert own.tolist() == pytest.approx([overlap], abs=1e-5)
    assert score.tolist() == pytest.approx([difference], abs=1e-5)


def test_the_most_confident_rows_of_either_side_count():
    """Of 300 rows 100 of each side; a row that only one of them is sure of is among them."""
    expected = torch.tensor(ROW).repeat(1, 300, 1)
    expected[0, :, 4] = torch.linspace(1, 0, 300)
    found = expected.clone()
    found[0, 299, 4] = 1.0
    _, differences = compared(found, expected)
    assert len(differences) == 101
    assert float(differences.max()) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("found", "expected", "share"),
    [
        ([[1.0, 3.0]], [[1.0, 3.0]], 0.0),
        ([[1.0, 4.0]], [[1.0, 3.0]], 0.5**0.5),  # 1 beside (1 + 1)
        ([[0.0, 0.0]], [[1.0, -1.0]], 1.0),
        ([[torch.nan, 3.0]], [[1.0, 3.0]], torch.inf),
        ([[2.0, 2.0]], [[1.0, 1.0]], torch.inf),  # torch sees nothing that varies
        ([[1.0, 1.0]], [[1.0, 1.0]], 0.0),
    ],
)
def test_maps_are_held_against_their_variation(found, expected, share):
    one, other = (torch.tensor([[rows]]) for rows in (found, expected))
    assert relative(one, other) == pytest.approx(share)


def test_an_engine_that_computes_the_same(network, samples):
    exact = Engine("exact", "float32", network.head_inputs)
    shown = agreement(exact, network, [torch.stack(samples)])
    assert shown.agrees
    assert shown.rows >= 100 * len(samples)
    assert shown.share == 1
    assert shown.overlap > 0.999
    assert "100.0% of" in str(shown)


def test_maps_of_a_single_cell_agree(network):
    """32 pixels are one cell of the coarsest map; twice rounded otherwise, they still agree."""
    nearly = Engine(
        "nearly", "float32", lambda images: [one * 1.00001 for one in network.head_inputs(images)]
    )
    shown = agreement(nearly, network, [torch.rand(1, 3, 32, 32)])
    assert shown.agrees
    assert 0 < shown.maps < 1e-4


@pytest.mark.parametrize(
    ("spoil", "arithmetic"),
    [
        (lambda maps: [one * 0 for one in maps], "bfloat16"),
        (lambda maps: [one * torch.nan for one in maps], "bfloat16"),
        (lambda maps: [one.flip(-1) for one in maps], "float32"),
        (lambda maps: [one * 1.05 for one in maps], "float32"),
    ],
    ids=["zeros", "no numbers", "mirrored", "a twentieth off"],
)
def test_an_engine_that_does_not(network, samples, spoil, arithmetic):
    wrong = Engine("wrong", arithmetic, lambda images: spoil(network.head_inputs(images)))
    assert not agreement(wrong, network, [torch.stack(samples)]).agrees


def test_short_numbers_may_differ_more(network, samples):
    """Maps rounded to bfloat16 pass as bfloat16."""
    rounded = Engine(
        "rounded",
        "bfloat16",
        lambda images: [one.bfloat16().float() for one in network.head_inputs(images)],
    )
    assert agreement(rounded, network, [torch.stack(samples)]).agrees
    assert tolerance_of("float16") is tolerance_of("bfloat16") is SHORT
    assert tolerance_of("float32") is ROUNDING
