"""A small network with detections, drawn images as its input, and what backends are built for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from inference.backends.base import Backend, BackendSpec, BackendType
from inference.backends.choice import BenchmarkTarget, sample_images
from inference.batching import WorkerPool
from inference.network import Network
from models.detector import Detector
from models.model_config import read_model_config
from ops.letterbox import plan_letterbox
from tests.exporting.conftest import lively
from tools.sources import SourceDataset

CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def network() -> Network:
    torch.manual_seed(0)
    detector = lively(Detector(read_model_config("yolov5n", 3)))
    return Network.build(detector, device=CPU, precision="float32")


@pytest.fixture(scope="session")
def spec(network: Network) -> BackendSpec:
    levels = network.levels
    return BackendSpec(CPU, "float32", threads=1, batch_size=4, side=128, stride=32, levels=levels)


@pytest.fixture
def gpu_spec(spec: BackendSpec) -> BackendSpec:
    return replace(spec, device=torch.device("cuda", 0))


@pytest.fixture(scope="session")
def samples(drawn: SourceDataset) -> list[torch.Tensor]:
    paths = [str(image.path) for image in drawn.splits["train"]]
    return sample_images(paths, lambda size: plan_letterbox(size, (128, 128), minimal=True))


@pytest.fixture
def target(network: Network, spec: BackendSpec) -> BenchmarkTarget:
    return BenchmarkTarget(network, spec, WorkerPool(CPU))


def exact(network: Network, name: str = "exact") -> BackendType:
    """A backend that is torch itself."""
    return BackendType(lambda neck, spec: Backend(name, "float32", network.detector.head_inputs))


def wrong(network: Network) -> BackendType:
    """A badly converted graph: maps upside down."""
    head_inputs = network.detector.head_inputs
    backend = Backend("wrong", "float32", lambda images: [m.flip(2) for m in head_inputs(images)])
    return BackendType(lambda neck, spec: backend)


def _fail(neck: Path, spec: BackendSpec) -> Backend:
    raise RuntimeError("operator 7 is unknown\nand so on")


broken = BackendType(_fail)
