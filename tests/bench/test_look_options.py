"""Options that benchmarks of inference and mining share, and what they refuse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.look_options import look_options, look_parser
from bench.pairs import BUSY

NEEDED = ["--weights", "a.pt"]


def test_the_rounds_are_called_as_asked_for() -> None:
    parser = look_parser(None, name="x", images=7, turns="--pairs")
    options = look_options(parser, [*NEEDED, "--pairs", "5"], turns="--pairs")
    assert (options.pairs, options.images, options.threads) == (5, 7, 2)
    assert options.out == Path("build/bench/x")


@pytest.mark.parametrize("option", ["--rounds", "--threads", "--images"])
def test_nothing_to_measure_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = look_parser(None, name="x", images=7, turns="--rounds")
    with pytest.raises(SystemExit):
        look_options(parser, [*NEEDED, option, "0"], turns="--rounds")
    assert "--rounds, --threads and --images must be at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(("load", "said"), [(BUSY + 0.1, True), (BUSY, False)])
def test_a_busy_machine_is_told(
    load: float, said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    look_options(look_parser(None, name="x", images=1, turns="--rounds"), NEEDED, turns="--rounds")
    assert ("other programs are busy here" in capsys.readouterr().err) == said
