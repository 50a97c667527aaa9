from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from reporting.candidate_counts import CandidateCounts
from reporting.candidate_report import About
from reporting.drawing import Label
from reporting.page import LONGEST, image_uri, label_style, pictures_of, write_page
from reporting.tiles import Tile, outlines
from tests.reporting.page_reader import Reader, read_page_file

EVIL = "</td><script>alert('x')</script>\" onload=\"a&b"


def photograph(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


URI, CHARTS = "data:image/png;base64,", ("confidences", "per_image")


def demo_page(folder: Path, **change: object) -> Reader:
    context: dict[str, object] = {"title": "t", "lead": "l", "note": "", "rows": [("a", "b")]}
    context |= {key: [] for key in ("reports", "galleries", "charts", "class_colours")}
    return read_page_file(write_page(folder / "p.html", "demo.html", **{**context, **change}))


def mining_page(folder: Path, **change: object) -> Reader:
    context: dict[str, object] = {"about": About(), "counts": CandidateCounts(()), "note": "",
                                  "most_rows": 25, "header": [], "per_class": [],
                                  "class_colours": [], "figures": dict.fromkeys(CHARTS, URI),
                                  "coverage": [], "bend": 0, "listed": [], "galleries": [],
                                  "environment": []}  # fmt: skip
    return read_page_file(
        write_page(folder / "p.html", "mining_report.html", **{**context, **change})
    )


def test_every_text_is_escaped(tmp_path: Path) -> None:
    tile = Tile(photograph(8, 8), EVIL, [Label(EVIL, (2, 2), "#112233")])
    read = mining_page(
        tmp_path,
        about=About(EVIL, [(EVIL, EVIL)], [[EVIL] * 4], {}),
        per_class=[(EVIL, 1)],
        class_colours=[("#112233", EVIL)],
        figures=dict.fromkeys(("own", "coverage", *CHARTS), URI),
        coverage=[(EVIL, 1)],
        steps=[EVIL],
        held=[(EVIL, EVIL)],
        alike=EVIL,
        how_many=[EVIL],
        renamed=True,
        listed=[(1, EVIL, EVIL, 0.5, 0.5, EVIL)],
        galleries=[("first", EVIL, [tile])],
    )
    assert read.text.count(EVIL) == 23
    assert EVIL in mining_page(tmp_path, note=EVIL).text
    assert len(read.images) == 5


@pytest.mark.parametrize(
    "name", ["a\x00b\x1b", "photo\udce9.jpg", "细胞 \U0001f9eb", "$x$ {y} {{ z }} %s"], ids=ascii
)
def test_any_name_can_be_written(name: str, tmp_path: Path) -> None:
    read = demo_page(tmp_path, lead=name)
    for letter in name:
        if letter.isprintable() and letter != " ":
            assert letter in read.text


def test_numbers_stand_right_and_text_left(tmp_path: Path) -> None:
    demo_page(tmp_path, rows=[("all", 12345), ("a", 0.5), ("b", "")])
    html = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert '<td class="text">all</td><td class="n">12,345</td>' in html
    assert '<td class="n">0.500</td>' in html
    assert demo_page(tmp_path, rows=[]).text.endswith("First pictures of the reports")


def test_long_names_break_between_their_words(tmp_path: Path) -> None:
    read = demo_page(tmp_path, rows=[("white_blood_cell", "a<b/c_1.5/d_2 best.onnx")])
    assert "white_blood_cell a<b/c_1.5/d_2 best.onnx" in read.text
    html = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "white_<wbr>blood_<wbr>cell</td>" in html
    assert "a&lt;b/<wbr>c_1.5/<wbr>d_2 best.onnx</td>" in html


def test_bars_are_as_long_as_their_share_of_the_largest(tmp_path: Path) -> None:
    mining_page(tmp_path, per_class=[("a", 50), ("b", 200), ("c", 0)])
    html = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert [f"width:{share}%" in html for share in ("25.0", "100.0", "0.0")] == [True] * 3


def decoded(uri: str) -> np.ndarray:
    content = base64.b64decode(uri.split(",", 1)[1])
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def test_large_photographs_are_embedded_smaller() -> None:
    assert decoded(image_uri(photograph(900, 2000))).shape == (900 * LONGEST // 2000, LONGEST, 3)
    assert decoded(image_uri(photograph(8, 9))).shape == (8, 9, 3)


def test_another_page_shows_the_first_pictures_of_a_gallery(tmp_path: Path) -> None:
    """Their links are of their own there, so that several galleries stand beside each other."""
    tiles = [Tile(photograph(8, 16), f"{n}. {EVIL}") for n in range(6)]
    mining_page(tmp_path, galleries=[("first", "a", tiles), ("last", "b", tiles[:1])])
    report = tmp_path / "report.html"
    (tmp_path / "p.html").rename(report)
    galleries = [(name, name, pictures_of(report, name, 4)) for name in ("first", "last")]
    assert [len(pictures) for _, _, pictures in galleries] == [4, 1]
    read = demo_page(tmp_path, galleries=galleries, class_colours=[("#0072b2", "a cell")])
    assert read.text.count("a cell") == 2  # a key of the colours above each
    assert len(read.images) == 5
    assert len(set(read.addresses)) == len(read.addresses)
    assert f"3. {EVIL}" in read.text
    assert f"4. {EVIL}" not in read.text
    assert pictures_of(report, "missed", 4) == pictures_of(tmp_path / "gone", "first", 4) == []


def test_labels_lie_over_their_corner_and_inside_the_image() -> None:
    style = label_style(Label("细胞 0.50", (20, 50), "#0072b2"), np.zeros((100, 200, 3)))
    assert "left:max(0px,min(10.0%,100% - 5.4em))" in style
    assert "top:max(0px,min(50.0%,100%) - 1.25em)" in style
    assert style.endswith("background:#0072b2;color:#ffffff")


def test_names_that_are_left_out_are_told_once(tmp_path: Path) -> None:
    labels = [Label("a", (2, 2), "#112233")] * 2
    tile = Tile(photograph(80, 80), "", labels, title=EVIL)
    read = mining_page(tmp_path, galleries=[("first", "a", [tile]), ("last", "b", [tile])])
    assert read.text.count("a click enlarges it and shows all") == 1
    clear = Tile(photograph(80, 80), "", labels[:1])
    read = mining_page(tmp_path, galleries=[("first", "a", [clear]), ("last", "b", [])])
    assert "a click enlarges it" not in read.text


def test_a_picture_is_enlarged_by_its_own_link(tmp_path: Path) -> None:
    """Boxes and names lie over it as elements of the page, in the pixels of the image."""
    boxes = np.array([[1.0, 2, 5, 7.5]])
    tile = Tile(photograph(8, 16), "", (), outlines(boxes, ["#112233"], dashed=True))
    read = mining_page(tmp_path, galleries=[("first", "a", [tile]), ("last", "b", [tile])])
    pictures = [address for address in read.addresses if address.startswith("#picture-")]
    assert pictures == [f"#picture-{n}" for n in range(1, 3)]
    html = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert html.count('<svg viewBox="0 0 16 8"') == 2
    assert html.count('<rect x="1.0" y="2.0" width="4.0" height="5.5" stroke="#112233"') == 2
    assert html.count('style="--share:1.0000;--ratio:2.0000"') == 2


def test_sections_are_listed_at_the_top(tmp_path: Path) -> None:
    assert demo_page(tmp_path).addresses == ["#figures", "#pictures"]
