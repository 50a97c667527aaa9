"""A weight file that is not there: what can be done is said before anything else is read."""

from __future__ import annotations

import hashlib
import importlib
import re
from pathlib import Path

import pytest

import train
from cli.train import parse_train_command
from tests.conftest import ROOT
from utils.errors import Code, TaskError
from utils.official_weights import COCO_START, KNOWN_SHA256, OFFICIAL, missing_weights

RELEASE = "https://github.com/ultralytics/yolov5/releases/download/v7.0/"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        ("train", "--weights yolov5s.pt --data gone.yaml"),
        ("evolve", "--weights yolov5s.pt --data gone.yaml"),
        ("val", "--weights yolov5s.pt --data gone.yaml"),
        ("detect", "--weights yolov5s.pt --source images"),
        ("mine", "--weights yolov5s.pt --source images"),
    ],
)
def test_every_command_names_the_ways(program: str, flags: str, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    main = importlib.import_module(program).main
    with pytest.raises(TaskError) as caught:
        main(flags.split())
    assert caught.value.code is Code.MODEL
    sentence = caught.value.sentence
    assert sentence.startswith("The weight file yolov5s.pt does not exist, and nothing is download")
    assert f"fetch {RELEASE}yolov5s.pt yourself" in sentence
    trains = program in ("train", "evolve")
    assert ("or train from scratch with --weights '' --cfg yolov5s." in sentence) is trains
    assert ("download_weights=true and weights_sha256=" in sentence) is trains


def test_only_names_of_the_release_have_an_address() -> None:
    sentence = missing_weights(Path("mine/best.pt"), training=True).sentence
    assert sentence.endswith("name a file that exists, or train from scratch with --weights ''.")
    assert "weights_sha256" not in missing_weights(Path("yolov5n.pt"), training=True).sentence
    Path("mine").mkdir()
    assert "The weight file mine is a folder, and" in missing_weights(Path("mine")).sentence


@pytest.mark.parametrize(
    ("words", "digest"),
    [
        pytest.param("--weights w/yolov5n.pt", KNOWN_SHA256["yolov5n.pt"], id="a known sum"),
        pytest.param(f"--weights w/yolov5n.pt weights_sha256={'a' * 64}", "a" * 64, id="given"),
        pytest.param(f"--weights w/yolov5s.pt weights_sha256={'B' * 64}", "b" * 64, id="another"),
    ],
)
def test_train_fetches_on_demand(
    words: str, digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(name: str, sha256: str, folders: list[Path]) -> None:
        asked.append((name, sha256))
        folders[0].mkdir()
        (folders[0] / name).write_bytes(b"weights")

    monkeypatch.setattr(train, "download_weights", fetch)
    command = parse_train_command(f"--data a.yaml {words} download_weights=true".split())
    train.check_weights(command)
    train.check_weights(command)  # it is there now
    assert asked == [(command.weights.name, digest)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("--weights yolov5s.pt", "weights_sha256", id="a sum that nobody knows"),
        pytest.param("--weights other.pt", "other.pt does not exist", id="no file of the release"),
    ],
)
def test_what_cannot_be_fetched(words: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "download_weights", None)
    command = parse_train_command(f"--data a.yaml {words} download_weights=true".split())
    with pytest.raises(TaskError, match=expected):
        train.check_weights(command)


@pytest.mark.parametrize("weights", ["", "scratch"])
def test_nothing_is_missing_from_scratch(weights: str, caplog: pytest.LogCaptureFixture) -> None:
    arguments = ["--data", "a.yaml", "--weights", weights, "download_weights=true"]
    train.check_weights(parse_train_command(arguments))
    assert "download_weights has no effect" in caplog.text


def test_figures_of_a_coco_start_are_those_of_the_page() -> None:
    page = (ROOT / "docs" / "accuracy.md").read_text("utf-8")
    scratch, coco = page.split("From scratch, 100 epochs")[1].split(
        "From the official COCO weights"
    )[:2]
    assert ", 320 px, 12 epochs" in coco.splitlines()[0]
    (before,) = re.findall(r"^\| raccoon \| 320 \| ours, `small` \| \d+ \| ([.\d]+)", scratch, re.M)
    (after,) = re.findall(r"^\| raccoon \| `small` \| \d+ \| ([.\d]+) ", coco, re.M)
    told = [f"{float(value):.2f}"[1:] for value in (after, before)]
    assert re.findall(r" (\.\d+)", COCO_START) == told
    assert "after 12 epochs from COCO" in COCO_START
    assert "after 100 from scratch" in COCO_START


def test_the_known_sum_is_that_of_the_release(shared: Path) -> None:
    """Where a copy of the release's yolov5n.pt is at hand."""
    copy = shared / "reference" / "yolov5n_coco.pt"
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == KNOWN_SHA256["yolov5n.pt"]
    assert set(KNOWN_SHA256) <= OFFICIAL
