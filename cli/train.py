"""Command line of `train.py`: v7.0's flags on a data set, or YMIR index files."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import yaml

from cli.options import RunName, newest_run
from data.dataset_index import DatasetIndex
from data.folders import read_splits
from data.read_dataset import read_dataset
from data.report import DataReport
from settings.flags import add_flags, named_device, resolve_flags, with_dashes
from settings.parse import parse_settings, read_hyp
from settings.train import TrainSettings
from utils.atomic import write_text
from utils.errors import Code, TaskError

PROJECT = Path("runs/train")
LAST_WEIGHTS = Path("weights/last.pt")
OPTIONS_FILE = "opt.yaml"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataSource:
    """The source of the images: a data set, or two YMIR index files with the class names.

    `description` is a data.yaml, or a folder or file of another form.
    """

    description: Path | None = None
    train_index: Path | None = None
    val_index: Path | None = None
    class_names: tuple[str, ...] = ()

    def read(self, max_bad_fraction: float) -> tuple[list[DatasetIndex], list[DataReport]]:
        """Read the training and the validation split, each with its data report."""
        if self.description is not None:
            splits = ("train", "val")
            read = read_splits(self.description, splits, max_bad_fraction=max_bad_fraction)
        else:
            assert self.train_index is not None
            assert self.val_index is not None
            read = [
                read_dataset(
                    file, self.class_names, root=file.parent, max_bad_fraction=max_bad_fraction
                )
                for file in (self.train_index, self.val_index)
            ]
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
    notes: tuple[str, ...]

    @property
    def weights(self) -> Path | None:
        """The checkpoint to start from; None trains from scratch."""
        return Path(self.settings.weights) if self.settings.weights else None

    def stage_folder(self, folder: Path, stage: str) -> Path:
        """Return the folder of a stage's weights in the run's folder."""
        return folder / ("weights" if self.official_layout else stage)

    def _description(self) -> str | None:
        return None if self.data.description is None else str(self.data.description)

    def write_options(self, folder: Path) -> None:
        """Write `opt.yaml` (for --resume) and `hyp.yaml` (for the setting `hyp`)."""
        values = _plain(asdict(self.settings))
        if self.weights is not None:
            values["weights"] = str(self.weights.absolute())
        hyper = {key: values[key] for key in hyper_parameters()}
        options = {**values, "data": self._description()}
        write_text(folder / OPTIONS_FILE, yaml.safe_dump(options, sort_keys=False))
        write_text(folder / "hyp.yaml", yaml.safe_dump(hyper, sort_keys=False))


def hyper_parameters() -> tuple[str, ...]:
    """Return the settings that a hyper-parameter set may hold, in its order."""
    known = {item.name for item in fields(TrainSettings)}
    return tuple(key for key in (*read_hyp("scratch-low"), "anchors") if key in known)


def parse_train_command(arguments: Sequence[str], *, program: str = "train.py") -> TrainCommand:
    """Parse the arguments of `program`.

    A wrong flag ends the program as argparse does. Raise TaskError(CONFIG) for values and refused
    flags.
    """
    parser = _parser(program)
    options = parser.parse_args(with_dashes(arguments))
    parsed = resolve_flags("train", vars(options))
    own = parsed.command
    resumed = _resumed_run(parsed.settings, own)
    saved = {} if resumed is None else _saved_options(resumed)
    pairs = [pair.partition("=") for pair in options.settings]
    if any(not equals for _, equals, _ in pairs):
        parser.error("settings are written KEY=VALUE")
    settings, notes = parse_settings(
        TrainSettings,
        {key: value for key, value in saved.items() if key != "data"},
        parsed.settings,
        {key: value for key, _, value in pairs},
    )
    data = _data(parser, options, own.get("data") or saved.get("data"))
    official = options.output is None and (resumed is None or (resumed / LAST_WEIGHTS).is_file())
    if resumed is not None:
        run = RunName.of(resumed)
    elif options.output is not None:
        run = RunName.of(options.output)
    else:
        project = Path(str(own.get("project", PROJECT)))
        run = RunName(project, _run_name(own.get("name"), settings), "exist_ok" in own)
    return TrainCommand(
        settings=settings,
        data=data,
        device=named_device(own, options.gpu_id),
        run=run,
        official_layout=official,
        notes=(*parsed.notes, *notes),
    )


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Train a detector: YOLOv5 v7.0's flags on a data set, or YMIR index files "
        "(--train, --val, --class-names). Every setting of configs/default.yaml may follow as "
        "KEY=VALUE.",
    )
    add_flags(parser, "train")
    ymir = parser.add_argument_group("YMIR index files instead of --data")
    ymir.add_argument("--train", type=Path, help="index: image TAB annotation")
    ymir.add_argument("--val", type=Path)
    ymir.add_argument("--class-names", nargs="+", default=[])
    ymir.add_argument("--output", type=Path, help="folder for everything, instead of a run folder")
    ymir.add_argument("--gpu-id", help="for example 0; '' for the CPU")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    return parser


def _data(
    parser: argparse.ArgumentParser, options: argparse.Namespace, description: object
) -> DataSource:
    index_files = (options.train, options.val)
    if description and not any(index_files):
        # Absolute, so that images have the same names when the run is resumed elsewhere.
        return DataSource(description=Path(str(description)).absolute())
    if description or not all(index_files) or not options.class_names:
        parser.error("give --data (data.yaml or folder), or else --train, --val and --class-names")
    return DataSource(None, options.train, options.val, tuple(options.class_names))


def _run_name(name: object, settings: TrainSettings) -> str:
    """Return the run's name; 'cfg' stands for the stem of the model file, as in v7.0."""
    if name == "cfg":
        return Path(settings.model).stem
    return str(name or "exp")


def _resumed_run(settings: dict[str, object], own: Mapping[str, object]) -> Path | None:
    """Return the run folder that --resume names, or None; `settings` then name its weights."""
    if "resume" not in settings:
        return None
    wanted = settings["resume"]
    if isinstance(wanted, str):
        last = Path(wanted)
    else:
        project = Path(str(own.get("project", PROJECT)))
        run = newest_run(project, LAST_WEIGHTS)
        if run is None:
            raise TaskError(
                Code.CONFIG,
                f"--resume finds no stopped training: there is no {LAST_WEIGHTS} below {project}; "
                "name one as --resume path/to/last.pt.",
            )
        last = run / LAST_WEIGHTS
    if not last.is_file():
        raise TaskError(Code.CONFIG, f"--resume names {last}, which does not exist.")
    settings["resume"] = str(last)
    return last.parent.parent


def _saved_options(run: Path) -> dict[str, object]:
    """Read the settings of a run to resume from its opt.yaml."""
    path = run / OPTIONS_FILE
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise TaskError(
            Code.CONFIG, f"--resume needs {path}, which cannot be read ({error}); start a new run."
        ) from None
    if not isinstance(content, Mapping):
        raise TaskError(Code.CONFIG, f"--resume needs {path}, which holds no settings.")
    return {str(key): value for key, value in content.items() if key != "resume"}


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
