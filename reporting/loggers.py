"""MLflow and Weights & Biases, offline: their files in the output folder, nothing is sent.

Their epochs, steps and `best/epoch`, count from 1, as those of the log and the pages do.
Neither is asked for its package before the setting `loggers` names it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from evaluation.evaluator import Evaluation
from reporting.callbacks import Callback, EpochResult
from settings.rules import as_text
from utils.errors import first_line, optional_package

log = logging.getLogger(__name__)

PROJECT = "yolov5"
LONGEST_VALUE = 500
"""Characters of a setting's value that MLflow stores."""


class OfflineLogger(Callback):
    """A logger of another package, as a context manager.

    What that package raises once it has begun is told once, and ends its curves only.
    """

    name = ""
    packages: tuple[str, ...] = ()
    """What is imported; the first is the logger itself."""

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        """Begin a run in `folder`. Raise TaskError(CONFIG) if a package is missing."""
        purpose = f"the setting loggers: {self.name}"
        self._package, *_ = (optional_package(one, purpose=purpose) for one in self.packages)
        self._works = True
        values = {key: as_text(value) for key, value in settings.items()}
        self._try(lambda: self.begin(folder.absolute(), values))

    def __enter__(self) -> OfflineLogger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._try(lambda: self.close(failed=kind is not None))

    def on_epoch_end(self, result: EpochResult) -> None:
        """Add one point to each curve of `results.csv`."""
        self._try(lambda: self.add(result.named, result.epoch + 1))

    def on_train_end(self, epoch: int, evaluation: Evaluation, files: Sequence[Path]) -> None:
        """Add the figures of the best weights."""
        scores = evaluation.scores
        figures = {
            "best/epoch": epoch + 1,
            "best/precision": scores.precision,
            "best/recall": scores.recall,
            "best/mAP_0.5": scores.map50,
            "best/mAP_0.5:0.95": scores.map50_95,
        }
        self._try(lambda: self.summarise(figures, epoch + 1))

    def begin(self, folder: Path, settings: Mapping[str, str]) -> None:
        """Make the run that everything is added to."""
        raise NotImplementedError

    def add(self, values: Mapping[str, float], epoch: int) -> None:
        """Add one point per curve; epochs count from 1."""
        raise NotImplementedError

    def summarise(self, figures: Mapping[str, float], epoch: int) -> None:
        """Add figures of the whole training; `epoch` is that of the best weights, from 1."""
        raise NotImplementedError

    def close(self, *, failed: bool) -> None:
        """Complete the files."""
        raise NotImplementedError

    def _try(self, write: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            write()
        except Exception as error:  # of the other package: a training is not lost to it
            self._works = False
            log.warning("no more curves for %s: %s", self.name, first_line(error))


class MlflowLogger(OfflineLogger):
    """Write a run to `mlflow/mlflow.db` in a folder."""

    name = "mlflow"
    packages = ("mlflow", "sqlalchemy")  # which mlflow-skinny leaves out

    def begin(self, folder: Path, settings: Mapping[str, str]) -> None:
        """Make a run with the settings as its parameters."""
        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        place = folder / "mlflow"
        place.mkdir(parents=True, exist_ok=True)
        # Not its tracking server, which a variable of the environment may name.
        self._client = self._package.MlflowClient(tracking_uri=f"sqlite:///{place / 'mlflow.db'}")
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = (
            found.experiment_id
            if found
            else self._client.create_experiment(PROJECT, artifact_location=place.as_uri())
        )
        self._run = self._client.create_run(experiment, run_name=folder.name).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._run, key, value[:LONGEST_VALUE])

    def add(self, values: Mapping[str, float], epoch: int) -> None:
        """Add one point per curve."""
        for key, value in values.items():
            # Older versions refuse a colon.
            self._client.log_metric(self._run, key.replace(":", "-"), value, step=epoch)

    def summarise(self, figures: Mapping[str, float], epoch: int) -> None:
        """Add figures as metrics of one point."""
        self.add(figures, epoch)

    def close(self, *, failed: bool) -> None:
        """Say how the run ended."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


class WandbLogger(OfflineLogger):
    """Write an offline run to `wandb` in a folder."""

    name = "wandb"
    packages = ("wandb",)

    def begin(self, folder: Path, settings: Mapping[str, str]) -> None:
        """Make a run with the settings as its configuration."""
        folder.mkdir(parents=True, exist_ok=True)
        own = self._package.Settings(console="off", silent=True, disable_git=True, save_code=False)
        self._run = self._package.init(
            project=PROJECT,
            name=folder.name,
            dir=str(folder),
            mode="offline",
            config=dict(settings),
            settings=own,
        )

    def add(self, values: Mapping[str, float], epoch: int) -> None:
        """Add one point per curve."""
        self._run.log(dict(values), step=epoch)

    def summarise(self, figures: Mapping[str, float], epoch: int) -> None:
        """Add figures to the summary of the run."""
        self._run.summary.update(dict(figures))

    def close(self, *, failed: bool) -> None:
        """Complete the file."""
        self._run.finish(exit_code=int(failed))


LOGGERS = {kind.name: kind for kind in (MlflowLogger, WandbLogger)}
"""By the names that the setting `loggers` takes."""
