"""Evaluation: hand-made cases, and the reference checkpoint's figures on real photographs."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import val
from data.dataset_index import DatasetIndex
from data.instances import Instances
from data.loaders import LoaderConfig, evaluation_loader
from data.read_dataset import read_dataset
from evaluation import evaluate as evaluate_module
from evaluation.evaluate import Evaluation, class_table, evaluate, evaluate_stream
from inference.predictor import Predictor, load_predictor
from models.checkpoint import build_detector, load_checkpoint
from ops.nms import NmsConfig
from ops.tiling import Tiling
from settings.detect import InferSettings
from tests.mixed_example import small_predictor
from tools.make_task import write_task
from tools.sources import read_source

CPU = torch.device("cpu")
NAMES = ("red_cell", "white_cell", "platelet")


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
        thresholds=NmsConfig(0.001, 0.6, 300),
    )
    loader = evaluation_loader(index, LoaderConfig(96, batch_size, workers=0))
    return evaluate(predictor, index, loader)


def test_scores_do_not_depend_on_the_batch(trained: Path) -> None:
    names = ("red_cell", "white_cell", "platelet")
    one, four = (evaluate_trained(trained, size, names) for size in (1, 4))
    assert one.scores.map50_95 == pytest.approx(four.scores.map50_95, abs=1e-3)
    assert (one.labels_per_class == four.labels_per_class).all()
    table = class_table(one, names).splitlines()
    assert [line.split()[0] for line in table] == ["class", "all", *names]


def trained_predictor(weights: Path, **options: object) -> Predictor:
    return small_predictor(weights, NmsConfig(0.001, 0.6, 300), precision="float32", **options)


def validation_split(trained: Path) -> DatasetIndex:
    return read_dataset(
        trained / "in/val-index.tsv", NAMES, root=trained / "in", max_bad_fraction=0.0
    )[0]


def test_tiles_see_every_image_of_the_split(trained: Path, weights: Path) -> None:
    """Images of 160 x 120 pixels in tiles of 96: each once, its boxes inside it."""
    index = validation_split(trained)
    seen: dict[int, np.ndarray] = {}
    found = evaluate_stream(
        trained_predictor(weights, tiling=Tiling(96)),
        index,
        batch_size=4,
        workers=1,
        by_size=True,
        watch=lambda position, rows: seen.setdefault(position, rows) is None,
    )
    assert sorted(seen) == list(range(len(index)))
    for position, rows in seen.items():
        height, width = index.sizes[position]
        assert (rows[:, :4] >= 0).all()
        assert (rows[:, :4] <= (width, height, width, height)).all()
    assert found.labels_per_class.tolist() == index.counts().tolist()
    assert sum(int(size.labels.sum()) for size in found.by_size) == len(index.boxes)


def test_a_stream_without_tiles_finds_what_batches_find(trained: Path, weights: Path) -> None:
    """Two ways to the network (area and bilinear shrinking, two paddings): nearly one result."""
    index = validation_split(trained)
    predictor = trained_predictor(weights)
    one = evaluate_module.evaluate_split(predictor, index, batch_size=4)
    other = evaluate_stream(predictor, index, batch_size=4, workers=1)
    assert other.scores.map50 == pytest.approx(one.scores.map50, abs=0.1)


def test_three_looks_are_evaluated_too(trained: Path, weights: Path) -> None:
    index = validation_split(trained)
    rows = {augment: dict[int, np.ndarray]() for augment in (False, True)}
    for augment, own in rows.items():
        predictor = trained_predictor(weights, augment=augment)
        evaluate_module.evaluate_split(predictor, index, batch_size=4, watch=own.__setitem__)
    assert not any(np.array_equal(rows[True][p], rows[False][p]) for p in rows[True])


def test_a_training_without_the_package_of_coco_has_its_other_tables(
    trained: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    index = validation_split(trained)
    loader = evaluation_loader(index, LoaderConfig(96, 4, workers=0))
    monkeypatch.setattr(evaluate_module, "coco_available", lambda: False)
    with caplog.at_level("INFO"):
        evaluate_module.final_report(trained_predictor(weights), index, loader, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["classes.csv"]
    assert "faster-coco-eval is not installed" in caplog.text


def test_the_command_line_prints_and_writes_all_tables(
    trained: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--weights", str(weights), "--index", str(trained / "in/val-index.tsv"),
                 "--img-size", "96", "--coco", "--report", str(tmp_path)]  # fmt: skip
    val.main(arguments)
    shown = capsys.readouterr().out
    assert "mAP50-95" in shown
    assert "medium" in shown
    assert "COCO  AP " in shown
    with (tmp_path / "classes.csv").open(encoding="utf-8") as file:
        everything = list(csv.DictReader(file))
    assert {row["size"] for row in everything} <= {"all", "small", "medium", "large"}
    assert everything[0]["labels"] == str(len(validation_split(trained).boxes))
    assert (tmp_path / "coco.csv").is_file()
    val.main([*arguments, "--classes", "red_cell", "--augment", "--tile-size", "96"])
    with (tmp_path / "classes.csv").open(encoding="utf-8") as file:
        assert {row["class"] for row in csv.DictReader(file)} == {"all", "red_cell"}


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
        thresholds=NmsConfig(0.001, 0.6, 300),
        precision="float32",
    )
    loader = evaluation_loader(index, LoaderConfig(320, 16, stride=32, workers=1))
    found = evaluate(predictor, index, loader)
    assert found.scores.map50 == pytest.approx(map50, abs=0.003)
    assert found.scores.map50_95 == pytest.approx(map50_95, abs=0.003)
    for row, (ap50, ap) in zip(found.classes.ap, per_class, strict=True):
        assert row[0] == pytest.approx(ap50, abs=0.003)
        assert row.mean() == pytest.approx(ap, abs=0.003)


@pytest.mark.slow
def test_tiles_find_in_large_sheets_what_is_too_small_for_one_look(
    shared: Path, tmp_path: Path
) -> None:
    """Sheets of 3 x 3 photographs side by side: at 320 px a cell is a third of what the network
    has learnt. Tiles of a photograph's size, on other borders than the photographs', bring it back.
    """
    source = read_source(shared / "data" / "bccd")
    splits = {"train": source.splits["train"][:1], "val": source.splits["test"][:27], "test": ()}
    write_task(dataclasses.replace(source, splits=splits), tmp_path / "task")
    weights = shared / "reference" / "bccd_yolov5n.pt"
    settings = InferSettings(
        img_size=320, conf_thres=0.001, iou_thres=0.6, max_det=1000, precision="float32"
    )
    names = load_checkpoint(weights).class_names
    photographs, _ = read_dataset(
        tmp_path / "task/in/val-index.tsv", names, root=tmp_path, max_bad_fraction=0.0
    )
    index = sheets(photographs, tmp_path)
    found = {
        tile_size: evaluate_module.evaluate_split(
            load_predictor(weights, dataclasses.replace(settings, tile_size=tile_size), CPU),
            index,
            batch_size=8,
        )
        for tile_size in (0, 640)
    }
    assert found[640].scores.map50 > found[0].scores.map50 + 0.1
    assert found[640].scores.map50 > 0.7
    assert found[640].at_confidence.recall > found[0].at_confidence.recall + 0.3


def sheets(photographs: DatasetIndex, folder: Path) -> DatasetIndex:
    """Nine photographs (of 640 x 480 pixels) at a time as one picture, with their labels."""
    paths, boxes, classes, counts = [], [], [], []
    for start in range(0, len(photographs), 9):
        sheet = np.zeros((3 * 480, 3 * 640, 3), np.uint8)
        for place in range(9):
            top, left = place // 3 * 480, place % 3 * 640
            position = start + place
            sheet[top : top + 480, left : left + 640] = cv2.imread(photographs.paths[position])
            corner = np.array([left, top, left, top], np.float32)
            boxes.append(photographs.boxes_of(position) + corner)
            classes.append(photographs.classes_of(position))
        paths.append(str(folder / f"sheet{start}.png"))
        cv2.imwrite(paths[-1], sheet)
        counts.append(sum(len(own) for own in classes[-9:]))
    return DatasetIndex.build(
        paths,
        [(1440, 1920)] * len(paths),
        Instances(np.concatenate(boxes), np.concatenate(classes)),
        counts,
        photographs.class_names,
    )
