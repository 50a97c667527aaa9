from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import TINY_TRAINING
from tests.documents import ROOT, blocks, made_by, program_of, read_commands
from tests.reporting.page_reader import read_page_file
from tools import demo
from tools.draw_dataset import draw_dataset
from utils.errors import TaskError
from utils.official_weights import COCO_START, RELEASE


def short_demo(page: str) -> tuple[str, list[str]]:
    """Return the last command of a page's first block, and what make calls the demo with."""
    command = read_commands(blocks(ROOT / page)[0].text, page)[-1]
    (called,) = [one for one in made_by(command.words) if "tools.demo" in one.words]
    return str(command), program_of(called.words)[1]


@pytest.mark.slow
def test_the_demo_runs_both_tasks_and_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The short command of the README, on small images."""
    assert short_demo("README.md") == short_demo("README_zh-CN.md")
    arguments = short_demo("README.md")[1]
    monkeypatch.chdir(tmp_path)
    draw_dataset(Path("path/to/voc"), images=24, size_wh=(160, 120), seed=2)
    earlier = tmp_path / "runs" / "short" / "training" / "in" / "earlier.txt"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    settings = [f"--set={key}={value}" for key, value in {**TINY_TRAINING, "epochs": 1}.items()]
    assert demo.main([*arguments, "--limit=4", *settings]) == 0
    assert not earlier.exists()
    out = tmp_path / "runs" / "short"
    printed = capfd.readouterr().out
    assert "mAP50, validation split" in printed
    assert printed.count("valid") >= 2
    page = read_page_file(out / "index.html")
    assert len(page.images) >= 6 + 3 * 4  # curves, and four pictures of a gallery
    linked = [address for address in page.addresses if address.endswith("report.html")]
    assert [Path(address).parts[0] for address in linked] == ["training", "mining-and-inference"]
    assert "Label these first; white: the box that decided" in page.text
    assert "false positives (FP), dashed" in page.text  # the key of the colours
    assert "found (TP) / missed (FN) / false positives (FP) at confidence 0.25" in page.text
    assert f"starts from COCO weights: {COCO_START}" in page.text
    assert len((out / "training" / "in" / "train-index.tsv").read_text().splitlines()) == 4


def test_an_earlier_demo_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    for name in ("drawn/a.jpg", "training/in/env.yaml", "index.html"):
        (tmp_path / "demo" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "demo" / name).touch()
    demo.make_room(tmp_path / "demo")
    assert list((tmp_path / "demo").iterdir()) == []
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(TaskError, match="holds other things than a demo: name a new folder"):
        demo.make_room(tmp_path)
    assert (tmp_path / "thesis.txt").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--data", "gone"], "There is no data set at gone", id="no data"),
        pytest.param(["--data", "."], ". is no data set that can be read", id="no labels"),
        pytest.param(
            ["--weights", "yolov5n.pt"],
            "The weight file yolov5n.pt does not exist, and nothing is downloaded unasked: name a "
            f"file that exists, or fetch {RELEASE}yolov5n.pt yourself.",
            id="no weights",
        ),
    ],
)
def test_a_mistake_is_a_sentence_and_replaces_nothing(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "index.html").touch()
    with pytest.raises(TaskError) as caught:
        demo.main([*arguments, "--out", "demo"])
    assert caught.value.sentence.startswith(words)
    assert (tmp_path / "demo" / "index.html").is_file()


def test_a_setting_has_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demo.main(["--set", "epochs"])
    assert "--set wants KEY=VALUE" in capsys.readouterr().err
