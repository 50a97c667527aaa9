"""The one command: its parts, its table and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import __main__ as command
from bench.parts import Measurement
from bench.summary import Line
from tools.draw_dataset import draw_dataset


def test_chosen_parts_make_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mining(measurement: Measurement) -> None:
        assert measurement.sizes is command.QUICK
        assert measurement.contest.pairs == 1
        measurement.add(Line("mined", "loop", "images/s", (4.0,), (2.0,)))

    def fail(measurement: Measurement) -> None:
        raise AssertionError("was not chosen")

    parts = {**dict.fromkeys(command.PARTS, fail), "mining": mining}
    monkeypatch.setattr(command, "PARTS", parts)
    monkeypatch.setattr(command, "ceiling", lambda measurement: "the ceiling")
    draw_dataset(tmp_path / "data", images=2, size_wh=(64, 48), seed=0)
    target = tmp_path / "new" / "table.md"
    words = ["--data", tmp_path / "data", "--only", "mining,ceiling", "--markdown", target]
    command.main([*map(str, words), "--quick", "--out", str(tmp_path / "out")])
    text = target.read_text("utf-8")
    assert "| mined | images/s | 4 | loop | 2 | 2.00 / **2.00** / 2.00 |  |" in text
    assert "the ceiling" in text
    assert "1 pairs." in text
    assert text in capsys.readouterr().out


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "speed"])
    assert "choose from training," in capsys.readouterr().err
