"""Further blocks: equivalences by hand, names of children, and channels shared out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from models.blocks import SPPF, parse_activation
from models.extra_blocks import (
    C3SPP,
    C3TR,
    SPP,
    BottleneckCSP,
    C3Ghost,
    C3x,
    Contract,
    CrossConv,
    DWConv,
    DWConvTranspose2d,
    Expand,
    Focus,
    GhostBottleneck,
    GhostConv,
    MixConv2d,
    TransformerBlock,
    TransformerLayer,
    _equal_shares,
)

FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize(
    ("block", "inside"),
    [
        pytest.param(C3x(8, 16, 2), "m.1.cv2.conv.weight", id="C3x"),
        pytest.param(C3SPP(8, 16), "m.cv2.conv.weight", id="C3SPP"),
        pytest.param(C3Ghost(8, 16, 2), "m.1.conv.0.cv1.conv.weight", id="C3Ghost"),
        pytest.param(C3TR(8, 16, 3), "m.tr.2.ma.in_proj_weight", id="C3TR"),
    ],
)
@pytest.mark.parametrize("memory", FORMATS)
def test_kinds_of_c3(block, inside, memory):
    assert inside in block.state_dict()
    block = block.eval().to(memory_format=memory)
    x = torch.rand(2, 8, 4, 6).contiguous(memory_format=memory)
    assert block(x).shape == (2, 16, 4, 6)
    torch.testing.assert_close(block(x), block(x.contiguous()))


def test_inputs_are_left_as_they_are():
    x = torch.rand(1, 8, 8, 8)
    kept = x.clone()
    with torch.no_grad():
        for block in (GhostConv(8, 8), GhostBottleneck(8, 8), C3Ghost(8, 8), C3TR(8, 8)):
            block.eval()(x)
            assert torch.equal(x, kept)


def test_spp_equals_sppf_with_the_same_weights():
    slow, fast = SPP(8, 16).eval(), SPPF(8, 16).eval()
    fast.load_state_dict(slow.state_dict())
    x = torch.randn(1, 8, 16, 16)
    torch.testing.assert_close(slow(x), fast(x))
    assert SPP(8, 16, (3, 5)).cv2.conv.weight.shape == (16, 12, 1, 1)


@pytest.mark.parametrize("activation", ["nn.SiLU()", "nn.Identity()"])
def test_csp_joins_then_normalises_then_silu_whatever_the_network_uses(activation):
    block = BottleneckCSP(8, 16, 2).eval()
    block.bn.running_mean.normal_()
    for unit in (block.cv1, block.cv4):
        unit.set_activation(parse_activation(activation))
    x = torch.randn(2, 8, 4, 4)
    joined = torch.cat((block.cv3(block.m(block.cv1(x))), block.cv2(x)), 1)
    torch.testing.assert_close(block(x), block.cv4(functional.silu(block.bn(joined))))
    keys = set(block.state_dict())
    assert {"cv2.weight", "cv3.weight", "bn.weight", "cv4.conv.weight"} <= keys
    assert not {"cv2.bias", "cv3.bias"} & keys
    assert (block.bn.eps, block.bn.momentum) == (1e-3, 0.03)


@pytest.mark.parametrize(("shortcut", "given"), [(True, 8), (False, 8), (True, 16)])
def test_cross_convolution(shortcut, given):
    block = CrossConv(8, given, 3, 1, 1, 0.5, shortcut).eval()
    x = torch.randn(1, 8, 6, 6)
    inner = block.cv2(block.cv1(x))
    torch.testing.assert_close(block(x), x + inner if shortcut and given == 8 else inner)
    assert block.cv1.conv.weight.shape == (given // 2, 8, 1, 3)
    assert block.cv2.conv.weight.shape == (given, given // 2, 3, 1)
    assert CrossConv(8, 8, 3, 2)(torch.rand(1, 8, 6, 10)).shape == (1, 8, 3, 5)


@pytest.mark.parametrize(("taken", "given", "groups"), [(8, 8, 8), (8, 12, 4), (8, 9, 1)])
def test_depth_wise_groups_are_the_common_divisor(taken, given, groups):
    assert DWConv(taken, given, 3).conv.groups == groups
    transposed = DWConvTranspose2d(taken, given, 4, 2, 1)
    assert transposed.groups == groups
    assert transposed(torch.rand(1, taken, 5, 7)).shape == (1, given, 10, 14)
    assert set(transposed.state_dict()) == {"weight", "bias"}


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


def test_half_of_the_ghost_channels_derive_from_the_other_half():
    unit = GhostConv(8, 12, 3, 2).eval()
    x = torch.rand(2, 8, 8, 8)
    y = unit(x)
    assert y.shape == (2, 12, 4, 4)
    torch.testing.assert_close(y[:, :6], unit.cv1(x))
    torch.testing.assert_close(y[:, 6:], unit.cv2(unit.cv1(x)))
    assert (unit.cv2.conv.groups, unit.cv2.conv.kernel_size) == (6, (5, 5))


def test_ghost_bottleneck_adds_its_input_or_a_strided_shortcut():
    block = GhostBottleneck(8, 8).eval()
    x = torch.rand(2, 8, 8, 8)
    torch.testing.assert_close(block(x), block.conv(x) + x)
    assert isinstance(block.conv[1], nn.Identity)
    last = block.conv[2]
    assert (last.cv1.activation, last.cv2.activation) == (None, None)
    strided = GhostBottleneck(8, 16, 3, 2)
    assert strided(x).shape == (2, 16, 4, 4)
    keys = set(strided.state_dict())
    for part in ("conv.0.cv1", "conv.0.cv2", "conv.1", "conv.2.cv1", "shortcut.0", "shortcut.1"):
        assert f"{part}.conv.weight" in keys
    for taken, given, stride in ((8, 16, 1), (8, 8, 3)):
        with pytest.raises(ValueError, match="stride 2, or 1 with equal channels"):
            GhostBottleneck(taken, given, 3, stride)


def attention_by_hand(layer: TransformerLayer, tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """Every image, head and pair of cells on its own."""
    cells, images, channels = tokens.shape
    size = channels // heads
    rows = layer.ma.in_proj_weight.chunk(3), layer.ma.in_proj_bias.chunk(3)
    inner = (layer.q(tokens), layer.k(tokens), layer.v(tokens))
    q, k, v = (x @ weight.T + bias for x, weight, bias in zip(inner, *rows, strict=True))
    mixed = torch.zeros_like(tokens)
    for image in range(images):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for cell in range(cells):
                scores = k[:, image, part] @ q[cell, image, part] / math.sqrt(size)
                mixed[cell, image, part] = scores.softmax(0) @ v[:, image, part]
    attended = layer.ma.out_proj(mixed) + tokens
    return layer.fc2(layer.fc1(attended)) + attended


def test_transformer_layer_equals_the_formula():
    layer = TransformerLayer(8, 2).double()
    nn.init.normal_(layer.ma.in_proj_bias)
    nn.init.normal_(layer.ma.out_proj.bias)
    tokens = torch.randn(6, 2, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(tokens), attention_by_hand(layer, tokens, heads=2))


def test_transformer_layer_equals_torch_multihead_attention_to_the_bit():
    layer = TransformerLayer(32, 4)
    nn.init.normal_(layer.ma.in_proj_bias)
    tokens = torch.randn(6, 2, 32)
    attended, _ = layer.ma(layer.q(tokens), layer.k(tokens), layer.v(tokens), need_weights=False)
    assert torch.equal(layer.attend(tokens), attended)


def test_transformer_block_adds_a_linear_map_of_the_cells_and_puts_them_back():
    block = TransformerBlock(8, 8, 2, 2).double()
    x = torch.randn(2, 8, 2, 3, dtype=torch.float64)
    tokens = torch.stack([x[:, :, row, column] for row in range(2) for column in range(3)])
    expected = block.tr(tokens + block.linear(tokens))
    y = block(x)
    for row in range(2):
        for column in range(3):
            torch.testing.assert_close(y[:, :, row, column], expected[row * 3 + column])
    # Cells have no position: mirrored cells give a mirrored map.
    torch.testing.assert_close(block(x.flip(3)), y.flip(3))


def test_transformer_keys_are_those_of_v7():
    keys = set(TransformerBlock(8, 16, 2, 1).state_dict())
    assert {key.split(".")[0] for key in keys} == {"conv", "linear", "tr"}
    inside = {key.split(".", 2)[2] for key in keys if key.startswith("tr.0.")}
    assert inside == {
        *(f"{name}.weight" for name in ("q", "k", "v", "fc1", "fc2", "ma.out_proj")),
        *("ma.in_proj_weight", "ma.in_proj_bias", "ma.out_proj.bias"),
    }


def test_focus_takes_the_four_pixels_of_a_square_column_by_column():
    """Order of v7.0: (even row, even column), (odd, even), (even, odd), (odd, odd)."""
    focus = Focus(2, 8)
    focus.conv = nn.Identity()
    rows = focus(torch.arange(16.0).view(1, 2, 2, 4))
    assert rows.shape == (1, 8, 1, 2)
    assert rows[0, :, 0, 0].tolist() == [0, 8, 4, 12, 1, 9, 5, 13]
    focus = Focus(3, 8, 3)
    assert focus(torch.rand(2, 3, 8, 12)).shape == (2, 8, 4, 6)
    assert focus.conv.conv.weight.shape == (8, 12, 3, 3)


@pytest.mark.parametrize("gain", [1, 2, 3])
@pytest.mark.parametrize("memory", FORMATS)
def test_expand_is_the_inverse_of_contract(gain, memory):
    x = torch.arange(8.0).view(1, 2, 2, 2)
    assert Contract(2)(x)[0, :, 0, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    x = torch.rand(2, 5, 6, 12).contiguous(memory_format=memory)
    small = Contract(gain)(x)
    assert small.shape == (2, 5 * gain**2, 6 // gain, 12 // gain)
    assert torch.equal(Expand(gain)(small), x)
