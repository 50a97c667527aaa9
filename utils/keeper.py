"""Keeps the best and the last weights of a training on disk, each complete or absent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.checkpoint import Checkpoint, save_checkpoint
from val import Evaluation


@dataclass(frozen=True)
class Saved:
    """Weights that are complete on disk, and how good they are."""

    stage: str
    """`best` or `last`."""
    files: tuple[Path, ...]
    epoch: int
    evaluation: Evaluation


class Keeper:
    """Saves after every epoch and tells `on_saved` once the file is whole.

    `best` is rewritten when the fitness rises (an equal fitness is no improvement), `last`
    always. `stage_folder` gives the folder of a stage by its name.
    """

    def __init__(
        self, stage_folder: Callable[[str], Path], on_saved: Callable[[Saved], None]
    ) -> None:
        self._stage_folder = stage_folder
        self._on_saved = on_saved
        self.best: Saved | None = None

    def keep(self, checkpoint: Checkpoint, epoch: int, evaluation: Evaluation) -> bool:
        """Save one epoch's weights; True when they are the best so far."""
        improved = (
            self.best is None or evaluation.scores.fitness > self.best.evaluation.scores.fitness
        )
        if improved:
            self.best = self._save("best", checkpoint, epoch, evaluation)
        self._save("last", checkpoint, epoch, evaluation)
        return improved

    def add_to_best(self, *files: Path) -> Saved:
        """Report further files of the best stage (an export) now that they exist."""
        assert self.best is not None
        self.best = Saved("best", (*self.best.files, *files), self.best.epoch, self.best.evaluation)
        self._on_saved(self.best)
        return self.best

    def _save(
        self, stage: str, checkpoint: Checkpoint, epoch: int, evaluation: Evaluation
    ) -> Saved:
        path = self._stage_folder(stage) / f"{stage}.pt"
        save_checkpoint(path, checkpoint)
        saved = Saved(stage, (path,), epoch, evaluation)
        self._on_saved(saved)
        return saved
