from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from reporting.drawing import Tile
from reporting.page import LARGEST_PNG, WIDEST, Page
from tests.reporting.page_reader import read_page

EVIL = "</td><script>alert('x')</script>\" onload=\"a&b"


def photograph(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)


def decoded(uri: str) -> np.ndarray:
    content = base64.b64decode(uri.split(",", 1)[1])
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


def test_every_place_for_text_escapes_it(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    cv2.imwrite(str(picture), photograph(10, 10))
    page = Page(EVIL, EVIL)
    page.numbers([(EVIL, EVIL)])
    page.section(EVIL)
    page.heading(EVIL)
    page.text(EVIL)
    page.key([("#112233", EVIL)])
    page.table((EVIL, "n"), [(EVIL, 1)], folded=EVIL)
    page.bars((EVIL, EVIL), [(EVIL, (1,))])
    page.picture(picture, EVIL)
    page.gallery([Tile(photograph(8, 8), EVIL)])
    read = read_page(page.render())
    assert read.text.count(EVIL) >= 14
    assert len(read.images) == 2


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a\x00b\x1b", id="control-characters"),
        pytest.param("photo\udce9.jpg", id="a-name-in-another-encoding"),
        pytest.param("细胞 \U0001f9eb", id="chinese-and-emoji"),
        pytest.param("$x$ {y} %s", id="marks-of-other-languages"),
    ],
)
def test_any_name_can_be_written(name: str, tmp_path: Path) -> None:
    page = Page("t")
    page.text(name)
    read = read_page(page.write(tmp_path / "p.html").read_text("utf-8"))
    for letter in name:
        if letter.isprintable() and letter != " ":
            assert letter in read.text


def test_numbers_stand_right_and_text_left() -> None:
    page = Page("t")
    page.table(("class", "labels", "AP"), [("all", 12345, 0.5), ("a", "", "")], total=True)
    html = page.render()
    assert '<th>class</th><th class="n">labels</th><th class="n">AP</th>' in html
    assert '<tr class="sum"><td>all</td><td class="n">12\u2009345</td>' in html
    assert '<td class="n">0.500</td>' in html


def test_a_table_may_be_empty() -> None:
    page = Page("t")
    page.table(("a", "b"), [])
    page.bars(("a", "b"), [])
    html = page.render()
    assert read_page(html).text.endswith("t a b a b")
    assert html.count("<tbody></tbody>") == 2


def test_a_small_png_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), photograph(20, 30))
    page = Page("t")
    page.picture(path, "noise")
    (image,) = read_page(page.render()).images
    assert base64.b64decode(image.split(",", 1)[1]) == path.read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_large_picture_becomes_smaller(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), photograph(900, 2000))
    page = Page("t")
    page.picture(path, "noise")
    (image,) = read_page(page.render()).images
    assert image.startswith("data:image/jpeg")
    assert decoded(image).shape == (900 * WIDEST // 2000, WIDEST, 3)
    assert path.stat().st_size > LARGEST_PNG


@pytest.mark.parametrize(("width", "slides"), [(300, False), (900, True)])
def test_only_a_wide_picture_slides_on_a_small_screen(
    width: int, slides: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), photograph(200, width))
    page = Page("t")
    page.picture(path, "noise")
    assert ('<div class="scroll wide' in page.render()) == slides


def test_a_picture_that_does_not_exist_is_left_out(tmp_path: Path) -> None:
    page = Page("t")
    page.picture(tmp_path / "gone.png", "gone")
    assert read_page(page.render()).images == []


def test_sections_are_listed_at_the_top() -> None:
    page = Page("t")
    page.section("One")
    page.section("Two & three")
    assert read_page(page.render()).addresses == ["#s1", "#s2"]
