"""Command line of `val.py`: v7.0's flags on a data.yaml, or a YMIR index file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cli.options import RunName, parse_detection_flags
from cli.parsers import EVALUATION, val_parser
from data.data_yaml import SPLIT_KEYS, read_data_yaml
from data.dataset_index import DatasetIndex
from data.folders import read_splits
from data.read_dataset import read_dataset
from data.report import DataReport
from settings.detect import InferSettings
from settings.flags import named_device
from utils.errors import Code, TaskError


@dataclass(frozen=True)
class ValCommand:
    """The request of a val.py command line.

    Exactly one of `description` (with its `split`) and `index_file` is given. `run` is the
    run's folder, not made yet, or None where no file is wanted. `device` is the text of
    --device or --gpu-id, None where neither was given. `coco` asks for COCO's figures.
    """

    settings: InferSettings
    weights: Path
    description: Path | None
    split: str
    index_file: Path | None
    device: str | None
    single_class: bool
    save_labels: bool
    save_confidences: bool
    save_json: bool
    run: RunName | None
    coco: bool

    def read_data(self, class_names: Sequence[str]) -> tuple[DatasetIndex, DataReport]:
        """Read the labelled split, with the class indices of a network that knows `class_names`."""
        if self.index_file is not None:
            return read_dataset(
                self.index_file,
                class_names,
                root=self.index_file.parent,
                max_bad_fraction=self.settings.max_bad_fraction,
            )
        assert self.description is not None
        ((index, report),) = read_splits(
            self.description, [self.split], max_bad_fraction=self.settings.max_bad_fraction
        )
        if self.single_class:
            return index, report
        return with_class_order(index, class_names), report

    @property
    def is_coco(self) -> bool:
        """Whether the split is COCO's own validation split, whose JSON has other class numbers."""
        if self.description is None or self.description.suffix.lower() not in (".yaml", ".yml"):
            return False
        entries = read_data_yaml(self.description).entries[self.split]
        return any(entry.endswith("val2017.txt") for entry in entries)


def with_class_order(index: DatasetIndex, class_names: Sequence[str]) -> DatasetIndex:
    """Return the data set with the class indices of `class_names`, which must be the same names.

    Raise TaskError(DATASET) where they are not.
    """
    names = tuple(class_names)
    if index.class_names == names:
        return index
    if set(index.class_names) != set(names):
        raise TaskError(
            Code.DATASET,
            f"the data set knows the classes {', '.join(index.class_names)} and the weights "
            f"{', '.join(names)}: evaluate weights on data of their own classes, or with "
            "--single-cls.",
        )
    numbers = np.array([names.index(name) for name in index.class_names], np.int32)
    return index.with_classes(numbers, names)


def parse_val_command(arguments: Sequence[str] | None) -> ValCommand:
    """Parse the arguments of val.py.

    A wrong flag ends the program as argparse does. Raise TaskError(CONFIG) for values and refused
    flags.
    """
    parser = val_parser()
    given, settings = parse_detection_flags(parser, "val", arguments, EVALUATION)
    if (given["index"] is None) == ("data" not in given):
        parser.error("give either --data data.yaml or --index")
    split = given.get("task", "val")
    if split not in SPLIT_KEYS:
        raise TaskError(
            Code.CONFIG,
            f"--task {split} is refused: it must be one of {', '.join(SPLIT_KEYS)}; "
            "python -m bench --only inference,evaluation measures speed.",
        )
    wanted = sorted({"save_txt", "save_json"} & given.keys())
    if given["nosave"] and (wanted or given["report"]):
        raise TaskError(
            Code.CONFIG,
            f"--nosave writes nothing and --{(*wanted, 'report')[0].replace('_', '-')} wants a "
            "file: give one of them.",
        )
    run, report = RunName.of_flags(given, "runs/val"), given["report"]
    if report:
        run = RunName(report.parent, report.name, exist_ok=True)
    return ValCommand(
        settings=settings,
        weights=Path(given["weights"][0]),
        description=Path(given["data"]) if "data" in given else None,
        split=split,
        index_file=given["index"],
        device=named_device(given, given["gpu_id"]),
        single_class="single_cls" in given,
        save_labels="save_txt" in given,
        save_confidences="save_conf" in given,
        save_json="save_json" in given,
        run=None if given["nosave"] else run,
        coco=given["coco"],
    )
