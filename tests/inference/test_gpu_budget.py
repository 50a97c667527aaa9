"""What inference may ask of a GPU, counted on a pretended one; and that a GPU finds the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from inference.graphs import MAX_GRAPHS, Graphs
from inference.network import Network
from inference.predictor import Predictor, PredictorConfig
from models.detector import Detector
from models.model_config import read_model_config
from ops import suppression
from ops.nms import NmsConfig
from ops.tiling import Tiling
from tests.conftest import needs_gpu
from tests.pretend_gpu import PretendGpu
from utils.cuda_graphs import Work
from utils.device import autocast

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture(scope="module")
def detector() -> Detector:
    """A detector that finds something wherever it looks."""
    torch.manual_seed(0)
    made = Detector(read_model_config("yolov5n", nc=3))
    with torch.no_grad():
        for convolution in made.head.m:
            convolution.bias.view(3, -1)[:, 4:] += 5
            convolution.weight *= 30
    return made


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """32 files of one size, and one that is no image."""
    folder, numbers = tmp_path_factory.mktemp("batch"), np.random.default_rng(0)
    names = [str(folder / f"{number}.png") for number in range(33)]
    for name in names:
        cv2.imwrite(name, numbers.integers(0, 255, (60, 90, 3), np.uint8))
    Path(names[7]).write_text("no image")
    return names


def predictor_on(device: torch.device, detector: Detector, **config: Any) -> Predictor:
    own = PredictorConfig(**{"image_size": 96, "batch_size": 32, "precision": "float32", **config})
    return Predictor.build(detector, ["a", "b", "c"], device=device, config=own)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_forward_pass(pretend_gpu: PretendGpu, precision: str) -> None:
    """Decoding included; the same numbers as of weights that autocast casts at every call."""
    network = Network.build(
        Detector(read_model_config("yolov5n", nc=3)), device=CUDA, precision=precision
    )
    network = replace(network, graphs=None)
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


def test_a_batch_from_files_to_rows(
    pretend_gpu: PretendGpu, detector: Detector, paths: list[str]
) -> None:
    """The forward pass is one launch of them; the host waits for the detections alone."""
    predictor = predictor_on(CUDA, detector, nms=NmsConfig(iou=0.6))
    for _ in range(2):  # the second time the pass is recorded
        list(predictor.stream(paths))
    with pretend_gpu.watch() as seen:
        found = list(predictor.stream(paths))
    assert sum(len(one.detections) for one in found) > 500
    seen.assert_within(60, 2)
    assert set(seen.bytes) == {"h2d async", "d2h async"}, seen.report()
    assert seen.copies.total() == 2


@needs_gpu
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"batch_size": 5, "nms": NmsConfig(0.6, 0.2, 7)},
        {"single_class": True},
        {"augment": True},
        {"tiling": Tiling(48)},
        {"nms": NmsConfig(classes=(1,), class_agnostic=True)},
    ],
    ids=["plain", "small batches", "one class", "augment", "tiles", "classes"],
)
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_gpu_finds_what_the_cpu_finds(
    detector: Detector, paths: list[str], config: dict[str, Any], multi_label: bool
) -> None:
    ours, theirs = (
        sorted(
            predictor_on(device, detector, **{"batch_size": 4, **config}).stream(
                paths[:12], multi_label=multi_label
            ),
            key=lambda one: one.position,
        )
        for device in (CPU, CUDA)
    )
    assert sum(len(one.detections) for one in ours) > 40
    for own, other in zip(ours, theirs, strict=True):
        assert replace(own, detections=other.detections) == other
        np.testing.assert_allclose(own.detections, other.detections, rtol=1e-3, atol=1e-2)


@needs_gpu
@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("rounds", [suppression.ROUNDS, 2], ids=["sure", "not sure"])
def test_inputs_kept_on_a_gpu(
    detector: Detector,
    paths: list[str],
    augment: bool,
    rounds: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mining goes on with these, on the device; their rows reach down to another confidence."""
    monkeypatch.setattr(suppression, "ROUNDS", rounds)
    nms = NmsConfig(0.7)
    ours, theirs = (
        list(
            predictor_on(device, detector, augment=augment, nms=nms, batch_size=4).stream_tiles(
                paths[:7], keep_inputs=True, keep_confidence=0.3
            )
        )
        for device in (CPU, CUDA)
    )
    for own, other in zip(ours, theirs, strict=True):
        first, second = own.network_input, other.network_input
        assert first is not None
        assert second is not None
        assert torch.equal(first.image, second.image.cpu())
        assert second.rows.device.type == "cuda"
        assert len(first.rows) > len(own.detections) > 0
        torch.testing.assert_close(first.rows, second.rows.cpu(), rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(
            *(first.class_probabilities, second.class_probabilities.cpu()), rtol=1e-3, atol=1e-3
        )


def test_a_graph_is_replayed_from_the_second_batch_of_a_shape_on(
    pretend_gpu: PretendGpu, detector: Detector
) -> None:
    plain = Network.build(detector, device=CUDA, precision="float32")
    network, plain = plain, replace(plain, graphs=None)
    batches = [torch.randint(256, (2, 3, 64, side)).byte() for side in (64, 96, 64, 64, 96)]
    batches = [batch.to(CUDA) for batch in batches]
    outputs, launched = [], []
    for batch in batches:
        with pretend_gpu.watch() as seen:
            outputs.append(network(batch))
        launched.append(seen.dispatches["graph"])
    assert launched == [0, 0, 1, 1, 1]
    with pretend_gpu.watch() as seen:
        network.rows(batches[0])
    seen.assert_within(3)
    for batch, (levels, rows) in zip(batches, outputs, strict=True):
        own_levels, own_rows = plain(batch)
        assert torch.equal(rows.cpu(), own_rows.cpu()), "a later replay must not change it"
        for level, own in zip(levels, own_levels, strict=True):
            assert torch.equal(level.cpu(), own.cpu())
    assert torch.equal(network.rows(batches[0]).cpu(), outputs[0][1].cpu())


class Recorder:
    """Records nothing: a replay is the work itself; or it refuses, as CUDA may."""

    def __init__(self, error: str = "") -> None:
        self.error, self.recorded = error, 0

    def warm_up(self, work: Work) -> None:
        work()

    def record(self, work: Work) -> Work:
        self.recorded += 1
        if self.error:
            raise RuntimeError(self.error)
        return lambda: None


def test_shapes_with_a_graph_are_few() -> None:
    recorder = Recorder()
    graphs = Graphs(lambda images: ([], images + 1), recorder)
    for _ in range(3):
        for side in range(1, MAX_GRAPHS + 3):
            assert graphs(torch.zeros(1, 3, side, side))[1].eq(1).all()
    assert recorder.recorded == MAX_GRAPHS


def test_where_cuda_records_nothing_passes_go_on_without(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder("operation not permitted when stream is capturing\nlong text")
    graphs = Graphs(lambda images: ([images], images + 1), recorder)
    with caplog.at_level("INFO"):
        results = [graphs(torch.zeros(1, 3, 8, 8), maps=False) for _ in range(4)]
    assert recorder.recorded == 1
    assert all(rows.eq(1).all() and not maps for maps, rows in results)
    assert caplog.text.count("without CUDA graphs (operation not permitted") == 1
    assert "long text" not in caplog.text
