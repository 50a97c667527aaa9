"""float16 is used where a network's numbers survive it, and the log says where they do not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from inference.network import Network
from inference.predictor import Predictor, PredictorConfig
from models.detector import Detector
from models.float16 import usable_precision
from models.model_config import read_model_config
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


def test_values_that_leave_the_range_later_end_a_stream_with_a_sentence(
    pretend_gpu: PretendGpu, tmp_path: Path
) -> None:
    path = str(tmp_path / "one.png")
    cv2.imwrite(path, np.full((64, 64, 3), 200, np.uint8))
    config = PredictorConfig(image_size=64, precision="float16")
    predictor = Predictor.build(detector(), ("a", "b"), device=CUDA, config=config)
    assert len(list(predictor.stream([path]))) == 1
    predictor.network.compiled.units[1].conv.bias.fill_(torch.inf)
    with pytest.raises(TaskError, match="set precision to float32") as caught:
        list(predictor.stream([path]))
    assert caught.value.code == Code.NOT_A_NUMBER


def test_other_precisions_are_not_tried(caplog: pytest.LogCaptureFixture) -> None:
    network = detector(1e7)
    for precision in ("auto", "float32", "bfloat16"):
        assert usable_precision(network, precision) == precision
    assert not caplog.text
    assert usable_precision(network, "float16") == "float32"
    assert "needs a GPU" in caplog.text
