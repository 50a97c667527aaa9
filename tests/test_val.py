"""Evaluation: hand-made cases, and the reference checkpoint's figures on real photographs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import val
from infer import Predictor, Thresholds
from models.checkpoint import build_detector, load_checkpoint
from tools.make_task import write_task
from tools.sources import read_source
from utils.dataloaders import evaluation_loader
from utils.labels import read_dataset
from val import Evaluation, class_table, evaluate

CPU = torch.device("cpu")


def test_counts_at_one_confidence() -> None:
    """Three labels of class 0, one of class 1. Shown at 0.5: a hit and a miss of class 0, a hit
    of class 1; the second hit of class 0 is too unsure. Recalls 1/3 and 1: mean 2/3.
    """
    point = val._operating_point(
        correct=np.array([True, False, True, True]),
        confidence=np.array([0.9, 0.8, 0.4, 0.5]),
        predicted=np.array([0, 0, 0, 1]),
        target=np.array([0, 0, 0, 1]),
        threshold=0.5,
    )
    assert (point.true_positives, point.false_positives, point.false_negatives) == (2, 1, 2)
    assert point.recall == pytest.approx(2 / 3)


def test_counts_without_anything() -> None:
    nothing = np.zeros(0)
    point = val._operating_point(nothing.astype(bool), nothing, nothing, nothing, 0.25)
    assert (point.true_positives, point.false_positives, point.false_negatives) == (0, 0, 0)
    assert point.recall == 0.0


def evaluate_trained(trained: Path, batch_size: int, names: tuple[str, ...]) -> Evaluation:
    checkpoint = load_checkpoint(trained / "out/models/best/best.pt")
    index, _ = read_dataset(
        trained / "in/val-index.tsv", names, root=trained / "in", max_bad_fraction=0.0
    )
    predictor = Predictor(
        build_detector(checkpoint),
        names,
        device=CPU,
        image_size=96,
        thresholds=Thresholds(0.001, 0.6, 300),
    )
    loader = evaluation_loader(index, image_size=96, batch_size=batch_size, workers=0)
    return evaluate(predictor, index, loader)


def test_scores_do_not_depend_on_the_batch(trained: Path) -> None:
    names = ("red_cell", "white_cell", "platelet")
    one, four = (evaluate_trained(trained, size, names) for size in (1, 4))
    assert one.scores.map50_95 == pytest.approx(four.scores.map50_95, abs=1e-3)
    assert (one.labels_per_class == four.labels_per_class).all()
    table = class_table(one, names).splitlines()
    assert [line.split()[0] for line in table] == ["class", "all", *names]


def run_val(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    val.main([str(word) for word in words])
    return capsys.readouterr().out


def test_a_data_yaml_and_an_index_give_the_same_figures(
    trained: Path, weights: Path, data_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ("--weights", weights, "--imgsz", 96, "--batch-size", 4)
    by_index = run_val(capsys, *shared, "--index", trained / "in/val-index.tsv")
    by_yaml = run_val(capsys, *shared, "--data", data_yaml, "--task", "val", "--verbose")
    tables = [text[text.index("class ") :].splitlines()[:5] for text in (by_index, by_yaml)]
    assert tables[0] == tables[1]
    assert "--verbose has no effect" in by_yaml


def test_single_cls_counts_every_object_alike(
    weights: Path, data_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ("--weights", weights, "--imgsz", 96, "--data", data_yaml, "--task", "train")
    several, one = (run_val(capsys, *shared, *more) for more in ((), ("--single-cls",)))
    rows = [text[text.index("class ") :].splitlines()[1:] for text in (several, one)]
    assert rows[0][0].split()[:2] == rows[1][0].split()[:2]  # «all», as many labels
    assert [line.split()[0] for line in rows[1][:2]] == ["all", "item"]


def test_files_of_an_evaluation(
    weights: Path, data_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--weights", weights, "--imgsz", 96, "--data", data_yaml, "--save-txt", "--save-conf")
    run_val(capsys, *words, "--save-json", "--project", tmp_path, "--name", "exp")
    records = json.loads((tmp_path / "exp" / "best_predictions.json").read_text())
    lines = [line for file in (tmp_path / "exp/labels").glob("*.txt") for line in file.open()]
    assert len(records) == len(lines) > 0
    assert set(records[0]) == {"image_id", "category_id", "bbox", "score"}
    assert {record["category_id"] for record in records} <= {0, 1, 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "map50", "map50_95", "per_class"),
    [
        pytest.param(
            "val", 0.862, 0.510, [(0.986, 0.710), (0.829, 0.506), (0.771, 0.314)], id="validation"
        ),
        pytest.param(
            "test", 0.855, 0.499, [(0.955, 0.679), (0.824, 0.508), (0.784, 0.310)], id="test"
        ),
    ],
)
def test_the_reference_checkpoint_scores_what_the_official_code_says(
    shared: Path,
    tmp_path: Path,
    split: str,
    map50: float,
    map50_95: float,
    per_class: list[tuple[float, float]],
) -> None:
    """Figures of reference/README.md: BCCD at 320 px, rectangular batches of 16."""
    source = read_source(shared / "data" / "bccd")
    splits = {"train": source.splits["train"][:1], "val": source.splits[split], "test": ()}
    write_task(dataclasses.replace(source, splits=splits), tmp_path / "task")
    checkpoint = load_checkpoint(shared / "reference" / "bccd_yolov5n.pt")
    index, _ = read_dataset(
        tmp_path / "task/in/val-index.tsv",
        checkpoint.class_names,
        root=tmp_path,
        max_bad_fraction=0.0,
    )
    predictor = Predictor(
        build_detector(checkpoint),
        checkpoint.class_names,
        device=CPU,
        image_size=320,
        thresholds=Thresholds(0.001, 0.6, 300),
    )
    loader = evaluation_loader(index, image_size=320, batch_size=16, stride=32, workers=1)
    found = evaluate(predictor, index, loader)
    assert found.scores.map50 == pytest.approx(map50, abs=0.003)
    assert found.scores.map50_95 == pytest.approx(map50_95, abs=0.003)
    for row, (ap50, ap) in zip(found.classes.ap, per_class, strict=True):
        assert row[0] == pytest.approx(ap50, abs=0.003)
        assert row.mean() == pytest.approx(ap, abs=0.003)
