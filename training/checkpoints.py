"""Keeps the weights of a training on disk stage by stage, each complete or absent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.evaluator import Evaluation
from models.checkpoint import Checkpoint, save_checkpoint

PERIODIC_KEPT = 9
"""Stages of single epochs kept: with best and last as many as the platform's result lists."""


@dataclass(frozen=True)
class Saved:
    """Weights that are complete on disk, and how good they are."""

    stage: str
    """`best`, `last`, or `epoch<number>` with `save_period`."""
    files: tuple[Path, ...]
    epoch: int
    evaluation: Evaluation
    evaluated: bool = True
    """False when nobody has looked yet (`noval`): the figures are zeros then."""
    replaces: str = ""
    """An older stage that goes once this one is reported: list it no longer."""


class ModelCheckpoint:
    """Saves after every epoch and tells `on_saved` once the file is whole.

    `best` is rewritten when the fitness rises (an equal fitness is no improvement), or as long as
    nothing has been evaluated; `last` always. With a `period` of n, every n-th epoch from the
    first on becomes a stage of its own, of which the latest nine stay. `stage_folder` gives the
    folder of a stage by its name. With `hold`, best and last wait in memory for `write_held`, and
    there are no other stages.
    """

    def __init__(
        self,
        stage_folder: Callable[[str], Path],
        on_saved: Callable[[Saved], None],
        *,
        period: int = -1,
        hold: bool = False,
    ) -> None:
        self._stage_folder = stage_folder
        self._on_saved = on_saved
        self._period = period
        self._hold = hold
        self._held: dict[str, Checkpoint] = {}
        self.stages: dict[str, Saved] = {}

    @property
    def best(self) -> Saved | None:
        """The best weights so far; None before the first epoch is over."""
        return self.stages.get("best")

    def keep(
        self, checkpoint: Checkpoint, epoch: int, evaluation: Evaluation, *, evaluated: bool = True
    ) -> bool:
        """Save one epoch's weights; True when they are the best so far."""
        improved = (
            self.best is None
            or not self.best.evaluated
            or evaluation.scores.fitness > self.best.evaluation.scores.fitness
        )
        names = ["best"] * improved + ["last"]
        if self._period > 0 and epoch % self._period == 0 and not self._hold:
            names.append(f"epoch{epoch}")
        for name in names:
            path = self._stage_folder(name) / f"{name}.pt"
            saved = Saved(name, (path,), epoch, evaluation, evaluated)
            if self._hold:
                self._held[name], self.stages[name] = checkpoint, saved
            else:
                save_checkpoint(path, checkpoint)
                self._report(saved)
        return improved

    def write_held(self) -> None:
        """Write what waits in memory, and report it."""
        for name in list(self._held):
            saved = self.stages[name]
            save_checkpoint(saved.files[0], self._held.pop(name))
            self._report(saved)

    def restore(self, stages: Iterable[Saved]) -> None:
        """Take over stages whose files an earlier run of this training has left; report each."""
        for saved in stages:
            self._report(saved)

    def add_to_best(self, *files: Path) -> Saved:
        """Report further files of the best stage (an export) now that they exist."""
        best = self.best
        assert best is not None
        best = replace(best, files=tuple(dict.fromkeys((*best.files, *files))))
        self._report(best)
        return best

    def _report(self, saved: Saved) -> None:
        self.stages[saved.stage] = saved
        oldest = self._one_too_many()
        self._on_saved(replace(saved, replaces=oldest.stage) if oldest else saved)
        if oldest:
            del self.stages[oldest.stage]
            for path in oldest.files:
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # the folder is shared, so not empty
                self._stage_folder(oldest.stage).rmdir()

    def _one_too_many(self) -> Saved | None:
        periodic = [one for name, one in self.stages.items() if name not in ("best", "last")]
        if len(periodic) <= PERIODIC_KEPT:
            return None
        return min(periodic, key=lambda one: one.epoch)
