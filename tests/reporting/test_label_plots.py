from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from reporting import label_plots
from reporting.label_plots import MOST_POINTS, draw_anchors, draw_labels
from tests.evaluation.evaluation_example import split

pytestmark = pytest.mark.filterwarnings("error")
ANCHORS = np.array([[10, 10], [40, 40]], np.float32)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved, to look into."""
    kept: list[Figure] = []
    real = label_plots.save_figure

    def save(figure: Figure, path: Path) -> None:
        kept.append(figure)
        real(figure, path)

    monkeypatch.setattr(label_plots, "save_figure", save)
    return kept


@pytest.mark.parametrize("classes", [1, 6, 50, 80])
@pytest.mark.parametrize("boxes", [0, 20])
def test_labels_of_every_kind(
    tmp_path: Path, classes: int, boxes: int, figures: list[Figure]
) -> None:
    index = split(tmp_path / "data", classes=classes, images=4, boxes=boxes)
    draw_labels(index, tmp_path / "labels.png")
    assert cv2.imread(str(tmp_path / "labels.png")).std() > 0
    counts, centres, sizes = figures[0].axes
    assert [bar.get_height() for bar in counts.patches] == index.counts().tolist()
    assert centres.images[0].get_array().sum() == len(index.boxes)
    assert len(sizes.collections[0].get_offsets()) == len(index.boxes)


def test_a_centre_lies_where_it_should(tmp_path: Path, figures: list[Figure]) -> None:
    """One box at the right edge, a quarter from the top: row 10 of 40, the last column."""
    index = split(tmp_path / "data", classes=1, images=1, boxes=1)
    index.boxes[:] = [[78, 14, 80, 16]]
    draw_labels(index, tmp_path / "labels.png")
    heat = np.asarray(figures[0].axes[1].images[0].get_array())
    assert np.argwhere(heat).tolist() == [[10, 39]]


@pytest.mark.parametrize(
    ("sizes", "title", "groups"),
    [
        pytest.param([], "Best possible recall 1.000, 0.0 anchors", [], id="no-boxes"),
        pytest.param([[10, 10], [39, 39]], "Best possible recall 1.000, 1.5", [2], id="all-fit"),
        pytest.param(
            [[10, 10], [10, 400]],
            "Best possible recall 0.500, 0.5 anchors a box - another img_size may help",
            [1, 1],
            id="one-out-of-reach",
        ),
    ],
)
def test_anchors(
    tmp_path: Path, sizes: list, title: str, groups: list[int], figures: list[Figure]
) -> None:
    path = tmp_path / "anchors.png"
    draw_anchors(ANCHORS, np.array(sizes).reshape(-1, 2), threshold=4.0, path=path)
    (axes,) = figures[0].axes
    assert title in axes.get_title(loc="left")
    *shown, anchors = axes.collections
    assert [len(group.get_offsets()) for group in shown] == groups
    assert anchors.get_offsets().tolist() == ANCHORS.tolist()
    limits = axes.patches[0].get_bbox()
    assert (limits.x0, limits.x1) == (2.5, 40.0)
    assert path.is_file()


def test_of_many_boxes_some_are_drawn(tmp_path: Path, figures: list[Figure]) -> None:
    sizes = np.full((3 * MOST_POINTS + 1, 2), 12.0)
    draw_anchors(ANCHORS, sizes, threshold=4.0, path=tmp_path / "a.png")
    assert len(figures[0].axes[0].collections[0].get_offsets()) <= MOST_POINTS
