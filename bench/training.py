"""What benchmarks that train have in common: data, jobs, options, tables."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from data.dataset_index import DatasetIndex
from data.read_dataset import read_dataset
from settings.train import TrainSettings
from tools import command_parser
from training.job import TrainingJob
from utils.atomic import write_text
from utils.errors import Code, TaskError

RECIPE: Mapping[str, object] = {
    "model": "yolov5n",
    "img_size": 320,
    "batch_size": 16,
    "onnx": False,
    "plots": False,
}


def read_splits(
    task: Path, class_names: Sequence[str], *, max_bad_fraction: float = 0.0
) -> tuple[DatasetIndex, DatasetIndex]:
    """Read the training and the validation split of a task folder."""
    root = task / "in"
    train_split, validation = (
        read_dataset(
            root / f"{name}-index.tsv", class_names, root=root, max_bad_fraction=max_bad_fraction
        )[0]
        for name in ("train", "val")
    )
    return train_split, validation


def training_job(
    settings: TrainSettings,
    splits: tuple[DatasetIndex, DatasetIndex],
    folder: Path,
    device: torch.device,
    weights: Path | None = None,
) -> TrainingJob:
    """Return a training on the splits (training, validation) whose results go to `folder`."""
    return TrainingJob(
        settings,
        *splits,
        device,
        folder,
        stage_folder=lambda stage: folder / stage,
        on_saved=lambda saved: None,
        weights=weights,
    )


def training_parser(program: str, description: str | None, out: Path) -> argparse.ArgumentParser:
    """Return a parser of the options that all benchmarks of accuracy have."""
    parser = command_parser(program, description)
    parser.add_argument("--data", type=Path, required=True, help="a VOC, COCO or YOLO folder")
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--gpu-id", default="", help="for example 0; empty for the CPU")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Parse the `KEY=VALUE` texts of a repeatable option; TaskError(CONFIG) for other texts."""
    settings = {}
    for text in pairs:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise TaskError(Code.CONFIG, f"{option}: {text!r} is no setting; write KEY=VALUE.")
        settings[key] = value
    return settings


def markdown(head: str, rows: Sequence[Sequence[object]]) -> str:
    """Format a Markdown table; `head` holds the names of its columns with ` | ` between them."""
    lines = [f"| {head} |", "|---" * len(head.split(" | ")) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def fill(page: Path, place: str, text: str) -> bool:
    """Put text between `<!-- PLACE -->` and `<!-- end -->` of a page; False if it has no place."""
    head, mark, rest = (page.read_text("utf-8") if page.is_file() else "").partition(
        f"<!-- {place} -->\n"
    )
    if mark:
        _, end, rest = rest.partition("<!-- end -->")
        write_text(page, f"{head}{mark}{text}\n{end}{rest}")
    return bool(mark)
