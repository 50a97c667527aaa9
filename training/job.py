"""The description of one training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from data.dataset_index import DatasetIndex
from data.report import DataReport
from settings.train import TrainSettings
from training.checkpoints import SavedCheckpoint
from utils.distributed import SINGLE_PROCESS, DistContext


@dataclass(frozen=True)
class TrainingJob:
    """One training: its data, settings and starting weights, and where the results go."""

    settings: TrainSettings
    train: DatasetIndex
    validation: DatasetIndex
    device: torch.device
    folder: Path
    """For results.csv and figures."""
    stage_folder: Callable[[str], Path]
    """Folder of a stage's checkpoint, by the stage's name."""
    on_saved: Callable[[SavedCheckpoint], None] = lambda saved: None
    """Called when a checkpoint is complete on disk, before the next step can fail."""
    tensorboard: Path | None = None
    weights: Path | None = None
    """A checkpoint to start from; None trains from scratch."""
    reports: Sequence[DataReport] = ()
    """Findings of reading `train` and `validation`, for the report."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Original names of image files by path, where a platform renamed them, for the report."""
    command: str = ""
    """The command that runs this training once more, for the report."""
    recovers: bool = True
    """Whether a loss that is not a number lowers the rates once, before it ends the training."""
    processes: DistContext = SINGLE_PROCESS
    """The ranks that train together; all have the same job but for the device."""

    def of_one_class(self) -> TrainingJob:
        """Return the job with all classes taken for one if `single_cls` is set."""
        if not self.settings.single_cls:
            return self
        return replace(
            self, train=self.train.single_class(), validation=self.validation.single_class()
        )

    def is_evaluated(self, epoch: int) -> bool:
        """Return whether the weights are evaluated after an epoch (from 0)."""
        return not self.settings.noval or epoch + 1 == self.settings.epochs

    @property
    def state_file(self) -> Path:
        """The file that a stopped training resumes from, beside the last checkpoint."""
        return self.stage_folder("last") / "last.state"
