"""The batch size that fits: a line through measured memory, and what to do where it breaks."""

from __future__ import annotations

import pytest
import torch

from models.detector import Detector
from models.model_config import read_model_config
from settings.train import TrainSettings
from tests.conftest import needs_gpu
from training.autobatch import automatic_batch_size, fitted_batch_size, measure
from training.build import build_criterion
from utils.errors import Code, TaskError

GIB = 2**30
LINE = [(size, (1.0 + 0.5 * size) * GIB) for size in (1, 2, 4, 8, 16)]


@pytest.mark.parametrize(
    ("measured", "budget", "failed", "chosen"),
    [
        pytest.param(LINE, 21.4 * GIB, None, 40, id="rounded down"),
        pytest.param(LINE, 3.1 * GIB, None, 4, id="within what was measured"),
        pytest.param(LINE, 0.1 * GIB, None, 1, id="less than the network alone"),
        pytest.param(LINE, 4000 * GIB, None, 1024, id="no more than 1024"),
        pytest.param(LINE[:3], 4.4 * GIB, 8, 6, id="below the size that failed"),
        pytest.param(LINE[:3], 9 * GIB, 8, 4, id="the line promises what has failed"),
        pytest.param(LINE[:1], 9 * GIB, 2, 1, id="only one image went through"),
        pytest.param(LINE[:1], 9 * GIB, None, 1, id="a point is no line"),
        pytest.param([(1, 5.0), (2, 5.0), (4, 5.0)], 9.0, None, 4, id="flat: nothing to go by"),
        pytest.param([(1, 5.0), (2, 4.0), (4, 3.0)], 9.0, None, 4, id="falling: neither"),
    ],
)
def test_fitted_batch_size(
    measured: list[tuple[int, float]], budget: float, failed: int | None, chosen: int
) -> None:
    assert fitted_batch_size(measured, budget, failed=failed) == chosen


def test_measuring_ends_at_the_size_that_runs_out_of_memory() -> None:
    asked = []

    def peak_of(size: int) -> float:
        asked.append(size)
        if size == 8:
            raise torch.cuda.OutOfMemoryError
        return 10.0 * size

    assert measure(peak_of) == ([(1, 10.0), (2, 20.0), (4, 40.0)], 8)
    assert asked == [1, 2, 4, 8]


def chosen_for(device: torch.device, image_size: int) -> tuple[int, Detector]:
    settings = TrainSettings(model="yolov5n", precision="float32")
    network = Detector(read_model_config("yolov5n", nc=2)).to(device).train()
    loss = build_criterion(settings, network, image_size).to(device)
    chosen = automatic_batch_size(network, loss, settings, device, image_size)
    return chosen, network


def test_sixteen_on_a_cpu() -> None:
    assert chosen_for(torch.device("cpu"), 64)[0] == 16


@needs_gpu
def test_on_a_gpu_it_fits_and_leaves_the_network_alone() -> None:
    device = torch.device("cuda")
    random_numbers = torch.cuda.get_rng_state()
    chosen, network = chosen_for(device, 320)
    assert 1 <= chosen <= 1024
    assert all(parameter.grad is None for parameter in network.parameters())
    assert int(network.model[0].bn.num_batches_tracked) == 0
    assert torch.equal(torch.cuda.get_rng_state(), random_numbers)
    torch.cuda.reset_peak_memory_stats()
    sum(level.float().sum() for level in network(torch.rand(chosen, 3, 320, 320, device=device)))
    assert torch.cuda.max_memory_reserved() < torch.cuda.get_device_properties(device).total_memory


@needs_gpu
def test_a_gpu_without_room_for_one_image_ends_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.autobatch.measure", lambda peak_of: ([], 1))
    with pytest.raises(TaskError, match="not even one image") as caught:
        chosen_for(torch.device("cuda"), 64)
    assert caught.value.code == Code.OUT_OF_MEMORY
