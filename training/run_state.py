"""A training between two epochs as one file: all that the next epoch depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from evaluation.confusion_matrix import ConfusionMatrix
from evaluation.evaluator import CountsAtThreshold, Evaluation
from evaluation.metrics import ClassMetrics, Scores
from models.detector import Detector
from training.checkpoints import Saved
from training.ema import ModelEMA
from training.optimizer import OptimizerStep
from training.plain_values import from_plain, to_plain
from utils.atomic import replace_file
from utils.errors import Code, TaskError
from utils.seeding import random_state, restore_random_state

FORMAT = "ymir-yolov5 training"
VERSION = 1
CLASSES = (Evaluation, Scores, ClassMetrics, ConfusionMatrix, CountsAtThreshold, Saved)
"""What a state may hold beside plain values: how good the kept weights are."""


@dataclass(frozen=True)
class RunState:
    """Where a training stands after `epoch` (from 0).

    `identity` says whose it is, `rows` are the lines of results.csv, `stages` the kept weights
    with their files. `parts` holds network, average, optimiser and random numbers; a training
    that is over needs them no more and has None.
    """

    epoch: int
    identity: dict[str, object]
    batch_size: int
    rows: list[list[float]]
    stages: list[Saved]
    parts: dict[str, Any] | None = None


def split_into_tiles(
    network: Detector, average: ModelEMA[Detector], stepper: OptimizerStep
) -> dict[str, object]:
    """What changes while learning, as live tensors: write it before the next step."""
    return {
        "network": network.state_dict(),
        "average": average.module.state_dict(),
        "updates": average.updates,
        "stepper": stepper.state(),
        "random": random_state(),
    }


def load_network(network: Detector, state: RunState) -> None:
    """Give `network` the weights and statistics of a state."""
    assert state.parts is not None
    _load(network, state.parts["network"])


def restore(state: RunState, *, average: ModelEMA[Detector], stepper: OptimizerStep) -> None:
    """Put average, optimiser and random numbers where they stood; the network comes before."""
    assert state.parts is not None
    _load(average.module, state.parts["average"])
    average.updates = state.parts["updates"]
    stepper.load_state(state.parts["stepper"])
    restore_random_state(state.parts["random"])


def _load(network: Detector, tensors: Mapping[str, Any]) -> None:
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise TaskError(
            Code.MODEL,
            "the saved training is of another network than the settings describe: start it anew "
            "with resume=never.",
        ) from error


def write_run_state(path: Path, state: RunState) -> None:
    """Write a state in one step; it opens with `torch.load(weights_only=True)`."""
    lean = replace(state, stages=[_without_detections(saved) for saved in state.stages])
    content = {
        "format": FORMAT,
        "version": VERSION,
        **{name: to_plain(value, CLASSES) for name, value in vars(lean).items()},
    }
    with replace_file(path) as temporary:
        torch.save(content, temporary)


def _without_detections(saved: Saved) -> Saved:
    """A stage without its pictures' boxes, which are many and can be found again."""
    return replace(saved, evaluation=replace(saved.evaluation, detections={}))


def read_run_state(path: Path) -> RunState:
    """Read a state, its tensors on the CPU.

    Raises TaskError(MODEL) when the file is damaged, of another kind or of another version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("format") != FORMAT or content.pop("version") != VERSION:
            raise ValueError("another format")
        values: dict[str, Any] = {
            name: from_plain(value, CLASSES) for name, value in content.items()
        }
        state = RunState(**values)
        stages = [_with_paths(one) for one in state.stages]
    # What a damaged or foreign file may lead to; torch itself raises whatever its reader met.
    except Exception as error:
        raise TaskError(
            Code.MODEL,
            f"{path} is not a training that this version can go on with ({type(error).__name__}).",
        ) from error
    return RunState(**{**vars(state), "stages": stages})


def _with_paths(saved: Saved) -> Saved:
    files = tuple(Path(file) for file in saved.files)
    return Saved(**{**vars(saved), "files": files})
