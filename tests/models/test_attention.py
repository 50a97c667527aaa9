"""Attention over cells: the formula worked out by hand, and what it does not see."""

from __future__ import annotations

import math

import pytest
import torch

from models.attention import C3TR, TransformerBlock, TransformerLayer


def _by_hand(layer: TransformerLayer, tokens: torch.Tensor, heads: int) -> torch.Tensor:
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


def test_layer_equals_the_formula():
    layer = TransformerLayer(8, 2).double()
    torch.nn.init.normal_(layer.ma.in_proj_bias)
    tokens = torch.randn(6, 2, 8, dtype=torch.float64)
    torch.testing.assert_close(layer(tokens), _by_hand(layer, tokens, heads=2))


def test_block_adds_a_linear_map_of_the_cells_and_puts_them_back():
    block = TransformerBlock(8, 8, 2, 2).double()
    x = torch.randn(2, 8, 2, 3, dtype=torch.float64)
    tokens = torch.stack([x[:, :, row, column] for row in range(2) for column in range(3)])
    expected = block.tr(tokens + block.linear(tokens))
    y = block(x)
    for row in range(2):
        for column in range(3):
            torch.testing.assert_close(y[:, :, row, column], expected[row * 3 + column])


def test_cells_have_no_place():
    """A linear map of the cells stands for positions, so cells that change place only do that."""
    block = TransformerBlock(8, 8, 2, 1).double()
    x = torch.randn(1, 8, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(block(x.flip(3)), block(x).flip(3))


def test_names_are_those_of_v7():
    keys = set(TransformerBlock(8, 16, 2, 1).state_dict())
    assert {key.split(".")[0] for key in keys} == {"conv", "linear", "tr"}
    inside = {key.split(".", 2)[2] for key in keys if key.startswith("tr.0.")}
    assert inside == {
        *(f"{name}.weight" for name in ("q", "k", "v", "fc1", "fc2", "ma.out_proj")),
        *("ma.in_proj_weight", "ma.in_proj_bias", "ma.out_proj.bias"),
    }


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_c3_with_attention(memory):
    block = C3TR(8, 16, 3).to(memory_format=memory)
    assert len(block.m.tr) == 3
    x = torch.rand(2, 8, 4, 6).contiguous(memory_format=memory)
    assert block(x).shape == (2, 16, 4, 6)
    torch.testing.assert_close(block.eval()(x), block(x.contiguous()))
