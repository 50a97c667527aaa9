"""Frozen types of a YMIR task: what to run, on which data, where results belong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from settings.detect import InferSettings, MiningSettings
from settings.train import TrainSettings

STAGES_IN_FOLDERS = (1, 1, 0)
STAGES = (1, 0, 0)


@dataclass(frozen=True)
class OutputPaths:
    """Paths of the result files; `root` is `/out` on the platform."""

    root: Path
    models: Path
    tensorboard: Path
    training_result: Path
    mining_result: Path
    infer_result: Path
    monitor: Path


@dataclass(frozen=True)
class Task:
    """A validated task: what to run, on which data, with which settings.

    protocol: (0, 0, 0) where the platform states none. gpu_ids: container-local, empty for the CPU.
    weights: the usable files handed in, the preferred one first; empty only in training, for a
    start from random weights, and in mining that needs no network. class_names may be
    empty in mining and inference: then the checkpoint's names count. Settings are None for what is
    not asked. warnings: sentences to show.
    """

    task_id: str
    protocol: tuple[int, int, int]
    run_training: bool
    run_mining: bool
    run_infer: bool
    class_names: tuple[str, ...]
    gpu_ids: tuple[int, ...]
    root_in: Path
    models_in: Path
    train_index: Path | None
    val_index: Path | None
    candidate_index: Path | None
    out: OutputPaths
    weights: tuple[Path, ...]
    train: TrainSettings | None
    mining: MiningSettings | None
    infer: InferSettings | None
    warnings: tuple[str, ...]

    @property
    def needs_network(self) -> bool:
        """Whether a forward pass is needed, and so weights and the device."""
        if self.run_training or self.run_infer or self.mining is None:
            return True
        return self.mining.needs_network


def stage_folder(task: Task, stage: str) -> Path:
    """Return the folder of a model stage: its own from protocol 1.1.0 on, a common one before.

    In the common folder file names must differ between stages.
    """
    return task.out.models / stage if task.protocol >= STAGES_IN_FOLDERS else task.out.models
