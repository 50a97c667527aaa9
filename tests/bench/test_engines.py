"""The comparison of engines: its table by hand, and one whole run on a few small images."""

from __future__ import annotations

import sys

import pytest

from bench import engines
from bench.engines import Contestant, table


def test_ratios_are_those_of_each_round():
    """10 images; the second takes half as long in round 1 and twice as long in round 2."""
    ready = [
        Contestant("torch, float32", None, 0.0, [4.0, 5.0, 4.0], objects=7),
        Contestant("other, bfloat16", None, 1.25, [2.0, 10.0, 4.0], objects=6),
    ]
    lines = table(ready, 10).splitlines()
    assert lines[2] == "| torch, float32 | 2.50 | 1.00 / **1.00** / 1.00 | 7 | 0.0 |"
    assert lines[3] == "| other, bfloat16 | 2.50 | 0.50 / **1.00** / 2.00 | 6 | 1.2 |"


@pytest.mark.slow
def test_a_whole_run(weights, drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(engines, "find_data", lambda _: drawn)
    words = ["--weights", str(weights), "--model", "yolov5n", "--img-size", "96", "--images", "4"]
    words += ["--batch-size", "2", "--rounds", "2", "--threads", "1"]
    words += ["--out", str(tmp_path / "out"), "--markdown", str(tmp_path / "table.md")]
    engines.main(words)
    text = (tmp_path / "table.md").read_text()
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert rows[1:] == ["torch, float32", "torch, bfloat16", "onnxruntime, float32"]
    assert capsys.readouterr().err.count("needs the package openvino") == 2
