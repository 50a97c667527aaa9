"""The file of a training between two epochs: whole, safe to open, refused when it is another's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.evaluate import no_evaluation
from models.detector import Detector
from models.model_config import read_model_config
from training.checkpoints import Saved
from training.ema import ModelEMA
from training.optimizer import OptimizerStep, build_optimizer
from training.run_state import (
    RunState,
    load_network,
    read_run_state,
    restore,
    split_into_tiles,
    write_run_state,
)
from utils.errors import Code, TaskError


def trained_a_little(seed: int) -> tuple[Detector, ModelEMA[Detector], OptimizerStep]:
    torch.manual_seed(seed)
    network = Detector(read_model_config("yolov5n", nc=1)).to(memory_format=torch.channels_last)
    average = ModelEMA(network)
    optimizer = build_optimizer(network, lr=0.01, momentum=0.9, weight_decay=0.0)
    stepper = OptimizerStep(optimizer)
    stepper.accumulate = 2
    for number in range(seed):
        images = torch.rand(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
        if stepper.backward_and_step(sum(level.square().mean() for level in network(images))):
            average.update(network)
        assert number < 5
    return network, average, stepper


def state_of(network: Detector, average: ModelEMA[Detector], stepper: OptimizerStep) -> RunState:
    evaluation = no_evaluation(2)
    evaluation.confusion.matrix[0, 1] = 4
    return RunState(
        epoch=4,
        identity={"settings": {"freeze": (1, 2), "lr0": 0.1}},
        batch_size=16,
        rows=[[0, 0.1 + 0.2], [1, float("nan")]],
        stages=[Saved("best", (Path("best") / "best.pt",), 3, evaluation)],
        parts=split_into_tiles(network, average, stepper),
    )


def test_there_and_back(tmp_path: Path) -> None:
    """Three batches with two a step: one step behind, one gradient waiting."""
    network, average, stepper = trained_a_little(3)
    written = state_of(network, average, stepper)
    write_run_state(tmp_path / "last.state", written)
    assert isinstance(torch.load(tmp_path / "last.state", weights_only=True), dict)
    read = read_run_state(tmp_path / "last.state")
    assert (read.epoch, read.identity, read.batch_size) == (4, written.identity, 16)
    np.testing.assert_array_equal(read.rows, written.rows)
    assert read.stages[0].files == written.stages[0].files
    assert read.stages[0].evaluation.scores == written.stages[0].evaluation.scores
    assert read.stages[0].evaluation.confusion.matrix[0, 1] == 4

    other, follower, other_stepper = trained_a_little(0)
    load_network(other, read)
    restore(read, average=follower, stepper=other_stepper)
    for mine, theirs in ((network, other), (average.module, follower.module)):
        for key, tensor in mine.state_dict().items():
            assert torch.equal(tensor, theirs.state_dict()[key]), key
    assert follower.updates == average.updates == 1
    assert other_stepper.pending == stepper.pending == 1
    for parameter, counterpart in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(parameter.grad, counterpart.grad)
        assert counterpart.grad.stride() == counterpart.stride()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no such file format", id="not torch's"),
        pytest.param({"format": "ymir-yolov5", "version": 1}, id="a checkpoint"),
        pytest.param({"format": "ymir-yolov5 training", "version": 99}, id="another version"),
        pytest.param({"format": "ymir-yolov5 training", "version": 1, "epoch": 3}, id="half"),
        pytest.param([1, 2], id="a list"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "last.state"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(TaskError, match=r"last\.state is not a training") as caught:
        read_run_state(path)
    assert caught.value.code == Code.MODEL


def test_parts_of_another_network_are_refused() -> None:
    state = state_of(*trained_a_little(0))
    with pytest.raises(TaskError, match="of another network"):
        load_network(Detector(read_model_config("yolov5s", nc=1)), state)
