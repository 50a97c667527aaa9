"""What mining may ask of a GPU beside the forward passes, counted on a pretended one."""

from __future__ import annotations

import torch

from mining.mining_aldd import disagreement, heat_maps
from tests.pretend_gpu import PretendGpu

CUDA = torch.device("cuda", 0)


def test_aldd_of_eighty_classes(pretend_gpu: PretendGpu) -> None:
    """An image's share of a batch of eight is at most 10."""
    levels = [torch.rand(8, 3, 64 // s, 96 // s, 85, device=CUDA) for s in (8, 16, 32)]
    disagreement(heat_maps(levels, [0]), (64, 96))  # copies the matrices
    with pretend_gpu.watch() as seen:
        disagreement(heat_maps(levels, range(80)), (64, 96))
    seen.assert_within(80)
