"""Charts of a page: SVG whose ground, letters and lines follow the system's dark mode."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from reporting import class_plots, plots
from reporting.charts import COLOURS, figure_svg
from reporting.page import chart_uri, write_page
from tests.evaluation.evaluation_example import evaluation, split
from tests.reporting.page_reader import read_page_file
from tools.screenshot import BROWSERS, screenshot

pytestmark = pytest.mark.filterwarnings("error")


def charts(folder: Path) -> list[Figure]:
    index = split(folder, classes=3, images=4)
    judged = evaluation(index)
    return [
        plots.line([0.9, 0.4, 0.1], title="fall", x="rank", y="score"),
        class_plots.confusion(judged.confusion.matrix, index.class_names),
    ]


def test_every_colour_of_ground_and_letters_has_a_name(tmp_path: Path) -> None:
    for figure in charts(tmp_path):
        svg = figure_svg(figure)
        root = ET.fromstring(svg)
        width, height = figure.get_size_inches() * 120
        sides = [float(root.attrib[name]) for name in ("width", "height")]
        assert np.allclose(sides, [width, height], atol=1)
        body = svg.partition("</style>")[2]
        assert not [colour for colour in COLOURS if colour in body]
    first, second = (list(map(figure_svg, charts(tmp_path))) for _ in range(2))
    assert first == second


def test_words_are_chinese_text_and_names_of_classes_stay(tmp_path: Path) -> None:
    """Also a name that is a word of the figures."""
    index = split(tmp_path, classes=3, images=4)
    index = replace(index, class_names=("boxes", "red cell", "<b>"))
    judged = evaluation(index)
    anchors, sizes = np.array([[10.0, 10], [30, 60]]), np.array([[12.0, 9], [300, 3]])
    figures = [
        class_plots.precision_recall(judged.classes, index.class_names),
        *(
            class_plots.over_confidence(judged.classes, index.class_names, one)
            for one in class_plots.CURVES
        ),
        class_plots.confusion(judged.confusion.matrix, index.class_names),
        plots.label_statistics(index),
        plots.anchor_coverage(anchors, sizes, threshold=4),
        plots.line([0.9, 0.4, 0.1], title="Time per epoch", x="rank", y="seconds", mark=2),
    ]
    words = []
    for figure in figures:
        found = ET.fromstring(figure_svg(figure, "zh")).iter("{http://www.w3.org/2000/svg}text")
        words += [one.text or "" for one in found]
        assert "<text" not in figure_svg(figure)
    for shown in ("漏检（FN）", "误检（FP）", "真实类别", "精确率", "2 张图片", "boxes", "<b>"):
        assert shown in map(str.strip, words)
    english = {word for text in words for word in re.findall("[a-z]{3,}", text)}
    assert english - {"red", "cell"} <= {"boxes", "epoch", "img", "size"}


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chromium is installed")
@pytest.mark.slow
def test_a_chart_is_dark_on_a_dark_page(tmp_path: Path) -> None:
    """The middle of its grey levels is that of the page, in both modes; its letters stand out."""
    figures = {"rank": chart_uri(charts(tmp_path)[0])}
    page = write_page(
        tmp_path / "page.html",
        "demo.html",
        title="",
        lead="",
        note="",
        rows=[],
        reports=[],
        galleries=[],
        charts=[figures["rank"]],
    )
    read_page_file(page)
    for dark, ground in ((False, 255), (True, 24)):
        check = screenshot(page, tmp_path / "shot.png", width=700, dark=dark)
        assert (check.requests, check.messages) == ((), ())
        grey = cv2.imread(str(tmp_path / "shot.png"), cv2.IMREAD_GRAYSCALE)
        assert abs(np.median(grey) - ground) < 3
        assert abs(grey.astype(int) - ground).max() > 150
