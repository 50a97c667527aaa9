"""Evaluation: small cases, the command line, and the reference checkpoint on real photographs."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import pytest
import torch

import val
from bench.training import read_splits
from data.dataset_index import DatasetIndex
from data.instances import Instances
from data.loaders import LoaderConfig, evaluation_loader
from evaluation import evaluate as evaluate_module
from evaluation.evaluate import evaluate_split, evaluate_stream, final_report
from evaluation.evaluator import EvaluationConfig
from evaluation.tables import class_table
from inference.predictor import Predictor, load_predictor
from models.checkpoint import load_checkpoint
from ops.nms import NmsConfig
from ops.tiling import Tiling
from settings.detect import InferSettings
from tests.conftest import NAMES
from tests.mixed_example import small_predictor
from tests.reporting.page_reader import read_page_file
from tools.make_task import write_task
from tools.sources import read_source

CPU = torch.device("cpu")


def predictor_of(weights: Path, **options: object) -> Predictor:
    nms = NmsConfig(0.001, 0.6, 300)
    return small_predictor(weights, nms, **{"precision": "float32", "workers": 0, **options})


@pytest.fixture(scope="module")
def index(splits: list[DatasetIndex]) -> DatasetIndex:
    """Four images of 160 x 120 pixels."""
    return splits[1]


def test_metrics_do_not_depend_on_the_batch(weights: Path, index: DatasetIndex) -> None:
    one, four = (evaluate_split(predictor_of(weights, batch_size=n), index) for n in (1, 4))
    assert one.scores.map50_95 == pytest.approx(four.scores.map50_95, abs=1e-3)
    assert one.labels_per_class.tolist() == index.counts().tolist()
    table = class_table(one, NAMES).splitlines()
    assert [line.split()[0] for line in table] == ["class", "all", *NAMES]


def test_tiles_cover_every_image_of_the_split(weights: Path, index: DatasetIndex) -> None:
    """Images of 160 x 120 pixels in tiles of 96: each once, its boxes inside it."""
    seen: dict[int, np.ndarray] = {}
    found = evaluate_stream(
        predictor_of(weights, tiling=Tiling(96)),
        index,
        EvaluationConfig(by_size=True),
        on_image=lambda position, rows: seen.setdefault(position, rows) is None,
    )
    assert sorted(seen) == list(range(len(index)))
    for position, rows in seen.items():
        height, width = index.sizes[position]
        assert (rows[:, :4] >= 0).all()
        assert (rows[:, :4] <= (width, height, width, height)).all()
    assert found.labels_per_class.tolist() == index.counts().tolist()
    assert sum(int(size.labels.sum()) for size in found.by_size) == len(index.boxes)


@pytest.mark.parametrize("tile", [None, Tiling(96)], ids=["batches", "tiles"])
def test_in_a_crowd_region_no_detection_is_false(
    weights: Path, index: DatasetIndex, tile: Tiling | None
) -> None:
    """Regions of every class over every image: what is no hit does not count at all."""
    height, width = index.sizes[0].tolist()
    boxes = np.array([[0, 0, width, height]] * len(index) * len(NAMES))
    classes = np.tile(np.arange(len(NAMES)), len(index))
    regions = Instances(boxes, classes), np.repeat(np.arange(len(index)), len(NAMES))
    predictor = predictor_of(weights, tiling=tile)
    without, within = (
        evaluate_split(predictor, one) for one in (index, index.with_crowds(*regions))
    )
    assert without.scores.fp
    assert not within.scores.fp
    assert within.scores.map50_95 > without.scores.map50_95
    assert within.labels_per_class.tolist() == without.labels_per_class.tolist()


def test_without_the_package_of_coco_the_other_tables_are_written(
    weights: Path,
    index: DatasetIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    loader = evaluation_loader(index, LoaderConfig(96, 4, workers=0))
    monkeypatch.setattr(evaluate_module, "coco_available", lambda: False)
    with caplog.at_level("INFO"):
        final_report(predictor_of(weights), index, loader, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["classes.csv"]
    assert "faster-coco-eval is not installed" in caplog.text


@pytest.fixture
def run_val(weights: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run val.py on the small weights; return what it prints."""

    def run(*words: object) -> str:
        shared = ("--weights", weights, "--imgsz", 96, "--batch-size", 4, "--workers", 0)
        val.main([str(word) for word in (*shared, *words)])
        return capsys.readouterr().out

    return run


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_command_line_prints_and_writes_all_tables(
    trained: Path, index: DatasetIndex, tmp_path: Path, run_val: Callable[..., str]
) -> None:
    split = ("--index", trained / "in/val-index.tsv", "--report", tmp_path)
    shown = run_val(*split, "--coco")
    assert "mAP50-95" in shown
    assert "medium" in shown
    assert "COCO  AP " in shown
    rows = read_csv(tmp_path / "classes.csv")
    assert {row["size"] for row in rows} <= {"all", "small", "medium", "large"}
    assert rows[0]["labels"] == str(len(index.boxes))
    assert (tmp_path / "coco.csv").is_file()
    run_val(*split, "--classes", "red_cell", "--augment", "--tile-size", "96")
    assert {row["class"] for row in read_csv(tmp_path / "classes.csv")} == {"all", "red_cell"}


FIGURES = {"pr_curve", "f1_curve", "precision_curve", "recall_curve", "confusion_matrix"}


@pytest.mark.parametrize(
    ("words", "files"),
    [
        ("", {"classes.csv", "coco.csv", "report.html", *(f"{name}.png" for name in FIGURES)}),
        ("--noplots", {"classes.csv", "coco.csv"}),
        ("--nosave", set()),
    ],
)
def test_a_run_folder(
    data_yaml: Path, tmp_path: Path, run_val: Callable[..., str], words: str, files: set[str]
) -> None:
    shown = run_val("--data", data_yaml, "--project", tmp_path, *words.split())
    written = {path.name for path in tmp_path.glob("exp/*")}
    assert written - {"validation.jpg", "worst.jpg", "invented.jpg"} == files
    folder = tmp_path / "exp"
    assert (f"results: {folder}" in shown) == bool(files)
    assert (f"report: {folder}/report.html" in shown) == ("report.html" in files)
    assert ("python detect.py --weights " in shown) == bool(files)
    if "report.html" in files:
        text = read_page_file(folder / "report.html").text
        assert "mAP at IoU 0.5 " in text
        assert "images usable" in text


def test_alone_it_gives_the_tables_and_pictures_of_the_end_of_training(
    trained: Path, tmp_path: Path, run_val: Callable[..., str]
) -> None:
    run_val("--index", trained / "in/val-index.tsv", "--report", tmp_path)
    end = trained / "out/models/attachments/report"
    compared = {"classes.csv", "coco.csv", "validation.jpg", "worst.jpg"}
    compared |= {f"{name}.png" for name in FIGURES}
    assert [name for name in sorted(compared) if not (tmp_path / name).is_file()] == []
    differing = [n for n in compared if (tmp_path / n).read_bytes() != (end / n).read_bytes()]
    assert differing == []


@pytest.mark.parametrize("words", ["", "--tile-size 96"], ids=["batches", "tiles"])
def test_the_speed_is_that_of_the_run(
    trained: Path, index: DatasetIndex, run_val: Callable[..., str], words: str
) -> None:
    began = perf_counter()
    shown = run_val("--index", trained / "in/val-index.tsv", "--nosave", *words.split())
    passed = 1000 * (perf_counter() - began)
    (line,) = (one for one in shown.splitlines() if "speed per image: " in one)
    stages = dict(re.findall(r"(decode|network|NMS) ([\d.]+) ms", line))
    whole = float(re.findall(r"([\d.]+) ms by the clock", line)[0])
    rate = float(re.findall(r"([\d.]+) images/s", line)[0])
    assert rate == pytest.approx(1000 / whole, rel=0.02, abs=0.051)  # printed in tenths
    assert 0 < whole * len(index) < passed
    if words:
        assert not stages
    else:  # every worker is busy for no longer than the whole takes
        workers = 1 + torch.get_num_threads()
        assert list(stages) == ["decode", "network", "NMS"]
        assert 0 < float(stages["network"]) < sum(map(float, stages.values())) < workers * whole


def test_a_data_yaml_and_an_index_give_the_same_metrics(
    trained: Path, data_yaml: Path, run_val: Callable[..., str]
) -> None:
    by_index = run_val("--index", trained / "in/val-index.tsv", "--nosave")
    by_yaml = run_val("--data", data_yaml, "--task", "val", "--verbose", "--nosave")
    tables = [text[text.index("class ") :].splitlines()[:5] for text in (by_index, by_yaml)]
    assert tables[0] == tables[1]
    assert "--verbose has no effect" in by_yaml


def test_single_cls_counts_every_object_as_one_class(
    data_yaml: Path, index: DatasetIndex, run_val: Callable[..., str]
) -> None:
    shown = run_val("--data", data_yaml, "--task", "val", "--single-cls", "--nosave")
    rows = shown[shown.index("class ") :].splitlines()[1:3]
    assert [line.split()[:2] for line in rows] == [
        [n, f"{len(index.boxes)}"] for n in ("all", "item")
    ]


def test_files_of_an_evaluation(
    data_yaml: Path, tmp_path: Path, run_val: Callable[..., str]
) -> None:
    words = ("--data", data_yaml, "--save-txt", "--save-conf", "--save-json")
    run_val(*words, "--project", tmp_path, "--name", "exp")
    records = json.loads((tmp_path / "exp" / "best_predictions.json").read_text())
    lines = [line for file in (tmp_path / "exp/labels").glob("*.txt") for line in file.open()]
    assert len(records) == len(lines) > 0
    assert set(records[0]) == {"image_id", "category_id", "bbox", "score"}
    assert {record["category_id"] for record in records} <= {0, 1, 2}


REFERENCE = "reference/bccd_yolov5n.pt"


def photographs(shared: Path, folder: Path, split: str, count: int | None = None) -> DatasetIndex:
    """A split of BCCD, read as a YMIR task."""
    source = read_source(shared / "data" / "bccd")
    one, chosen = source.splits["train"][:1], source.splits[split][:count]
    splits = {"train": one, "val": chosen, "test": ()}
    write_task(replace(source, splits=splits), folder / "task")
    return read_splits(folder / "task", load_checkpoint(shared / REFERENCE).class_names)[1]


def reference_predictor(shared: Path, **settings: object) -> Predictor:
    thresholds = {"conf_thres": 0.001, "iou_thres": 0.6, "precision": "float32"}
    chosen = InferSettings(img_size=320, **{**thresholds, **settings})  # type: ignore[arg-type]
    return load_predictor(shared / REFERENCE, chosen, CPU)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "map50", "map50_95", "per_class"),
    [
        ("val", 0.862, 0.510, [(0.986, 0.710), (0.829, 0.506), (0.771, 0.314)]),
        ("test", 0.855, 0.499, [(0.955, 0.679), (0.824, 0.508), (0.784, 0.310)]),
    ],
    ids=["validation", "test"],
)
def test_the_reference_checkpoint_scores_as_v7(
    shared: Path,
    tmp_path: Path,
    split: str,
    map50: float,
    map50_95: float,
    per_class: list[tuple[float, float]],
) -> None:
    """Figures of reference/README.md: BCCD at 320 px, rectangular batches of 16."""
    index = photographs(shared, tmp_path, split)
    found = evaluate_split(reference_predictor(shared, max_det=300), index)
    assert found.scores.map50 == pytest.approx(map50, abs=0.003)
    assert found.scores.map50_95 == pytest.approx(map50_95, abs=0.003)
    for row, (ap50, ap) in zip(found.classes.ap, per_class, strict=True):
        assert row[0] == pytest.approx(ap50, abs=0.003)
        assert row.mean() == pytest.approx(ap, abs=0.003)


@pytest.mark.slow
def test_tiles_find_in_large_images_what_is_too_small_at_once(shared: Path, tmp_path: Path) -> None:
    """3 x 3 photographs as one image: at 320 px a cell is a third of the size in training. Tiles of
    a photograph's size, on other borders than the photographs', bring it back.
    """
    index = nine_in_one(photographs(shared, tmp_path, "test", 18), tmp_path)
    plain, tiled = (
        evaluate_split(reference_predictor(shared, max_det=1000, tile_size=tile_size), index)
        for tile_size in (0, 640)
    )
    assert tiled.scores.map50 > max(plain.scores.map50 + 0.1, 0.7)
    assert tiled.at_confidence.recall > plain.at_confidence.recall + 0.3


def nine_in_one(photographs: DatasetIndex, folder: Path) -> DatasetIndex:
    """Nine photographs (of 640 x 480 pixels) at a time as one image, with their labels."""
    paths, boxes = [], []
    for start in range(0, len(photographs), 9):
        image = np.zeros((3 * 480, 3 * 640, 3), np.uint8)
        for place in range(9):
            top, left = place // 3 * 480, place % 3 * 640
            position = start + place
            image[top : top + 480, left : left + 640] = cv2.imread(photographs.paths[position])
            boxes.append(photographs.boxes_of(position) + np.array([left, top, left, top]))
        paths.append(str(folder / f"image{start}.png"))
        cv2.imwrite(paths[-1], image)
    return DatasetIndex.build(
        paths,
        [(1440, 1920)] * len(paths),
        Instances(np.concatenate(boxes), photographs.classes),
        np.diff(photographs.offsets).reshape(-1, 9).sum(1),
        photographs.class_names,
    )
