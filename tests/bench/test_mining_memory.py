"""The growth of mining's memory, when samples are taken, and the links that are mined."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from bench.mining_memory import (
    Sample,
    Watch,
    growth,
    link_candidates,
    main,
    summary,
    write_crops,
)
from data.images import read_image
from models.checkpoint import checkpoint_of, save_checkpoint
from models.detector import Detector
from models.model_config import read_model_config
from tasks.run import ALMOST_ALL
from tools.draw_dataset import draw_dataset
from tools.sources import read_source


def line(per_10_000: float, *, jump: float = 0.0) -> list[Sample]:
    """A sample every 1,000 of 100,000 images: so much growth, after a first half higher by jump."""
    return [
        Sample(n, n / 100, 500 + per_10_000 * n / 10_000 + jump * (n < 50_000))
        for n in range(0, 100_001, 1000)
    ]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        pytest.param(line(0.0), 0.0, id="flat"),
        pytest.param(line(3.0), 3.0, id="grows"),
        pytest.param(line(3.0, jump=-200.0), 3.0, id="the first half does not count"),
        pytest.param(line(3.0)[:1], 0.0, id="one sample says nothing"),
        pytest.param([Sample(5, 1.0, 10.0), Sample(5, 2.0, 20.0)], 0.0, id="the same image twice"),
        pytest.param([], 0.0, id="none"),
    ],
)
def test_growth(samples: list[Sample], expected: float) -> None:
    assert growth(samples) == pytest.approx(expected, abs=1e-6)


def test_summary_names_the_numbers() -> None:
    text = summary(line(2.0))
    assert "100000 images in 16.7 min" in text
    assert "after a tenth 502, after half 510, at the end 520, maximum 520" in text
    assert "+2.00 MiB per 10000 images" in text


def test_samples_are_spread_evenly_and_hold_the_last_image() -> None:
    taken: list[Sample] = []
    watch = Watch(40_000, taken.append, clock=lambda: 7.0, resident=lambda: 1.0)
    for done in range(40_001):
        watch(ALMOST_ALL * done / 40_000)
    watch(1.0)  # the results are written: no further image
    assert [sample.images for sample in taken] == list(range(0, 40_001, 100))
    assert {sample.seconds for sample in taken} == {0.0}


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    draw_dataset(tmp_path / "data", images=6, size_wh=(120, 90), seed=0)
    return tmp_path / "data"


def test_crops_are_pieces_of_the_photographs(photographs: Path, tmp_path: Path) -> None:
    crops = write_crops(read_source(photographs), tmp_path / "crops", count=7, side=32)
    images = [read_image(crop) for crop in crops]
    assert [image.shape for image in images] == [(32, 32, 3)] * 7
    assert len({image.tobytes() for image in images}) == 7
    assert not any(np.ptp(image) == 0 for image in images)


def test_links_lead_to_the_crops_in_turn(tmp_path: Path) -> None:
    crops = [tmp_path / f"{name}.jpg" for name in "ab"]
    for crop in crops:
        crop.write_text(crop.stem)
    (tmp_path / "in").mkdir()
    link_candidates(tmp_path, crops, 5)
    listed = (tmp_path / "in" / "candidate-index.tsv").read_text().splitlines()
    assert [Path(line).read_text() for line in listed] == list("ababa")
    assert len({Path(line).name for line in listed}) == 5
    assert all(Path(line).is_symlink() for line in listed)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_whole_run(photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = read_source(photographs)
    weights = tmp_path / "weights.pt"
    detector = Detector(read_model_config("yolov5n", nc=len(source.class_names)))
    save_checkpoint(weights, checkpoint_of(detector, source.class_names))
    command = ["--data", photographs, "--weights", weights, "--out", tmp_path / "run"]
    sizes = ["--count", "12", "--files", "3", "--side", "32", "--set", "plots=no"]
    main([*map(str, command), *sizes])
    assert "12 images in" in capsys.readouterr().out
    rows = (tmp_path / "run" / "mining-memory.csv").read_text().splitlines()
    assert rows[0] == "images,seconds,resident_mib"
    assert rows[-1].startswith("12,")
    assert float(rows[-1].split(",")[2]) > 50
    assert len((tmp_path / "run" / "task" / "out" / "result.tsv").read_text().splitlines()) == 12
