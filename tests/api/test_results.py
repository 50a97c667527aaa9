"""The forms and files of results, by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ImageShow

from api.results import Results
from inference.predictions import Prediction
from utils.errors import TaskError

ROWS = np.array([[10, 20, 30, 60, 0.75, 1], [0, 0, 50, 40, 0.5, 0]], np.float32)
IMAGE = np.zeros((100, 50, 3), np.uint8)
IMAGE[..., 0] = 200  # blue


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("b.png", IMAGE)
    found = [Prediction(0, "image0.jpg", (100, 50), ROWS), Prediction(1, "b.png", (100, 50))]
    return Results(found, [IMAGE, None], ("cat", "dog"))


def test_boxes(results: Results) -> None:
    assert [len(results), *map(len, results.xyxy)] == [2, 2, 0]
    assert results.xyxy[0].tolist() == ROWS.tolist()
    assert results.xywh[0][0].tolist() == [20, 40, 20, 40, 0.75, 1]
    np.testing.assert_allclose(results.xyxyn[0][0], [0.2, 0.2, 0.6, 0.6, 0.75, 1], atol=1e-6)
    np.testing.assert_allclose(results.xywhn[0][0], [0.4, 0.4, 0.4, 0.4, 0.75, 1], atol=1e-6)
    assert [one.xyxy[0].tolist() for one in results] == [ROWS.tolist(), []]
    assert results.names == {0: "cat", 1: "dog"}


def test_tables(results: Results) -> None:
    tables = results.pandas()
    first, empty = tables.xyxy
    assert first.to_dict("records")[0] == {
        **{"xmin": 10, "ymin": 20, "xmax": 30, "ymax": 60},
        **{"confidence": 0.75, "class": 1, "name": "dog"},
    }
    assert list(empty.columns) == list(first.columns)
    assert list(tables.xywhn[0])[:4] == ["xcenter", "ycenter", "width", "height"]
    assert first["class"].dtype == int


def test_print(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    results.print()
    assert capsys.readouterr().out.splitlines() == [
        "image 1/2 image0.jpg: 100x50, 1 cat, 1 dog",
        "image 2/2 b.png: 100x50, no detections",
    ]


def test_pictures(results: Results) -> None:
    assert results.ims[1][0, 0].tolist() == [0, 0, 200]  # RGB
    drawn, plain = results.render()
    assert drawn[30, 10].tolist() != [0, 0, 200] == plain[30, 10].tolist()
    assert results.ims[0] is drawn


def test_files(results: Results) -> None:
    assert results.save() == Path("runs/detect/exp")
    assert results.save(labels=False) == Path("runs/detect/exp2")
    assert results.save(save_dir="mine/here", exist_ok=True) == Path("mine/here")
    assert sorted(path.name for path in Path("mine/here").iterdir()) == ["b.png", "image0.jpg"]
    with_names, without = (cv2.imread(f"runs/detect/{name}/image0.jpg") for name in ("exp", "exp2"))
    assert not np.array_equal(with_names, without)


def test_crops(results: Results) -> None:
    crops = results.crop(save_dir="cut")
    assert [(one["label"], float(one["conf"]), int(one["cls"])) for one in crops] == [
        ("dog 0.75", 0.75, 1),
        ("cat 0.50", 0.5, 0),
    ]
    assert crops[0]["box"].tolist() == [10, 20, 30, 60]
    assert crops[0]["im"][0, 0].tolist() == [200, 0, 0]  # BGR
    written = sorted(str(path) for path in Path("cut").rglob("*.jpg"))
    assert written == ["cut/crops/cat/image02.jpg", "cut/crops/dog/image0.jpg"]
    results.crop(save=False, save_dir="nothing")
    assert not Path("nothing").exists()


@pytest.mark.parametrize("viewer", [True, False])
def test_show(results: Results, monkeypatch: pytest.MonkeyPatch, viewer: bool) -> None:
    shown: list[object] = []
    monkeypatch.setattr(ImageShow, "show", lambda image, title: shown.append(image.size) or viewer)
    if viewer:
        results.show()
        assert shown == [(50, 100), (50, 100)]
    else:
        with pytest.raises(TaskError, match="no program here that shows images"):
            results.show()


def test_a_picture_that_is_gone(results: Results) -> None:
    Path("b.png").unlink()
    with pytest.raises(TaskError, match=r"b\.png: file not found"):
        results.render()
