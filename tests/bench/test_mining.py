"""The tables of the mining benchmark, what passes between its processes, and one whole run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.mining import main, speed_table, task_table, three
from bench.mining_run import found_file, read_found, write_found
from models.checkpoint import checkpoint_of, save_checkpoint
from models.detector import Detector
from models.model_config import read_model_config
from tools.draw_dataset import draw_dataset
from tools.sources import read_source

BOX = [0.0, 0.0, 100.0, 100.0, 0.9, 0.0]
MOVED = [10.0, 0.0, 110.0, 100.0, 0.9, 0.0]


def detections(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 6)


def test_what_was_found_comes_back(tmp_path: Path) -> None:
    kept = [detections(), detections(BOX, MOVED), detections(), detections(BOX)]
    write_found(tmp_path / "found.npz", kept, [0.0, 0.5, 0.0, 0.25])
    found, scores = read_found(tmp_path / "found.npz")
    assert scores == [0.0, 0.5, 0.0, 0.25]
    assert [rows.tolist() for rows in found] == [rows.tolist() for rows in kept]


def test_three_numbers() -> None:
    assert three([3.0, 1.0, 2.5], 1) == "1.0 / **2.5** / 3.0"


def test_speed_table_by_hand(tmp_path: Path) -> None:
    write_found(found_file(tmp_path, "reference"), [detections(BOX)] * 3, [0.1, 0.2, 0.3])
    write_found(found_file(tmp_path, "float32"), [detections(BOX)] * 3, [0.1, 0.2, 0.4])
    # IoU 9000 / 11000 in the last image; the last two scores change places: 1 - 6 * 2 / (3 * 8).
    moved = [detections(BOX), detections(BOX), detections(MOVED)]
    write_found(found_file(tmp_path, "auto"), moved, [0.1, 0.3, 0.2])
    times = {"auto": [0.25, 0.5], "float32": [0.5, 0.5], "reference": [1.0, 1.0]}
    lines = speed_table(times, tmp_path).splitlines()
    assert lines[2] == (
        "| auto | 2.67, 1.00 | 2.00 / **3.00** / 4.00 | 3, 3 | 100.00% | 66.67% | 0.8182 | 0.5000 |"
    )
    assert lines[3] == (
        "| float32 | 2.00, 1.00 | 2.00 / **2.00** / 2.00 | 3, 3 | 100.00% | 100.00% | 1.0000 "
        "| 1.0000 |"
    )


def test_task_table_pairs_the_rounds() -> None:
    table = task_table({"mining+infer": [0.022, 0.051, 0.03], "mining": [0.02, 0.05, 0.03]})
    assert table.splitlines()[-1] == (
        "| 22.0 / **30.0** / 51.0 | 20.0 / **30.0** / 50.0 | 1.000 / **1.020** / 1.100 |"
    )


@pytest.mark.slow
@pytest.mark.parametrize("with_inference", [False, True])
def test_a_whole_run(tmp_path: Path, with_inference: bool) -> None:
    data, weights = tmp_path / "data", tmp_path / "weights.pt"
    draw_dataset(data, images=4, size_wh=(64, 48), seed=0)
    names = read_source(data).class_names
    save_checkpoint(
        weights, checkpoint_of(Detector(read_model_config("yolov5n", nc=len(names))), names)
    )
    table = tmp_path / "table.md"
    command = ["--data", data, "--weights", weights, "--out", tmp_path / "run", "--markdown", table]
    sizes = ["--img-size", "64", "--images", "4", "--pairs", "1", "--threads", "1"]
    main([*map(str, command), *sizes, *(["--with-inference"] if with_inference else [])])
    text = table.read_text(encoding="utf-8")
    assert "yolov5s, 64 px, 4 images, batch 16, 1 threads, 1 pairs" in text
    expected = ["ratio of the pairs"] if with_inference else ["| auto | ", "| float32 | "]
    assert all(part in text for part in expected)


@pytest.mark.parametrize("option", ["--pairs", "--threads", "--images"])
def test_nothing_to_measure_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--weights", "any.pt", option, "0"])
    assert "must be at least 1" in capsys.readouterr().err
