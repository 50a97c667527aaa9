"""A small network that sees something, drawn pictures as it sees them, and its surroundings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from inference.backends.base import BackendSpec
from inference.backends.choice import BenchmarkTarget
from inference.backends.sample import sample_images
from inference.batching import WorkerPool
from models.detector import Detector
from models.model_config import read_model_config
from ops.letterbox import plan_letterbox
from tests.exporting.conftest import lively

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def network() -> Detector:
    torch.manual_seed(0)
    fused = lively(Detector(read_model_config("yolov5n", 3))).fused()
    return fused.to(memory_format=torch.channels_last)


@pytest.fixture(scope="session")
def around() -> BackendSpec:
    return BackendSpec(
        device=CPU,
        precision="float32",
        lanes=1,
        batch_size=4,
        side=128,
        stride=32,
        levels=((64, 8), (128, 16), (256, 32)),
    )


@pytest.fixture
def on_a_gpu(around):
    """What is not there on most machines that run the tests: refusals only."""
    return replace(around, device=torch.device("cuda", 0))


@pytest.fixture(scope="session")
def samples(drawn):
    paths = [str(image.path) for image in drawn.splits["train"]]
    return sample_images(paths, lambda size: plan_letterbox(size, (128, 128), minimal=True))


@pytest.fixture
def subject(network, around):
    def look(engine, pixels):
        with torch.inference_mode():
            if engine is None:
                return network.predict(pixels)
            return network.decode(network.head(engine(pixels)))

    return BenchmarkTarget(network, around, look, WorkerPool(CPU))


def same_maps(engine, network, shapes=((1, 3, 96, 128), (3, 3, 128, 64), (2, 3, 32, 32))):
    """Hold an engine's maps against the network's on pictures of several batches and shapes."""
    for shape in shapes:
        pixels = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        # As they come from the predictor: channels last.
        seen = pixels.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            expected, found = network.head_inputs(pixels), engine(seen)
        assert len(found) == len(expected) == 3
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == torch.float32
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
