"""Checkpoints of a training: best, last and periodic ones, each complete on disk or absent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.evaluator import Evaluation
from models.checkpoint import Checkpoint, save_checkpoint

MAX_PERIODIC = 9
"""Periodic checkpoints kept: with best and last as many stages as the platform lists."""


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint that is complete on disk, and its evaluation."""

    stage: str
    """`best`, `last`, or `epoch<number>` with `save_period`."""
    files: tuple[Path, ...]
    epoch: int
    evaluation: Evaluation
    evaluated: bool = True
    """False if it has not been evaluated (`noval`): the figures are zeros then."""
    replaces: str = ""
    """A stage that is deleted after this one is reported: list it no longer."""


class ModelCheckpoint:
    """Save checkpoints after every epoch and call `on_saved` once a file is complete.

    `best` is rewritten when the fitness rises (an equal fitness is no improvement), or as long as
    nothing has been evaluated; `last` always. With a `period` of n, every n-th epoch from the
    first on becomes a stage of its own, of which the latest nine stay. `stage_folder` maps a stage
    to its folder. If `deferred`, best and last wait in memory for `write_deferred`, and there are
    no other stages.
    """

    def __init__(
        self,
        stage_folder: Callable[[str], Path],
        on_saved: Callable[[SavedCheckpoint], None],
        *,
        period: int = -1,
        deferred: bool = False,
    ) -> None:
        self._stage_folder = stage_folder
        self._on_saved = on_saved
        self._period = period
        self._defers = deferred
        self._deferred: dict[str, Checkpoint] = {}
        self.stages: dict[str, SavedCheckpoint] = {}

    @property
    def best(self) -> SavedCheckpoint | None:
        """The best checkpoint so far; None before the first epoch is over."""
        return self.stages.get("best")

    def save(
        self, checkpoint: Checkpoint, epoch: int, evaluation: Evaluation, *, evaluated: bool = True
    ) -> bool:
        """Save the weights of an epoch; return whether they are the best so far."""
        improved = (
            self.best is None
            or not self.best.evaluated
            or evaluation.scores.fitness > self.best.evaluation.scores.fitness
        )
        names = ["best"] * improved + ["last"]
        if self._period > 0 and epoch % self._period == 0 and not self._defers:
            names.append(f"epoch{epoch}")
        for name in names:
            path = self._stage_folder(name) / f"{name}.pt"
            saved = SavedCheckpoint(name, (path,), epoch, evaluation, evaluated)
            if self._defers:
                self._deferred[name], self.stages[name] = checkpoint, saved
            else:
                save_checkpoint(path, checkpoint)
                self._report(saved)
        return improved

    def write_deferred(self) -> None:
        """Write the checkpoints that wait in memory."""
        for name in list(self._deferred):
            saved = self.stages[name]
            save_checkpoint(saved.files[0], self._deferred.pop(name))
            self._report(saved)

    def restore(self, stages: Iterable[SavedCheckpoint]) -> None:
        """Take over the stages of an earlier run of this training; report each."""
        for saved in stages:
            self._report(saved)

    def add_to_best(self, *files: Path) -> SavedCheckpoint:
        """Report further files of the best stage (exports)."""
        best = self.best
        assert best is not None
        best = replace(best, files=tuple(dict.fromkeys((*best.files, *files))))
        self._report(best)
        return best

    def _report(self, saved: SavedCheckpoint) -> None:
        self.stages[saved.stage] = saved
        periodic = [one for name, one in self.stages.items() if name not in ("best", "last")]
        if len(periodic) <= MAX_PERIODIC:
            self._on_saved(saved)
            return
        oldest = min(periodic, key=lambda one: one.epoch)
        self._on_saved(replace(saved, replaces=oldest.stage))
        del self.stages[oldest.stage]
        for path in oldest.files:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # the folder is shared, so not empty
            self._stage_folder(oldest.stage).rmdir()
