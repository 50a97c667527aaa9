"""Reports open from disk in a browser: no request, no complaint, no wider than the screen."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import pytest

import start
from tests.conftest import TINY_TRAINING
from tools.make_task import write_task
from tools.screenshot import BROWSERS, find_browser, main, screenshot
from tools.sources import SourceDataset
from utils.errors import Code, TaskError

needs_browser = pytest.mark.skipif(
    not any(shutil.which(name) for name in BROWSERS), reason="no Chromium is installed"
)
BAD = """\
<!doctype html><title>bad</title><img src="http://127.0.0.1:9/x.png">
<div style="width: 900px">wide</div><script>console.error("broken thing")</script>
"""


@pytest.fixture(scope="module")
def reports(
    trained: Path, weights: Path, drawn: SourceDataset, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The report of a training, and that of a task of mining and inference."""
    task = tmp_path_factory.mktemp("report") / "task"
    settings = {"img_size": TINY_TRAINING["img_size"], "conf_thres": "0.001", "max_det": "20"}
    kinds = ("mining", "infer")
    env_file = write_task(drawn, task, kinds=kinds, settings=settings, weights=[weights])
    assert start.main(["--env", str(env_file)]) == 0
    attachments = trained / "out" / "models" / "attachments"
    return {
        "training": attachments / "report" / "report.html",
        "mining": task / "out" / "tensorboard" / "report.html",
    }


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [375, 1400])
@pytest.mark.parametrize("name", ["training", "mining"])
def test_a_report_needs_no_network_and_fits_the_screen(
    reports: dict[str, Path], name: str, width: int, tmp_path: Path
) -> None:
    picture = tmp_path / "shot.png"
    check = screenshot(reports[name], picture, width=width, height=800)
    assert (check.requests, check.messages) == ((), ())
    assert check.width <= width
    assert cv2.imread(str(picture)).shape == (min(check.height, 800), width, 3)


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
