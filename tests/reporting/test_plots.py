"""Figures for every shape of data, with names of any kind, without a warning."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from evaluation.evaluator import Evaluation
from reporting import class_plots, plots
from reporting.results_csv import CsvLogger
from tests.evaluation.evaluation_example import blind, evaluation, names_of, split
from tests.reporting.font_example import write_font

pytestmark = pytest.mark.filterwarnings("error")
ANCHORS = np.array([[10, 10], [40, 40]], np.float32)


def drawn(figure: Figure) -> np.ndarray:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    pixels = cv2.imdecode(np.frombuffer(content.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    assert pixels.std() > 0
    return pixels


@pytest.mark.parametrize(("classes", "boxes"), [(1, 7), (25, 7), (2, 0)])
@pytest.mark.parametrize("judge", [evaluation, blind])
def test_metrics_of_every_number_of_classes(
    tmp_path: Path, classes: int, boxes: int, judge: Callable[..., Evaluation]
) -> None:
    index = split(tmp_path / "data", classes=classes, images=4, boxes=boxes)
    judged = judge(index)
    drawn(class_plots.precision_recall(judged.classes, index.class_names))
    drawn(class_plots.confusion(judged.confusion.matrix, index.class_names))
    figure = class_plots.over_confidence(judged.classes, index.class_names, "F1")
    drawn(figure)
    if boxes:
        lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1000]
        # A mean of several classes; a legend of many lines stands beside the curves.
        assert len(lines) == len(judged.classes.classes) + (classes > 1)
        own = figure.axes[0].get_legend()
        legend = (own or figure.legends[0]).get_texts()
        assert len(legend) == (len(lines) if classes <= class_plots.MOST_LINES else 1)
        tops = judged.classes.f1_curve.max(1)
        assert f"{tops[0] if classes == 1 else tops.mean():.3f} @" in legend[-1].get_text()


def test_of_many_classes_those_with_most_errors_are_in_the_matrix() -> None:
    """Of 80: 20, with what is missed and invented of them in colours of their own."""
    matrix = np.diag(np.arange(81))
    matrix[-1, 70] = 5  # missed
    matrix[60, -1] = 30  # invented, beside 60 that are right
    figure = class_plots.confusion(matrix, [f"c{n}" for n in range(80)])
    drawn(figure)
    (axes,) = figure.axes
    names = [text.get_text() for text in axes.get_xticklabels()]
    assert (len(names), names[-1]) == (class_plots.MOST_CONFUSED + 1, "false positives (FP)")
    assert {"c60", "c70"} <= set(names)
    assert axes.get_yticklabels()[-1].get_text() == "missed (FN)"
    cells = {text.get_text() for text in axes.texts}
    assert {"0.33\n30", "0.07\n5", "0.93\n70"} <= cells
    assert "The 20 of 80 classes with the most errors" in axes.get_title(loc="left")


@pytest.mark.parametrize("installed", [False, True])
def test_names_are_written_in_a_font_of_the_machine(
    tmp_path: Path, fonts: Path, installed: bool
) -> None:
    """A character without a glyph would be a warning, and so an error here."""
    if installed:
        write_font(fonts / "squares.ttf", "细胞")
    index = split(tmp_path / "data", classes=2, images=2)
    assert index.class_names[1] == "细胞"
    judged, expected = evaluation(index), "细胞" if installed else "class 1"
    figures = [
        class_plots.precision_recall(judged.classes, index.class_names),
        class_plots.confusion(judged.confusion.matrix, index.class_names),
        plots.label_statistics(index),
    ]
    for figure in figures:
        drawn(figure)
        axes = figure.axes[0]
        texts = axes.get_legend().get_texts() if axes.get_legend() else axes.get_xticklabels()
        assert any(expected in text.get_text() for text in texts)


def test_learning_curves_begin_with_epoch_one(tmp_path: Path) -> None:
    """Losses that are not finite are left out."""
    rows = [[0, *[float("nan")] * 13], [1, float("inf"), *[0.5] * 12], [2, *[0.5] * 13]]
    figure = plots.learning_curves(CsvLogger(tmp_path, rows).path)
    drawn(figure)
    for axes in figure.axes:
        assert [line.get_xdata().tolist() for line in axes.lines] == [[1, 2, 3]] * 2


@pytest.mark.parametrize(("classes", "boxes"), [(1, 0), (6, 20), (80, 20)])
def test_labels_of_every_kind(tmp_path: Path, classes: int, boxes: int) -> None:
    index = split(tmp_path / "data", classes=classes, images=4, boxes=boxes)
    figure = plots.label_statistics(index)
    drawn(figure)
    counts, centres, sizes = figure.axes
    assert [bar.get_height() for bar in counts.patches] == index.counts().tolist()
    assert centres.images[0].get_array().sum() == len(index.boxes)
    assert len(sizes.collections[0].get_offsets()) == len(index.boxes)


def test_a_centre_lies_where_it_should(tmp_path: Path) -> None:
    """One box at the right edge, a quarter from the top: row 10 of 40, the last column."""
    index = split(tmp_path / "data", classes=1, images=1, boxes=1)
    index.boxes[:] = [[78, 14, 80, 16]]
    heat = np.asarray(plots.label_statistics(index).axes[1].images[0].get_array())
    assert np.argwhere(heat).tolist() == [[10, 39]]


@pytest.mark.parametrize(
    ("sizes", "title", "groups"),
    [
        pytest.param([], "1.000, 0.0 anchors", [], id="no-boxes"),
        pytest.param([[10, 10], [39, 39]], "1.000, 1.5 anchors", [2], id="all-fit"),
        pytest.param([[10, 10], [10, 400]], "0.500, 0.5 anchors a box\nanother img_size may help",
                     [1, 1], id="one-out-of-reach"),
    ],
)  # fmt: skip
def test_anchors(sizes: list, title: str, groups: list[int]) -> None:
    figure = plots.anchor_coverage(ANCHORS, np.array(sizes).reshape(-1, 2), threshold=4.0)
    drawn(figure)
    (axes,) = figure.axes
    assert f"Best possible recall {title}" in axes.get_title(loc="left")
    *shown, anchors = axes.collections
    assert [len(group.get_offsets()) for group in shown] == groups
    assert anchors.get_offsets().tolist() == ANCHORS.tolist()
    limits = axes.patches[0].get_bbox()
    assert (limits.x0, limits.x1) == (2.5, 40.0)


def test_of_many_boxes_some_are_drawn() -> None:
    sizes = np.full((3 * plots.MOST_POINTS + 1, 2), 12.0)
    figure = plots.anchor_coverage(ANCHORS, sizes, threshold=4.0)
    assert len(figure.axes[0].collections[0].get_offsets()) <= plots.MOST_POINTS


def test_histograms_and_lines() -> None:
    words = {"title": names_of(1)[0], "x": "x", "y": "y"}
    drawn(plots.histogram([0, 0], [0, 1, 2], **words))
    bars = plots.histogram([3, 1], [0, 0.5, 1], **words)
    assert bars.axes[0].patches[0].get_data().values.tolist() == [3, 1]
    drawn(plots.line([2.5], **words))
    assert drawn(plots.line([1, 1, 2], counts=True, **words)).ndim == 3
