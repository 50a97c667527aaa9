"""Reports open from disk in a browser: no request, no complaint, no wider than the screen."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

import start
from tests.conftest import TINY_TRAINING
from tools.look_at_page import BROWSERS, find_browser, look_at, main
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import Code, TaskError

needs_browser = pytest.mark.skipif(
    not any(shutil.which(name) for name in BROWSERS), reason="no Chromium is installed"
)
WIDTHS = (375, 1400)
BAD = """\
<!doctype html><title>bad</title><img src="http://127.0.0.1:9/x.png">
<div style="width: 900px">wide</div><script>console.error("broken thing")</script>
"""


@pytest.fixture(scope="module")
def looked(weights: Path, drawn: SourceDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a task that has mined and inferred."""
    task = tmp_path_factory.mktemp("looked") / "task"
    settings = {"img_size": TINY_TRAINING["img_size"], "conf_thres": "0.001", "max_det": "20"}
    env_file = write_task(
        drawn, task, kinds=("mining", "infer"), settings=settings, weights=[weights]
    )
    assert start.main(["--env", str(env_file)]) == 0
    return task / "out" / "tensorboard" / "report.html"


def _is_well(page: Path, width: int, picture: Path) -> None:
    look = look_at(page, width=width, picture=picture, height=800)
    assert look.requests == ()
    assert look.messages == ()
    assert look.needs <= width
    assert cv2.imread(str(picture)).shape == (min(look.height, 800), width, 3)


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_of_a_training(trained: Path, width: int, tmp_path: Path) -> None:
    page = trained / "out" / "models" / "attachments" / "report" / "report.html"
    _is_well(page, width, tmp_path / "shot.png")


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_of_mining(looked: Path, width: int, tmp_path: Path) -> None:
    _is_well(looked, width, tmp_path / "shot.png")


@needs_browser
@pytest.mark.slow
def test_a_bad_page_is_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "bad.html"
    page.write_text(BAD, encoding="utf-8")
    assert main([str(page), str(tmp_path / "shot.png"), "--width", "375", "--height", "200"]) == 1
    told = capsys.readouterr().out
    assert "asks for http://127.0.0.1:9/x.png" in told
    assert "broken thing" in told
    assert "needs 9" in told


def test_without_a_browser_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TaskError, match="install one of chromium") as caught:
        find_browser()
    assert caught.value.code == Code.CONFIG
