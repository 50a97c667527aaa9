"""The parity check with torch: row by row, what is tolerated and what is not."""

from __future__ import annotations

import pytest
import torch

from inference.backends.base import Backend
from inference.backends.parity import (
    HALF_PRECISION,
    check_parity,
    map_difference,
    row_difference,
)

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
    own, score = row_difference(found, expected)
    assert own.tolist() == pytest.approx([overlap], abs=1e-5)
    assert score.tolist() == pytest.approx([difference], abs=1e-5)


def test_the_most_confident_rows_of_either_side_count():
    """Of 300 rows 100 of each side; a row that only one of them is sure of is among them."""
    expected = torch.tensor(ROW).repeat(1, 300, 1)
    expected[0, :, 4] = torch.linspace(1, 0, 300)
    found = expected.clone()
    found[0, 299, 4] = 1.0
    _, differences = row_difference(found, expected)
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
    assert map_difference(one, other) == pytest.approx(share)


def changed(network, change, arithmetic="float32"):
    """A backend that changes each of torch's maps."""
    head_inputs = network.detector.head_inputs
    return Backend("any", arithmetic, lambda images: [change(one) for one in head_inputs(images)])


def test_a_backend_that_computes_the_same_passes(network, samples):
    shown = check_parity(
        changed(network, lambda one: one), network.detector, [torch.stack(samples)]
    )
    assert shown.passed
    assert shown.rows >= 100 * len(samples)
    assert shown.share == 1
    assert shown.overlap > 0.999
    assert "100.0% of" in str(shown)


def test_maps_of_a_single_cell_pass(network):
    """32 pixels are one cell of the coarsest map; twice rounded otherwise, they still agree."""
    nearly = changed(network, lambda one: one * 1.00001)
    shown = check_parity(nearly, network.detector, [torch.rand(1, 3, 32, 32)])
    assert shown.passed
    assert 0 < shown.maps < 1e-4


@pytest.mark.parametrize(
    ("spoil", "arithmetic"),
    [
        (lambda one: one * 0, "bfloat16"),
        (lambda one: one * torch.nan, "bfloat16"),
        (lambda one: one.flip(-1), "float32"),
        (lambda one: one * 1.05, "float32"),
    ],
    ids=["zeros", "no numbers", "mirrored", "a twentieth off"],
)
def test_a_backend_that_does_not_fails(network, samples, spoil, arithmetic):
    wrong = changed(network, spoil, arithmetic)
    assert not check_parity(wrong, network.detector, [torch.stack(samples)]).passed


def test_half_precision_may_differ_more(network, samples):
    """Maps rounded to bfloat16 pass as bfloat16."""
    rounded = changed(network, lambda one: one.bfloat16().float(), "bfloat16")
    found = check_parity(rounded, network.detector, [torch.stack(samples)])
    assert found.passed
    assert found.tolerance is HALF_PRECISION
