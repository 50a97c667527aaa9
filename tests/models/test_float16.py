"""float16 is used where a network's numbers survive it, and the log says where they do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from data.dataset_index import DatasetIndex
from data.instances import Instances
from evaluation.evaluate import evaluate_split
from inference.network import Network, Widened
from inference.predictor import Predictor, PredictorConfig
from mining.registry import ALGORITHMS
from mining.scores import ScoringContext, in_order
from models.detector import Detector
from models.float16 import usable_precision
from models.model_config import read_model_config
from settings.detect import MiningSettings
from tests.conftest import DEVICES
from tests.pretend_gpu import PretendGpu
from utils.device import inference_precision
from utils.errors import Code, TaskError

CUDA = torch.device("cuda", 0)


def detector(factor: float = 1.0) -> Detector:
    """Return a network whose first maps are `factor` times as large as they would be."""
    network = Detector(read_model_config("yolov5n", nc=2)).eval()
    with torch.no_grad():
        network.units[0].bn.weight.mul_(factor)
    return network


@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 0)])
@pytest.mark.parametrize(
    ("factor", "precision"), [(1.0, "float16"), (1e7, "float32")], ids=["fits", "overflows"]
)
def test_a_network_that_overflows_computes_in_float32(
    pretend_gpu: PretendGpu,
    caplog: pytest.LogCaptureFixture,
    capability: tuple[int, int],
    factor: float,
    precision: str,
) -> None:
    pretend_gpu.capability = capability
    chosen = inference_precision(CUDA, "auto")
    network = Network.build(detector(factor), device=CUDA, precision=chosen)
    assert network.precision == precision
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    assert network(images)[1].isfinite().all()
    assert ("float16 does not give this network's numbers" in caplog.text) == (factor > 1)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Nine files; all but the third are dark."""
    names = [str(tmp_path / f"{number}.png") for number in range(9)]
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 40, (64, 64, 3), np.uint8)
        cv2.imwrite(name, 255 - pixels if number == 2 else pixels)
    return names


def bright_overflows() -> Detector:
    """Return a network that computes in float16 until a bright picture comes."""
    network = detector()
    with torch.no_grad():
        first = network.units[0]
        first.conv.weight[0] = 0
        first.conv.weight[0, 1] = 1.4e5 / 36  # the mean of green
        first.bn.weight[0] = 1
        first.bn.bias[0] = -6e4
        for convolution in network.head.m:
            convolution.bias.view(3, -1)[:, 4:] += 5
    return network


def both_formats(**config: Any) -> list[Predictor]:
    """Return predictors in float32 and float16 of one network, for batches of one image."""
    network, predictors = bright_overflows(), []
    for precision in ("float32", "float16"):
        own = {"image_size": 64, "batch_size": 1, "precision": precision, **config}
        predictors.append(
            Predictor.build(network, ("a", "b"), device=CUDA, config=PredictorConfig(**own))
        )
        assert predictors[-1].network.precision == precision
    return predictors


@pytest.mark.parametrize(
    "config", [{}, {"augment": True}, {"batch_size": 2}], ids=["plain", "augment", "graphs"]
)
def test_a_batch_that_leaves_the_range_is_computed_again(
    pretend_gpu: PretendGpu, paths: list[str], caplog: pytest.LogCaptureFixture, config: Any
) -> None:
    """Nothing else comes out of a stream; what follows is computed in float32 too."""
    found = [
        [one.detections for one in predictor.stream(paths)] for predictor in both_formats(**config)
    ]
    assert caplog.text.count("computing in float32 from here on") == 1
    for position, (own, other) in enumerate(zip(*found, strict=True)):
        assert abs(own[0, 4] - other[0, 4]) < 0.05
        # A batch is launched before that before it is fetched.
        assert position in (0, 1, 3, 4, 5) or np.array_equal(own, other)


@pytest.mark.parametrize("algorithm", ["cald", "aldd", "misses", "diverse"])
def test_mining_looks_again_in_float32(
    pretend_gpu: PretendGpu, paths: list[str], caplog: pytest.LogCaptureFixture, algorithm: str
) -> None:
    settings = MiningSettings(mining_algorithm=algorithm, batch_size=1, workers=1)
    wide, narrow = both_formats()
    scores = []
    for predictor in (wide, narrow):
        context, how = ScoringContext(predictor, settings, len(paths)), ALGORITHMS[algorithm]
        shown = wide.stream_tiles(paths, keep_inputs=True, keep_confidence=how.confidence)
        scores.append(in_order(how.rank(how.score(shown, context), context), paths))
    assert caplog.text.count("computing in float32 from here on") == 1
    for place, ((_, own), (_, other)) in enumerate(zip(*scores, strict=True)):
        assert np.isfinite(other)
        assert place < 2 or own == pytest.approx(other, rel=1e-6) or algorithm == "diverse"


def test_evaluation_looks_again_in_float32(
    pretend_gpu: PretendGpu, paths: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    boxes = Instances(np.tile([8.0, 8, 40, 40], (9, 1)), np.zeros(9, np.int64))
    index = DatasetIndex.build(paths, [(64, 64)] * 9, boxes, [1] * 9, ("a", "b"))
    found: list[dict[int, np.ndarray]] = [{}, {}]
    for predictor, own in zip(both_formats(workers=0), found, strict=True):
        evaluate_split(predictor, index, on_image=own.__setitem__)
    assert caplog.text.count("computing in float32 from here on") == 1
    assert len(found[0][2])
    for position in (2, 6, 7, 8):
        assert np.array_equal(found[0][position], found[1][position])


@pytest.mark.parametrize("device", DEVICES)
def test_output_that_is_no_number_in_float32_either_ends_with_a_code(device: str) -> None:
    """On a CPU too, which never chooses float16."""
    built = Network.build(detector(), device=torch.device(device), precision="float32")
    network = replace(built, precision="float16", widened=Widened())
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)

    def is_broken(rows: torch.Tensor) -> bool:
        return not bool(rows.isfinite().all())

    expected = network.in_range(lambda: network(images)[1], is_broken)
    assert network.widened.network is None
    assert expected.isfinite().all()
    network.compiled.units[1].conv.bias.fill_(torch.inf)
    network.detector.units[1].conv.bias.fill_(torch.inf)
    with pytest.raises(TaskError, match="in float32 neither") as caught:
        network.in_range(lambda: network(images)[1], is_broken)
    assert caught.value.code == Code.NOT_A_NUMBER


def test_other_precisions_are_not_tried(caplog: pytest.LogCaptureFixture) -> None:
    network = detector(1e7)
    for precision in ("auto", "float32", "bfloat16"):
        assert usable_precision(network, precision) == precision
    assert not caplog.text
    assert usable_precision(network, "float16") == "float32"
    assert "needs a GPU" in caplog.text
