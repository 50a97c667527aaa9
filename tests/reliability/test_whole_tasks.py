"""Whole tasks through `start.py` whose data is bad in several ways at once."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image

import start
from tests.conftest import TINY_TRAINING
from tests.task_results import record
from tools.check_out import check_out
from tools.make_task import write_task
from tools.sources import SourceDataset
from utils.errors import Code

LOOKING = {"img_size": "96", "batch_size": "4", "conf_thres": "0.01", "plots": "true"}
SHORT = {**TINY_TRAINING, "epochs": "1", "onnx": "false", "workers": "0"}


def picture(size: tuple[int, int], form: str = "PNG", mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, form)
    return stream.getvalue()


ODD = {
    b"one pixel.png": picture((1, 1)),
    b"long.png": picture((30_000, 20), mode="1"),
    b"cmyk.jpg": picture((50, 40), "JPEG", "CMYK"),
    b"no extension": picture((50, 40)),
    b"zero.jpg": b"",
    b"cut.jpg": picture((90, 90), "JPEG")[:-40],
    b"caf\xe9.png": picture((50, 40)),
    "图片 1.png".encode(): picture((50, 40)),
    b"twins/one pixel.png": picture((9, 9)),
}


def place(task: Path) -> list[bytes]:
    """Put the odd images below in/assets; their paths."""
    paths = []
    for name, content in ODD.items():
        path = os.fsencode(task / "in" / "assets") + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(content)
        paths.append(path)
    return paths


def test_odd_candidates_all_have_their_line(
    drawn: SourceDataset, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tmp_path / "task"
    kinds = ("mining", "infer")
    env_file = write_task(drawn, task, kinds=kinds, settings=LOOKING, weights=[weights], copy=True)
    paths = place(task)
    with open(task / "in" / "candidate-index.tsv", "ab") as index:
        index.writelines(path + b"\r\n\r\n" for path in paths)
    assert start.main(["--env", str(env_file)]) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    rows = [row.split(b"\t")[0] for row in (task / "out" / "result.tsv").read_bytes().splitlines()]
    assert set(paths) <= set(rows)
    assert len(rows) == len(set(rows))
    assert {os.path.basename(path) for path in rows[-2:]} == {b"zero.jpg", b"cut.jpg"}
    found = json.loads((task / "out" / "infer-result.json").read_text("utf-8"))["detection"]
    assert {os.fsdecode(os.path.basename(path)) for path in paths} <= set(found)
    assert found["cut.jpg"]["boxes"] == []
    for words in ("zero.jpg: not a readable", "cut.jpg: cannot be decoded", "of this name is list"):
        assert words in said
    assert record(task)[2:5] == ["1.000000", "2", "0"]


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_odd_training_images_among_good_ones(
    drawn: SourceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], cache: str
) -> None:
    task = tmp_path / "task"
    env_file = write_task(drawn, task, settings={**SHORT, "cache": cache}, copy=True)
    for split in ("train", "val"):
        with open(task / "in" / f"{split}-index.tsv", "ab") as index:
            index.writelines(path + b"\t\n" for path in place(task))
    assert start.main(["--env", str(env_file)]) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert "zero.jpg: not a readable image file" in said
    assert "cut.jpg: cannot be decoded" in said
    assert check_out(task) == []


@pytest.mark.parametrize("cache", ["ram", "none"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_images_that_are_all_cut_off_end_the_training(
    drawn: SourceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str, cache: str
) -> None:
    """Their headers are whole, so that only decoding shows it."""
    task = tmp_path / "task"
    env_file = write_task(drawn, task, settings={**SHORT, "cache": cache}, copy=True)
    for row in (task / "in" / f"{split}-index.tsv").read_text("utf-8").splitlines():
        path = task / "in" / row.split("\t")[0]
        path.write_bytes(path.read_bytes()[:-300])
    assert start.main(["--env", str(env_file)]) == 1
    said = capsys.readouterr().out.strip().splitlines()[-1]
    assert said.startswith(f"FAILED ({int(Code.IMAGE_FORMAT)}): no image of")
    assert record(task)[3:5] == ["4", str(int(Code.IMAGE_FORMAT))]
    assert not (task / "out" / "models" / "result.yaml").exists()


def test_a_refusal_of_a_name_that_is_not_utf_8(
    drawn: SourceDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = tmp_path / "task"
    env_file = write_task(drawn, task, settings=SHORT)
    (task / "in" / "train-index.tsv").write_bytes(b"caf\xe9.png\t\n")
    assert start.main(["--env", str(env_file)]) == 1
    said = capsys.readouterr().out.strip().splitlines()[-1]
    assert said.startswith(f"FAILED ({int(Code.DATASET)}): ")
    assert "caf\\udce9.png: file not found" in said
    assert check_out(task, failed=True) == []
