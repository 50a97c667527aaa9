"""What one training is: what to learn from, with which settings, and where the results go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from data.dataset_index import DatasetIndex
from data.report import DataReport
from settings.train import TrainSettings
from training.checkpoints import Saved
from utils.distributed import SINGLE_PROCESS, DistContext


@dataclass(frozen=True)
class TrainingJob:
    """One training: what to learn from, with which settings, and where the results go."""

    settings: TrainSettings
    train: DatasetIndex
    validation: DatasetIndex
    device: torch.device
    folder: Path
    """For results.csv and pictures."""
    stage_folder: Callable[[str], Path]
    """Folder of a stage's weights, by its name."""
    on_saved: Callable[[Saved], None]
    """Told after each file is whole: the caller reports it before the next step can fail."""
    tensorboard: Path | None = None
    weights: Path | None = None
    """A checkpoint to start from; None trains from scratch."""
    reports: Sequence[DataReport] = ()
    """What reading `train` and `validation` found, for the page."""
    processes: DistContext = SINGLE_PROCESS
    """Who trains together; all have the same job but for the device."""

    def of_one_class(self) -> TrainingJob:
        """The job with all classes taken for one, if the settings ask for that."""
        if not self.settings.single_cls:
            return self
        return replace(
            self, train=self.train.single_class(), validation=self.validation.single_class()
        )

    @property
    def state_file(self) -> Path:
        """Where the training leaves what it needs to go on, beside the last weights."""
        return self.stage_folder("last") / "last.state"
