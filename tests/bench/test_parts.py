"""The parts of the comparison table: their jobs, our side of each job, and the report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from bench import __main__ as command
from bench import run_ours, sequential_mining
from bench.comparison import OURS, Comparison
from bench.gpu_clock import covered, spans_of_kernels
from bench.material import (
    evaluation_files,
    find_data,
    fitted,
    image_files,
    index_files,
    training_files,
    write_weights,
    write_yolo_image,
)
from bench.parts import PARTS, QUICK, Measurement
from bench.training import fill, read_splits
from data.read_dataset import read_dataset
from models.checkpoint import (
    Checkpoint,
    CheckpointMetadata,
    build_detector,
    checkpoint_of,
    load_checkpoint,
    save_checkpoint,
)
from models.detector import Detector
from models.model_config import read_model_config
from tests.conftest import DEVICES
from tools.draw_dataset import draw_dataset
from tools.sources import SourceDataset, SourceImage, read_source
from utils.errors import Code, TaskError

OUR_RESULT = {"seconds": [1.0, 3.0], "images": 10, "peak_mib": 100.0, "boxes": 7}
OUR_RESULT |= {"objects": 4, "map50": 0.5, "scores": [0.1, 0.2, 0.4]}
OUR_RESULT |= {"step_seconds": [2.0, 1.0, 2.0], "decoding": 0.5}
SMALL = replace(QUICK, indexed=8)
THEIR_RESULT = {**OUR_RESULT, "seconds": [8.0], "peak_mib": 150.0, "scores": [0.1, 0.4, 0.2]}
THEIR_RESULT |= {"step_seconds": [5.0]}


class Answers(Comparison):
    """A comparison whose programs have run already."""

    def run(self, program: str, job: Mapping[str, Any]) -> Mapping[str, Any]:
        self.versions[f"{program} {job['kind']}"] = str(job.get("batch_size"))
        return OUR_RESULT if program == OURS else THEIR_RESULT


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceDataset:
    folder = tmp_path_factory.mktemp("data")
    draw_dataset(folder, images=6, size_wh=(64, 48), seed=0)
    return read_source(folder)


@pytest.fixture
def measurement(source: SourceDataset, tmp_path: Path) -> Measurement:
    return Measurement(Answers(Path("python"), 1, 1, folder=tmp_path), source, None, SMALL)


@pytest.fixture
def job(source: SourceDataset, tmp_path: Path) -> dict[str, Any]:
    """What all jobs of our side say, of 64 pixels and two images a batch."""
    sizes = {"image_size": 64, "batch_size": 2, "epochs": 2, "passes": 1, "cache": "none"}
    about = {"precision": "float32", "output": str(tmp_path), "device": ""}
    return {**write_weights(tmp_path, "yolov5n", None, source.class_names), **sizes, **about}


@pytest.mark.parametrize(
    ("part", "jobs", "ratios"),
    [
        # Images a second: 10 / 2 and 10 / 8. Steps: 2 and 5 s. Memory: 100 and 150 MiB.
        ("training", {"yolov5 training": "8"}, [4.0, 2.5, 1.5] * 2),
        ("evaluation", {"yolov5 evaluation": "32"}, [4.0]),
        ("inference", {"yolov5 inference": "1", "ultralytics inference": "1"}, [4.0] * 4),
        ("mining", {"bench.sequential_mining mining": "16"}, [4.0]),
        ("start", {"yolov5 start": "16"}, [4.0]),
    ],
)
def test_a_part_runs_its_jobs(
    measurement: Measurement, part: str, jobs: dict[str, str], ratios: list[float]
) -> None:
    PARTS[part](measurement)
    assert measurement.comparison.versions.items() >= jobs.items()
    assert [row.ratios for row in measurement.rows] == [[ratio] for ratio in ratios]


def test_mining_reports_the_rank_correlation(measurement: Measurement) -> None:
    PARTS["mining"](measurement)
    # Ranks 1 2 3 and 1 3 2: 1 - 6 * 2 / (3 * 8).
    assert measurement.rows[0].remark == "4 and 4 objects; Spearman of the scores 0.5000"


@pytest.mark.parametrize("part", ["training", "evaluation", "inference", "mining"])
def test_on_a_gpu_every_task_says_how_busy_it_is(
    source: SourceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    results = [{**OUR_RESULT, "busy": 0.934}, {**THEIR_RESULT, "busy": 0.4}]
    monkeypatch.setattr(Answers, "run", lambda _, program, __: results[program != OURS])
    gpu = Answers(Path("python"), 1, 1, folder=tmp_path, device="0")
    measurement = Measurement(gpu, source, None, SMALL)
    PARTS[part](measurement)
    assert {row.unit for row in measurement.rows} <= {"images/s", "ms", "MiB at most"}
    for row in measurement.rows:
        assert row.remark.endswith("GPU busy 93% and 40%") == (row.unit == "images/s")


def test_a_share_counts_what_overlaps_once_and_no_copy() -> None:
    def event(name: str, start: float, end: float, **about: Any) -> SimpleNamespace:
        times, device = SimpleNamespace(start=start, end=end), about.pop("device", "CUDA")
        return SimpleNamespace(
            name=name, time_range=times, device_type=SimpleNamespace(name=device), **about
        )

    events = [
        event("conv", 30, 40),
        event("silu", 10, 20),
        event("other stream", 12, 25),
        event("inside", 13, 14),
        event("Memcpy HtoD (Pinned -> Device)", 50, 90),
        event("aten::add", 0, 99, device="CPU"),
        event("Optimizer.step", 0, 99, is_user_annotation=True),
    ]
    assert covered(spans_of_kernels(events)) == 25


def test_reading_an_index_is_measured_in_every_format(measurement: Measurement) -> None:
    PARTS["index"](measurement)
    lines = measurement.remarks[0].splitlines()[-3:]
    assert lines == [f"| {form} | 10 | 7 | 2.0 | 100 |" for form in ("ark", "voc", "coco")]


def test_samples_are_measured_with_every_cache(measurement: Measurement) -> None:
    PARTS["samples"](measurement)
    lines = measurement.remarks[0].splitlines()[-2:]
    assert lines == [f"| device | {cache} | 200.00 |" for cache in ("ram", "none")]


def test_the_host_is_measured_beside_decoding(measurement: Measurement) -> None:
    PARTS["host"](measurement)
    assert "50.00 ms an image to decode, 150.00 ms beside" in measurement.remarks[0]


@pytest.mark.parametrize("device", DEVICES)
def test_our_side_evaluates_infers_and_reads(
    source: SourceDataset, job: dict[str, Any], tmp_path: Path, device: str
) -> None:
    data = evaluation_files(tmp_path / "evaluation", source, 9)
    job |= {"device": "0" if device == "cuda" else ""}
    result = run_ours.evaluation({**job, **data})
    assert (result["images"], result["map50"]) == (9, pytest.approx(0, abs=0.2))
    result = run_ours.inference({**job, "files": image_files(source, 5)})
    assert (result["images"], len(result["seconds"])) == (5, 1)
    assert (tmp_path / "our-detections.json").read_text("utf-8").count(".jpg") == 5
    result = run_ours.host({**job, "files": image_files(source, 5)})
    assert 0 < result["decoding"] < result["seconds"][0]
    index = index_files(tmp_path / "index", source, 9, "ark")
    assert run_ours.index({**job, **index})["images"] == 9


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_our_side_trains(
    source: SourceDataset, job: dict[str, Any], tmp_path: Path, device: str
) -> None:
    """Of three epochs the first is not counted, nor on a GPU the last."""
    on_gpu = device == "cuda"
    job |= {"device": "0" if on_gpu else "", "epochs": 3, "cache": "auto"}
    found = run_ours.training({**job, **training_files(tmp_path, source, 4)})
    counted = 1 if on_gpu else 2
    assert [len(found["seconds"]), len(found["step_seconds"])] == [counted, 2 * counted]
    assert ("busy" in found) == on_gpu
    assert min(found["step_seconds"]) > 0


@pytest.mark.slow
def test_our_side_starts(
    source: SourceDataset, job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_STARTED", repr(time.time()))
    own = {**job, **training_files(tmp_path, source, 2)}
    assert 0 < run_ours.start(own)["seconds"][0] < 60
    planned = {**own, "augment_on": "device", "cache": "gpu", "workers": 0}
    assert len(run_ours.samples(planned)["seconds"]) == 1
    peer = yaml.safe_load(Path(own["peer_data"]).read_text("utf-8"))
    counts = [len(list((Path(peer["path"]) / peer[key]).iterdir())) for key in ("train", "val")]
    assert counts == [2, 1]


@pytest.mark.parametrize("device", DEVICES)
def test_the_sequential_loop_finds_and_scores_what_ours_does(shared: Path, device: str) -> None:
    files = sorted(str(path) for path in (shared / "data" / "bccd").rglob("*.jpg"))[:5]
    own = {"weights": str(shared / "reference" / "bccd_yolov5n.pt"), "files": files, "warmup": 1}
    own |= {"image_size": 320, "batch_size": 4, "precision": "float32"}
    own |= {"device": "0" if device == "cuda" else ""}
    ours, loop = run_ours.mining(own), sequential_mining.mining(own)
    assert ours["objects"] == loop["objects"] > 20
    assert ours["scores"] == pytest.approx(loop["scores"], abs=0.001)
    assert len(set(loop["scores"])) == len(files)


@pytest.mark.parametrize("form", ["voc", "ark", "coco"])
def test_links_have_the_boxes_of_their_originals(
    source: SourceDataset, tmp_path: Path, form: str
) -> None:
    job: Any = index_files(tmp_path, source, 13, form)
    path = Path(job["index"])
    data, report = read_dataset(path, source.class_names, root=tmp_path, max_bad_fraction=0)
    assert (len(data), report.listed, len(set(data.paths))) == (13, 13, 13)
    for image in range(7):
        assert Path(data.paths[image]).resolve() == Path(data.paths[image + 6]).resolve()
        assert data.boxes_of(image).tolist() == data.boxes_of(image + 6).tolist()
    assert len(data.boxes)


def test_yolo_labels_are_shares_of_the_image_and_clipped_to_it(
    source: SourceDataset, tmp_path: Path
) -> None:
    boxes = np.array([[16.0, 12.0, 48.0, 36.0], [-4.0, 0.0, 99.0, 48.0]])
    image = SourceImage(source.splits["train"][0].path, boxes, np.array([2, 0]))
    write_yolo_image(tmp_path, "train", image, "one")
    assert (tmp_path / "labels/train/one.txt").read_text("utf-8").splitlines() == [
        "2 0.50000000 0.50000000 0.50000000 0.50000000",
        "0 0.50000000 0.50000000 1.00000000 1.00000000",
    ]


@pytest.fixture(scope="module")
def narrow() -> Checkpoint:
    """A yolov5n whose batch normalisation is not that of a fresh network."""
    torch.manual_seed(0)
    detector = Detector(read_model_config("yolov5n", nc=3))
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.weight, 0.8, 1.2)
    return checkpoint_of(detector, ("a", "b", "c"), CheckpointMetadata(epoch=7))


def test_a_network_twice_as_wide_computes_the_same(narrow: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "narrow.pt", narrow)
    made: Any = write_weights(tmp_path, "yolov5s", tmp_path / "narrow.pt", ("x", "y"))
    wide, state = load_checkpoint(made["weights"]), torch.load(made["state"], weights_only=True)
    assert made["class_names"] == wide.class_names == ("a", "b", "c")
    assert all(torch.equal(value, state[key]) for key, value in wide.state.items())
    images = torch.rand(2, 3, 64, 96)
    outputs = [build_detector(own).eval().predict(images) for own in (narrow, wide)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
    size = [sum(value.numel() for value in own.state.values()) for own in (narrow, wide)]
    assert size[1] > 3.5 * size[0]
    same = fitted(narrow, "yolov5n").state
    assert all(torch.equal(value, same[key]) for key, value in narrow.state.items())
    for other in ("yolov5m", "yolov5n6", "yolov5l"):
        with pytest.raises(TaskError, match="half its channels") as caught:
            fitted(narrow, other)
        assert caught.value.code == Code.MODEL


def test_drawn_images_stand_in_for_a_data_set(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("bench.material.DRAWN_IMAGES", 3)
    files = image_files(find_data(None, tmp_path), 7)
    assert len(files) == 7
    assert len(set(files)) == 3


def test_selected_parts_make_the_report(
    source: SourceDataset, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "Comparison", Answers)
    monkeypatch.setattr(command, "QUICK", SMALL)
    data = source.splits["train"][0].path.parents[1]
    target = tmp_path / "new" / "table.md"
    words = ["--data", data, "--only", "index,mining", "--markdown", target, "--out", tmp_path]
    command.main([*map(str, words), "--quick"])
    text = target.read_text("utf-8")
    assert "| mining (CALD), yolov5s, 640 px, batch 16 | images/s | 5 | sequential loop |" in text
    assert "| coco | 10 |" in text
    assert "1 pairs." in text
    assert text in capsys.readouterr().out


def test_a_page_with_a_place_for_the_table_keeps_its_text(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "words\n<!-- measured: GPU -->\n{}<!-- end -->\nmore, <!-- end -->\n"
    page.write_text(text.format("old\n"), "utf-8")
    assert fill(page, "measured: GPU", "| a |\n\nnew")
    assert page.read_text("utf-8") == text.format("| a |\n\nnew\n")
    assert not fill(page, "measured: CPU", "other")
    assert not fill(tmp_path / "missing.md", "measured: GPU", "other")


def test_a_small_split_is_repeated(source: SourceDataset, tmp_path: Path) -> None:
    count = 2 * len(source.splits["train"]) + 1
    job: Any = training_files(tmp_path, source, count)
    train, _ = read_splits(Path(job["task"]), source.class_names)
    assert (len(train), job["training_images"], len(set(train.paths))) == (count, count, count)


def test_options_that_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--only", "speed"], ["--pairs", "0"]):
        with pytest.raises(SystemExit):
            command.main(words)
    errors = capsys.readouterr().err
    assert "choose from training," in errors
    assert "must be at least 1" in errors
