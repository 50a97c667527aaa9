"""The examples of docs/python.md run as they stand, one after the other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from models.checkpoint import build_detector, checkpoint_of, load_checkpoint, save_checkpoint

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = (
    re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), flags=re.DOTALL)
    for page in ("docs/python.md", "docs/zh/python.md")
)


def test_the_chinese_page_has_examples_of_the_english_one() -> None:
    assert CHINESE
    assert set(CHINESE) <= set(ENGLISH)


def test_the_examples_run(
    untrained: Path,
    pictures: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(pictures[0]).parents[1]
    monkeypatch.chdir(folder)
    for source, name in zip(pictures, ("a", "b", "c"), strict=True):
        cv2.imwrite(f"photographs/{name}.jpg", cv2.imread(source))
        Path(source).unlink()
    checkpoint = load_checkpoint(untrained)
    network = build_detector(checkpoint)
    with torch.no_grad():
        for level in network.head.m:
            level.bias.view(3, -1)[:, 4:] += 6  # sure of objects and of their classes
    save_checkpoint(Path("best.pt"), checkpoint_of(network, checkpoint.class_names))
    Path("ymir-yolov5").symlink_to(ROOT)

    printed: list[list[str]] = []
    values: dict[str, Any] = {}
    for code in ENGLISH:
        exec(compile(code, "python.md", "exec"), values)
        printed.append(capsys.readouterr().out.splitlines())
    detections, arrays, tables, ranking, hub = printed
    assert re.match(r"image 1/3 photographs/a.jpg: 96x64, \d+ ", detections[0])
    assert len(detections) > 3 + 3
    assert detections[3].startswith(("photographs/a.jpg red cell ", "photographs/a.jpg white "))
    assert not arrays
    assert all(0.5 < row["confidence"] <= 1 for row in json.loads(tables[0]))
    assert sorted(path.name for path in Path("runs/detect/exp").iterdir()) == [
        *("a.jpg", "b.jpg", "image0.jpg")
    ]
    assert sorted(line.split()[0] for line in ranking) == [
        f"photographs/{name}.jpg" for name in "abc"
    ]
    scores = [float(line.split()[1]) for line in ranking]
    assert scores == sorted(scores, reverse=True)
    assert len(hub) == 2
    given = [values["array"], values["picture"], "photographs/a.jpg"]
    found = values["detector"](given, conf_thres=0.4).xyxy
    assert len(values["objects"]) == sum(map(len, found)) > 3
    assert set(values["table"]["name"]) <= {"red cell", "white"}
    assert len(values["table"]) > 3
