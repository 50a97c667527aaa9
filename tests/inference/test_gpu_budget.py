"""What a forward pass for inference may ask of a GPU, counted on a pretended one."""

from __future__ import annotations

import pytest
import torch

from inference.network import Network
from models.detector import Detector
from models.model_config import read_model_config
from tests.pretend_gpu import PretendGpu
from utils.device import autocast

CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_forward_pass(pretend_gpu: PretendGpu, precision: str) -> None:
    """Decoding included; the same numbers as of weights that autocast casts at every call."""
    network = Network.build(
        Detector(read_model_config("yolov5n", nc=3)), device=CUDA, precision=precision
    )
    images = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8).to(CUDA)
    network(images)
    with pretend_gpu.watch() as seen:
        maps, rows = network(images)
    seen.assert_within(195)
    assert not seen.copies
    assert rows.dtype == torch.float32
    with autocast(CUDA, precision), torch.inference_mode():
        wanted = network.detector(images.float().div_(255))
    for found, level in zip(maps, wanted, strict=True):
        torch.testing.assert_close(found.cpu(), level.float().cpu(), rtol=0, atol=1e-6)
    assert network.detector.model[0].conv.weight.dtype == torch.float32
