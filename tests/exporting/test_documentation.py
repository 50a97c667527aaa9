"""The example of docs/export.md runs as it stands, and finds what the network finds."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from exporting.export import export
from exporting.options import NOT_WRITTEN
from ops.nms import NmsConfig, non_max_suppression
from settings.train import EXPORT_FORMATS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text("utf-8")


def test_the_page_names_every_format():
    assert set(re.findall(r"^\| `(\w[\w-]*)` \|", PAGE, flags=re.MULTILINE)) == set(EXPORT_FORMATS)
    assert all(f"`{name}`" in PAGE for name in NOT_WRITTEN)


@pytest.mark.slow
def test_the_example_runs(detector, plain, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    options = dataclasses.replace(plain, size=(96, 128), dynamic=False)
    export(detector, "onnx", path=tmp_path / "best.onnx", options=options)
    picture = np.random.default_rng(0).integers(0, 256, (96, 100, 3), dtype=np.uint8)
    # Twice as large, so that it is halved on the way in without any loss.
    cv2.imwrite(str(tmp_path / "picture.png"), picture.repeat(2, axis=0).repeat(2, axis=1))
    monkeypatch.chdir(tmp_path)
    values: dict[str, object] = {}
    # The page says .jpg, which would not keep the pixels that the network is asked about below.
    exec(compile(code.replace("picture.jpg", "picture.png"), "export.md", "exec"), values)
    printed = capsys.readouterr().out.splitlines()
    images = torch.from_numpy(np.ascontiguousarray(values["images"]))
    assert images.shape == (1, 3, 96, 128)
    assert torch.equal(
        (images[0, :, :, :100] * 255).round().byte(),
        torch.from_numpy(np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1))),
    )
    rows = torch.from_numpy(values["rows"])[None]
    torch.testing.assert_close(rows, detector.fused().predict(images), atol=0.05, rtol=1e-3)
    corners = rows[0, :, :2] - rows[0, :, 2:4] / 2
    np.testing.assert_allclose(values["boxes"][:, :2], 2 * corners, rtol=1e-5, atol=1e-3)
    # Of the same rows, for rounding decides between scores that are all but equal.
    (kept,) = non_max_suppression(rows, NmsConfig(max_detections=10000))
    assert len(printed) == len(kept.rows) > 3
    assert ast.literal_eval(printed[0].split()[0]) in {int(label) for label in kept.rows[:, 5]}
    scores = sorted((float(line.split()[1]) for line in printed), reverse=True)
    np.testing.assert_allclose(scores, kept.rows[:, 4].numpy(), atol=1e-3)
