"""One data set in each annotation format: the same boxes, weights, ranking and detections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import start
from data.dataset_index import DatasetIndex
from data.index_file import SPLITS
from data.read_dataset import read_dataset
from models.checkpoint import load_checkpoint
from tools.check_out import check_out
from tools.make_task import write_task
from tools.parsers import FORMATS
from tools.sources import SourceDataset


def read_all(source: SourceDataset, out: Path, form: str) -> DatasetIndex:
    """Every image of the source through one format, as a training gets it."""
    images = tuple(image for split in SPLITS for image in source.splits[split])
    one_split = replace(source, splits={**dict.fromkeys(SPLITS, ()), "train": images})
    root = write_task(one_split, out / form, annotation_format=form).parent
    names = source.class_names
    return read_dataset(root / "train-index.tsv", names, root=root, max_bad_fraction=0.0)[0]


def test_every_format_gives_the_boxes_of_the_source(drawn: SourceDataset, tmp_path: Path) -> None:
    images = [image for split in SPLITS for image in drawn.splits[split]]
    indices = [read_all(drawn, tmp_path, form) for form in FORMATS]
    for index in indices:
        assert [Path(path).resolve() for path in index.paths] == [i.path.resolve() for i in images]
        for number, image in enumerate(images):
            assert np.array_equal(index.boxes_of(number), image.boxes)
            assert np.array_equal(index.classes_of(number), image.classes)
        assert np.array_equal(index.sizes, indices[0].sizes)


@pytest.mark.slow
def test_every_format_trains_mines_and_infers_alike(drawn: SourceDataset, tmp_path: Path) -> None:
    results = []
    settings = {"model": "yolov5n", "img_size": "64", "epochs": "1", "onnx": "no", "plots": "no"}
    for form in FORMATS:
        task, candidates = tmp_path / form, tmp_path / f"{form}-candidates"
        env = write_task(drawn, task, annotation_format=form, settings=settings)
        assert start.main(["--env", str(env)]) == 0
        weights = load_checkpoint(task / "out" / "models" / "last" / "last.pt").state
        best = task / "out" / "models" / "best" / "best.pt"
        own = {"img_size": "64", "conf_thres": "0.001"}
        kinds = ("mining", "infer")
        env = write_task(drawn, candidates, kinds=kinds, settings=own, weights=[best])
        assert start.main(["--env", str(env)]) == 0
        assert check_out(task) == check_out(candidates) == []
        out = candidates / "out"
        lines = (out / "result.tsv").read_text().splitlines()
        ranking = [line.rpartition("/")[2] for line in lines]
        detections = (out / "infer-result.json").read_bytes()
        results.append(({k: v.tolist() for k, v in weights.items()}, ranking, detections))
    assert results[0] == results[1] == results[2]
