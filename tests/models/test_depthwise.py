"""Grouped convolutions: groups, sizes, and how MixConv2d shares out its channels."""

from __future__ import annotations

import pytest
import torch

from models.depthwise import DWConv, DWConvTranspose2d, MixConv2d, _equal_shares


@pytest.mark.parametrize(("taken", "given", "groups"), [(8, 8, 8), (8, 12, 4), (8, 9, 1)])
def test_groups_are_the_common_divisor(taken, given, groups):
    assert DWConv(taken, given, 3).conv.groups == groups
    assert DWConvTranspose2d(taken, given, 2, 2).groups == groups


def test_depth_wise_channels_do_not_mix():
    unit = DWConv(4, 4, 3, activation=False).eval()
    x = torch.rand(1, 4, 6, 6)
    changed = x.clone()
    changed[:, 2] += 1
    difference = (unit(changed) - unit(x)).abs().amax((0, 2, 3))
    assert (difference > 0).tolist() == [False, False, True, False]


def test_transposed_convolution_doubles_the_size_and_has_a_bias():
    unit = DWConvTranspose2d(8, 4, 4, 2, 1)
    assert unit(torch.rand(1, 8, 5, 7)).shape == (1, 4, 10, 14)
    assert set(unit.state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("total", [6, 8, 16, 17, 31])
@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_equal_shares_count_points_on_a_line(total, parts):
    """The rule of v7.0, literally: `total` points from 0 to just below `parts`, rounded down."""
    points = torch.linspace(0, parts - 1e-6, total, dtype=torch.float64).floor()
    assert _equal_shares(total, parts) == [int((points == part).sum()) for part in range(parts)]


@pytest.mark.parametrize(
    ("kernels", "equal", "channels"),
    [
        pytest.param((1, 3), True, [8, 8], id="two equal shares"),
        pytest.param((1, 3, 5), True, [6, 5, 5], id="three nearly equal shares"),
        # 14.4 and 1.6 would have 14.4 weights each for every input channel.
        pytest.param((1, 3), False, [14, 2], id="equal numbers of weights"),
    ],
)
def test_mixed_kernels(kernels, equal, channels):
    unit = MixConv2d(8, 16, kernels, 2, equal)
    assert [convolution.weight.shape[0] for convolution in unit.m] == channels
    assert [convolution.kernel_size[0] for convolution in unit.m] == list(kernels)
    assert unit(torch.rand(2, 8, 8, 8)).shape == (2, 16, 4, 4)
    assert (unit.bn.eps, unit.bn.momentum) == (1e-3, 0.03)
