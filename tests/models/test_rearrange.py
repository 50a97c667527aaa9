"""Pixels into channels and back: the order of the channels, and that nothing is lost."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.rearrange import Contract, Expand, Focus


def test_focus_takes_the_four_pixels_of_a_square_down_the_columns():
    """Order of v7.0: (even row, even column), (odd, even), (even, odd), (odd, odd)."""
    focus = Focus(2, 8)
    focus.conv = nn.Identity()
    x = torch.arange(16.0).view(1, 2, 2, 4)
    rows = focus(x)
    assert rows.shape == (1, 8, 1, 2)
    assert rows[0, :, 0, 0].tolist() == [0, 8, 4, 12, 1, 9, 5, 13]


def test_focus_halves_the_size_and_names_its_unit_conv():
    focus = Focus(3, 8, 3)
    assert focus(torch.rand(2, 3, 8, 12)).shape == (2, 8, 4, 6)
    assert focus.conv.conv.weight.shape == (8, 12, 3, 3)


def test_contract_runs_over_row_then_column_then_channel():
    x = torch.arange(8.0).view(1, 2, 2, 2)
    assert Contract(2)(x)[0, :, 0, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


@pytest.mark.parametrize("gain", [1, 2, 3])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_expand_takes_contract_back(gain, memory):
    x = torch.rand(2, 5, 6, 12).contiguous(memory_format=memory)
    small = Contract(gain)(x)
    assert small.shape == (2, 5 * gain**2, 6 // gain, 12 // gain)
    assert torch.equal(Expand(gain)(small), x)
