"""Command line of `train.py`: v7.0's flags on a data set, or YMIR index files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml

from cli.options import RunName, log_notes
from cli.parsers import Parser, train_parser
from data.dataset_index import DatasetIndex
from data.folders import read_splits
from data.read_dataset import read_dataset
from data.report import DataReport
from settings.flags import named_device, resolve_flags
from settings.parse import parse_settings, read_hyp, read_mapping
from settings.train import DEFAULT_MODEL, TrainSettings
from utils.atomic import write_text
from utils.errors import Code, TaskError
from utils.official_weights import SCRATCH

PROJECT = "runs/train"
LAST_WEIGHTS = Path("weights/last.pt")
OPTIONS_FILE = "opt.yaml"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSource:
    """The source of the images: a data set, or two YMIR index files with the class names.

    `description` is a data.yaml, or a folder or file of another form.
    """

    description: Path | None = None
    index_files: tuple[Path, ...] = ()
    class_names: tuple[str, ...] = ()

    def read(self, max_bad_fraction: float) -> tuple[list[DatasetIndex], list[DataReport]]:
        """Read the training and the validation split, each with its data report."""
        if self.description is not None:
            splits = ("train", "val")
            read = read_splits(self.description, splits, max_bad_fraction=max_bad_fraction)
        else:
            read = [
                read_dataset(
                    file, self.class_names, root=file.parent, max_bad_fraction=max_bad_fraction
                )
                for file in self.index_files
            ]
        log.info("%s", "\n".join(line for _, report in read for line in report.lines()))
        return [index for index, _ in read], [report for _, report in read]


@dataclass(frozen=True)
class TrainCommand:
    """The request of a train.py command line.

    `device` is the text of --device or --gpu-id, None where neither was given. `run` is the
    run's folder, not made yet. With `official_layout` weights go to `weights` in it as in v7.0,
    else to a folder of each stage.
    """

    settings: TrainSettings
    data: DataSource
    device: str | None
    run: RunName
    official_layout: bool

    @property
    def weights(self) -> Path | None:
        """The checkpoint to start from; None trains from scratch.

        Where a run is resumed and that file is gone, its last checkpoint has the same network.
        """
        named, last = self.settings.weights, Path(self.settings.resume).with_suffix(".pt")
        if not named or named.lower() == SCRATCH:
            return None
        return last if last.is_file() and not Path(named).is_file() else Path(named)

    def stage_folder(self, folder: Path, stage: str) -> Path:
        """Return the folder of a stage's weights in the run's folder."""
        return folder / ("weights" if self.official_layout else stage)

    def write_options(self, folder: Path) -> None:
        """Write `opt.yaml` (for --resume) and `hyp.yaml` (for the setting `hyp`)."""
        values = asdict(self.settings)
        values = {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
        if self.weights is not None:
            values["weights"] = str(Path(self.settings.weights).absolute())
        hyper = {key: values[key] for key in hyper_parameters()}
        description = self.data.description
        options = {**values, "data": None if description is None else str(description)}
        write_text(folder / OPTIONS_FILE, yaml.safe_dump(options, sort_keys=False))
        write_text(folder / "hyp.yaml", yaml.safe_dump(hyper, sort_keys=False))


def hyper_parameters() -> tuple[str, ...]:
    """Return the settings that a hyper-parameter set may hold, in its order."""
    known = {item.name for item in fields(TrainSettings)}
    return tuple(key for key in (*read_hyp("scratch-low"), "anchors") if key in known)


def parse_train_command(
    arguments: Sequence[str] | None, *, program: str = "train.py"
) -> TrainCommand:
    """Parse the arguments of `program`.

    A wrong flag ends the program as argparse does. Raise TaskError(CONFIG) for values and refused
    flags.
    """
    parser = train_parser(program)
    given = parser.read(arguments)
    options, parsed = argparse.Namespace(**given), resolve_flags("train", given)
    own = parsed.command
    resumed = _resumed_run(parsed.settings, own)
    saved: dict[str, object] = {}
    if resumed is not None:
        saved = read_mapping(resumed / OPTIONS_FILE, "--resume needs the settings of its run:")
        saved.pop("resume", None)
    saved_data = saved.pop("data", None)
    pairs = {"language": given.get("language"), **parser.pairs(options.settings)}
    settings, notes = parse_settings(TrainSettings, saved, parsed.layer, pairs)
    log_notes((*parsed.notes, *notes))
    if own.get("name") == "cfg":  # as in v7.0
        own["name"] = Path(settings.model or DEFAULT_MODEL).stem
    folder = resumed or options.output
    is_official = options.output is None and (resumed is None or (resumed / LAST_WEIGHTS).is_file())
    return TrainCommand(
        settings=settings,
        data=_data(parser, options, own.get("data") or saved_data),
        device=named_device(own, options.gpu_id),
        run=RunName(folder.parent, folder.name, exist_ok=True)
        if folder
        else RunName.of_flags(own, PROJECT),
        official_layout=is_official,
    )


def _data(parser: Parser, options: argparse.Namespace, description: object) -> DataSource:
    index_files = (options.train, options.val)
    if description and not any(index_files):
        # Absolute, so that images have the same names when the run is resumed elsewhere.
        return DataSource(description=Path(str(description)).absolute())
    if description or not all(index_files) or not options.class_names:
        parser.error("give --data (data.yaml or folder), or else --train, --val and --class-names")
    return DataSource(None, index_files, tuple(options.class_names))


def _resumed_run(settings: dict[str, object], own: Mapping[str, object]) -> Path | None:
    """Return the run folder that --resume names, or None; `settings` then name its weights."""
    if "resume" not in settings:
        return None
    wanted = settings["resume"]
    last = Path(wanted) if isinstance(wanted, str) else None
    if last is None:
        project = Path(str(own.get("project", PROJECT)))
        found = project.glob(f"*/{LAST_WEIGHTS}")
        last = max(found, key=lambda path: path.stat().st_mtime, default=None)
        if last is None:
            raise TaskError(
                Code.CONFIG,
                f"--resume finds no stopped training: there is no {LAST_WEIGHTS} below {project}; "
                "name one as --resume path/to/last.pt.",
            )
    if not last.is_file():
        raise TaskError(Code.CONFIG, f"--resume names {last}, which does not exist.")
    settings["resume"] = str(last)
    return last.parent.parent
