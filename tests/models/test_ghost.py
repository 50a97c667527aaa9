"""Ghost blocks: what is computed, what is derived, and the shortcut."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.ghost import C3Ghost, GhostBottleneck, GhostConv


def test_half_of_the_channels_are_derived_from_the_other_half():
    unit = GhostConv(8, 12, 3, 2).eval()
    x = torch.rand(2, 8, 8, 8)
    y = unit(x)
    assert y.shape == (2, 12, 4, 4)
    torch.testing.assert_close(y[:, :6], unit.cv1(x))
    torch.testing.assert_close(y[:, 6:], unit.cv2(unit.cv1(x)))
    assert (unit.cv2.conv.groups, unit.cv2.conv.kernel_size) == (6, (5, 5))


def test_bottleneck_at_stride_one_adds_its_input():
    block = GhostBottleneck(8, 8).eval()
    x = torch.rand(2, 8, 8, 8)
    torch.testing.assert_close(block(x), block.conv(x) + x)
    assert isinstance(block.conv[1], nn.Identity)
    last = block.conv[2]
    assert (last.cv1.activation, last.cv2.activation) == (None, None)


def test_bottleneck_at_stride_two_has_a_shortcut_of_its_own():
    block = GhostBottleneck(8, 16, 3, 2)
    assert block(torch.rand(2, 8, 8, 8)).shape == (2, 16, 4, 4)
    keys = set(block.state_dict())
    for part in ("conv.0.cv1", "conv.0.cv2", "conv.1", "conv.2.cv1", "shortcut.0", "shortcut.1"):
        assert f"{part}.conv.weight" in keys


@pytest.mark.parametrize(("taken", "given", "stride"), [(8, 16, 1), (8, 8, 3)])
def test_shapes_without_a_sum_are_refused(taken, given, stride):
    with pytest.raises(ValueError, match="stride 2, or 1 with equal channels"):
        GhostBottleneck(taken, given, 3, stride)


def test_c3_has_ghost_bottlenecks():
    block = C3Ghost(8, 16, 2)
    assert [type(part) for part in block.m] == [GhostBottleneck] * 2
    assert block(torch.rand(1, 8, 4, 4)).shape == (1, 16, 4, 4)


def test_inputs_are_left_as_they_are():
    x = torch.rand(1, 8, 8, 8)
    kept = x.clone()
    with torch.no_grad():
        for block in (GhostConv(8, 8), GhostBottleneck(8, 8), C3Ghost(8, 8)):
            block.eval()(x)
            assert torch.equal(x, kept)
