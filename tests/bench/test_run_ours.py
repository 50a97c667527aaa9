"""Our side of the jobs that the whole comparison adds, on a few tiny pictures."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench import run_ours
from bench.material import image_files, write_evaluation_data, write_weights
from bench.training_step import training_job
from tools.draw_dataset import draw_dataset
from tools.sources import SourceDataset, read_source

Job = dict[str, object]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceDataset:
    folder = tmp_path_factory.mktemp("data")
    draw_dataset(folder, images=6, size_wh=(64, 48), seed=0)
    return read_source(folder)


@pytest.fixture
def job(source: SourceDataset, tmp_path: Path) -> Job:
    made = write_weights(tmp_path, "yolov5n", None, source.class_names)
    return {
        "model": "yolov5n",
        "ours_weights": str(made.ours),
        "image_size": 64,
        "batch_size": 2,
        "precision": "float32",
        "output": str(tmp_path),
        "device": "",
    }


def test_evaluation_is_of_as_many_links_as_asked(
    source: SourceDataset, job: Job, tmp_path: Path
) -> None:
    data = write_evaluation_data(tmp_path / "data", source, 9)
    result = run_ours.evaluation({**job, "data": str(data)})
    assert result["images"] == 9
    assert result["map50"] == pytest.approx(0, abs=0.2)


def test_inference_writes_json(source: SourceDataset, job: Job, tmp_path: Path) -> None:
    files = image_files(source, 5)
    result = run_ours.inference({**job, "files": files, "passes": 1, "json": True})
    assert result["images"] == 5
    assert (tmp_path / "our-detections.json").read_text("utf-8").count(".jpg") == 5


@pytest.mark.slow
def test_start_and_training(
    source: SourceDataset, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_STARTED", repr(time.time()))
    sizes = {"image_size": 64, "batch_size": 2, "images": 2, "epochs": 2}
    own = training_job(tmp_path, source, job, **sizes)  # type: ignore[arg-type]
    begun = run_ours.start(own)["seconds"]
    trained = run_ours.training(own)["seconds"]
    assert isinstance(begun, list)
    assert isinstance(trained, list)
    assert (len(begun), len(trained)) == (1, 1)
    assert begun[0] > 0
