"""Rules of blocks: each against the block itself, run on a real map; and what is refused."""

from __future__ import annotations

import pytest
import torch

from models.registry import BLOCKS, Inputs
from models.safe_load.allowlist import known_names

# Arguments as a model file has them, for 16 input channels at 8 pixels a cell and width 0.5.
ROWS = [
    ("Conv", (24, 3, 2), 16, 16),
    ("Conv", (24,), 16, 8),
    ("DWConv", (64, 3, 2), 32, 16),
    ("GhostConv", (64, 3, 2), 32, 16),
    ("CrossConv", (64, 3, 2), 32, 16),
    ("MixConv2d", (64, (1, 3, 5), 2), 32, 16),
    ("Focus", (64, 3), 32, 16),
    ("Focus", (64, 3, 2), 32, 32),
    ("Bottleneck", (64, False), 32, 8),
    ("GhostBottleneck", (64, 3, 2), 32, 16),
    ("BottleneckCSP", (64,), 32, 8),
    ("C3", (64, False), 32, 8),
    ("C3Ghost", (64,), 32, 8),
    ("C3SPP", (64, (3, 5)), 32, 8),
    ("C3TR", (64,), 32, 8),
    ("C3x", (64,), 32, 8),
    ("SPP", (64, (5, 9, 13)), 32, 8),
    ("SPPF", (64, 5), 32, 8),
    ("TransformerBlock", (16, 16, 4, 1), 16, 8),
    ("Concat", (1,), 32, 8),
    ("Sum", (2, True), 16, 8),
    ("Sum", (), 16, 8),
    ("Contract", (2,), 64, 16),
    ("Expand", (2,), 4, 4),
    ("DWConvTranspose2d", (64, 4, 2, 1), 32, 4),
    ("nn.ConvTranspose2d", (64, 2, 2), 32, 4),
    ("nn.Upsample", (None, 4, "nearest"), 16, 2),
    ("nn.MaxPool2d", (2,), 16, 16),
    ("nn.MaxPool2d", (3, 1, 1), 16, 8),
    ("nn.ZeroPad2d", ((0, 0, 0, 0),), 16, 8),
    ("nn.BatchNorm2d", (), 16, 8),
    ("nn.Identity", (), 16, 8),
]


def _inputs(block: str, repeats: int = 1) -> Inputs:
    sources = 2 if BLOCKS[block].takes_list else 1
    return Inputs((16,) * sources, (8.0,) * sources, repeats, width=0.5)


def test_every_block_has_a_row_here_and_is_read_from_checkpoints():
    assert BLOCKS.keys() == {block for block, *_ in ROWS}
    readable = {path.rpartition(".")[2] for path in known_names()}
    assert readable >= {name.removeprefix("nn.") for name in BLOCKS}


@pytest.mark.parametrize(("block", "arguments", "channels", "reduction"), ROWS)
def test_a_rule_says_what_its_block_gives(block, arguments, channels, reduction):
    made = BLOCKS[block].rule(_inputs(block), arguments)
    assert (made.channels, made.reduction) == (channels, reduction)
    module = BLOCKS[block].build(*made.arguments).eval()
    assert type(module).__name__ == block.removeprefix("nn.")
    x = torch.rand(2, 16, 16, 24)
    y = module([x, x]) if BLOCKS[block].takes_list else module(x)
    rows, columns = (int(8 * side / reduction) for side in (16, 24))
    assert y.shape == (2, channels, rows, columns)


@pytest.mark.parametrize("block", ["BottleneckCSP", "C3", "C3Ghost", "C3TR", "C3x"])
def test_some_blocks_repeat_inside_and_others_are_chained(block):
    made = BLOCKS[block].rule(_inputs(block, repeats=3), (64,))
    assert made.repeats == 1
    assert made.arguments == (16, 32, 3)
    made = BLOCKS["C3SPP"].rule(_inputs("C3SPP", repeats=3), (32,))
    assert (made.repeats, made.arguments) == (3, (16, 16))


@pytest.mark.parametrize(
    ("block", "arguments", "words"),
    [
        pytest.param("Conv", (), "argument 1", id="no channels"),
        pytest.param("Conv", (16.5,), "whole number", id="half a channel"),
        pytest.param("Conv", (True,), "must be a number", id="truth value as channels"),
        pytest.param("Conv", (16, 3, -2), "above zero", id="negative stride"),
        pytest.param("TransformerBlock", (32, 32, 4, 1), "16 input channels", id="other channels"),
        pytest.param("Sum", (3,), "says 3 inputs, but it has 2", id="three of two"),
        pytest.param("Expand", (3,), "3x3 squares", id="no squares"),
        pytest.param("nn.MaxPool2d", (), "argument 1", id="no window"),
        pytest.param("nn.ConvTranspose2d", (16,), "argument 2", id="no kernel"),
        pytest.param("nn.Upsample", (None, None), "argument 2", id="no factor"),
        pytest.param("Concat", (2,), "axis 1", id="another axis"),
    ],
)
def test_refusals(block, arguments, words):
    with pytest.raises(ValueError, match=words):
        BLOCKS[block].rule(_inputs(block), arguments)


@pytest.mark.parametrize(
    ("block", "channels", "reductions", "words"),
    [
        ("Sum", (8, 16), (8.0, 8.0), "different channels"),
        ("Sum", (8, 8), (8.0, 4.0), "different strides"),
        ("Concat", (8, 8), (8.0, 4.0), "different strides"),
    ],
)
def test_maps_that_do_not_go_together(block, channels, reductions, words):
    with pytest.raises(ValueError, match=words):
        BLOCKS[block].rule(Inputs(channels, reductions, 1, 1.0), ())
