"""The head: decoding by hand and against the reference, initial biases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from models.head import MAX_CACHED_GRIDS, Detect

ANCHORS = ((10.0, 13.0, 16.0, 30.0), (60.0, 50.0, 90.0, 120.0))


def _head(nc: int = 3) -> Detect:
    return Detect(nc, ANCHORS, (8.0, 16.0), (4, 6))


def test_decode_equals_the_reference(golden):
    """tests/golden/decode.npz: image 0, the first two classes of golden/yolov5n_official.npz."""
    with np.load(golden("decode.npz")) as arrays:
        raw = [torch.from_numpy(arrays[f"raw{level}"]) for level in range(3)]
        pixels = arrays["anchors"] * arrays["stride"][:, None, None]
        head = Detect(2, pixels.reshape(3, -1).tolist(), arrays["stride"].tolist(), (1, 1, 1))
        assert np.array_equal(head.anchors.numpy(), arrays["anchors"])
        rows = head.decode(raw).numpy()
        np.testing.assert_allclose(rows[..., :4], arrays["y"][..., :4], rtol=2e-4, atol=5e-3)
        np.testing.assert_allclose(rows[..., 4:], arrays["y"][..., 4:], atol=5e-5)


def test_raw_maps_are_anchor_major_views():
    head = _head().to(memory_format=torch.channels_last)
    maps = [torch.rand(2, 4, 4, 6), torch.rand(2, 6, 2, 3)]
    maps = [x.contiguous(memory_format=torch.channels_last) for x in maps]
    for level, raw in enumerate(head(maps)):
        flat = head.m[level](maps[level])
        assert raw.shape == (2, 2, *flat.shape[2:], 8)
        torch.testing.assert_close(raw[1, 1, 0, 2], flat[1, 8:, 0, 2])
        assert raw.stride(-1) == 1, "copied"


@pytest.mark.parametrize(("nc", "bias"), [(1, 11.0021), (80, -4.88027)])
def test_initial_biases(nc, bias):
    """ln(8 / (640 / s)^2) and ln(0.6 / (nc - 0.99999)), v7.0, on top of the default random bias."""
    head = _head(nc)
    for conv in head.m:
        nn.init.zeros_(conv.bias)
    head.reset_biases((8.0, 16.0))
    for conv, objectness in zip(head.m, (-6.68461, -5.29832), strict=True):
        levels = conv.bias.detach().view(2, nc + 5)
        assert torch.equal(levels[:, :4], torch.zeros(2, 4))
        torch.testing.assert_close(levels[:, 4], torch.full((2,), objectness), atol=1e-4, rtol=0)
        expected = torch.full((2, nc), bias)
        torch.testing.assert_close(levels[:, 5:], expected, atol=1e-3, rtol=0)


def test_half_precision_is_widened():
    raw = [torch.randn(1, 2, 40, 40, 8), torch.randn(1, 2, 20, 20, 8)]
    rows = _head().decode([level.bfloat16() for level in raw])
    assert rows.dtype == torch.float32
    exact = _head().decode([level.bfloat16().float() for level in raw])
    assert torch.equal(rows, exact)


def test_cached_grids_are_bounded():
    head = _head()
    for size in range(1, MAX_CACHED_GRIDS * 2):
        head.decode([torch.zeros(1, 2, size, 1, 8), torch.zeros(1, 2, 1, size, 8)])
        assert len(head._grids) <= MAX_CACHED_GRIDS


def test_a_grid_made_in_inference_mode_serves_training_too():
    head = _head()
    raw = [torch.zeros(1, 2, 2, 2, 8), torch.zeros(1, 2, 1, 1, 8)]
    with torch.inference_mode():
        head.decode(raw)
    raw = [level.requires_grad_() for level in raw]
    head.decode(raw).sum().backward()
    assert raw[0].grad is not None


def test_autocast_leaves_the_last_convolutions_alone():
    head = _head()
    maps = [torch.rand(1, conv.in_channels, 4, 4).bfloat16().float() for conv in head.m]
    expected = head(maps)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head([level.bfloat16() for level in maps])
        other = functional.conv2d(maps[0], head.m[0].weight, head.m[0].bias)
    assert other.dtype == torch.bfloat16  # autocast was at work around the head
    for ours, exact in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, exact)
